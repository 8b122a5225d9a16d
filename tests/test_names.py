"""The names that ``docs/names.md`` lists as replaced are gone from source, README, docs and configurations.

``python tests/test_names.py [ROOM or FILE ...]`` shows where they stand.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "chelys"
TABLE = ROOT / "docs" / "names.md"

#: Files that speak of old names.
ALLOWED = {"src/chelys/deprecation.py", "src/chelys/old_names.py", "docs/names.md", "CHANGELOG.md"}

#: ``name: place`` where a word is meant: part of sentences to be spoken, a file's method, a page of the web.
MEANT = {
    "nobody: chelys/training",
    "nobody: chelys/text",
    "tell: chelys/server",
    "tell: chelys/audio",  # of a file
    "page: chelys/server",
    "nobody: chelys/server",
    "nobody: chelys/audiobook",
    "takes: chelys/audiobook",  # of sentences, by a reader
    "takes: chelys/cli",
}

#: Tables of old names, which may stand in any module.
OF_OLD_NAMES = re.compile(r"renamed|old_names|deprecated|moved", re.IGNORECASE)


class Banned(NamedTuple):
    """A replaced name, how it is looked for, and in which rooms (none: everywhere)."""

    name: str
    kind: str
    rooms: tuple[str, ...]


class Found(NamedTuple):
    """A replaced name, and where it stands."""

    name: str
    path: str
    line: int

    @property
    def place(self) -> str:
        """Room of the package, or file."""
        parts = Path(self.path).parts
        return "/".join(parts[1:3]).removesuffix(".py") if parts[0] == "src" else self.path


def table(text: str) -> list[Banned]:
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and (match := re.fullmatch(r"(word|part|name|module|loop)(?: \[(.+)\])?", cells[2])):
            rooms = tuple(room.strip() for room in (match[2] or "").split(",") if room.strip())
            found += [Banned(name.strip(), match[1], rooms) for name in cells[0].split(",")]
    return found


BANNED = table(TABLE.read_text(encoding="utf8"))


# ---- what a file holds ----------------------------------------------------------------------------------------------


def parts_of(identifier: str) -> str:
    """``_HeardVoices2`` -> ``heard voices2``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", identifier)
    return " ".join(part for part in spaced.lower().split("_") if part)


def speaks_of_old_names(node: ast.AST) -> bool:
    """Whether a statement or a call is about renaming: ``RENAMED = {...}``, ``renamed_names(...)``."""
    if isinstance(node, ast.Call):
        target: ast.AST = node.func
    elif isinstance(node, ast.Assign):
        target = node.targets[0]
    elif isinstance(node, ast.AnnAssign):
        target = node.target
    else:
        return False
    name = target.id if isinstance(target, ast.Name) else target.attr if isinstance(target, ast.Attribute) else ""
    return bool(OF_OLD_NAMES.search(name))


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Every node, but for those about renaming."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not speaks_of_old_names(child):
            yield from walk(child)


def defined(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """What a module defines: functions, classes, arguments, fields, attributes, dictionary keys."""
    for node in walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.lineno
        elif isinstance(node, ast.Dict):
            for key in node.keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value.removeprefix("--").replace("-", "_"), key.lineno


def identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every identifier, defined or used."""
    yield from defined(tree)
    for node in walk(tree):
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.alias):
            yield from ((part, 1) for part in node.name.split("."))


def old_name_lines(tree: ast.AST) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if speaks_of_old_names(node):
            assert isinstance(node, ast.stmt | ast.expr) and node.end_lineno
            lines |= set(range(node.lineno, node.end_lineno + 1))
    return lines


def loop_keys(path: Path, text: str) -> Iterator[tuple[str, int]]:
    """Keys of a run's loop: in YAML, as ``loop.KEY`` in prose, as fields of the class that has ``learning_rate``."""
    for number, line in enumerate(text.splitlines(), 1):
        yield from ((match[1], number) for match in re.finditer(r"\bloop\.(\w+)", line))
    if path.suffix in (".yaml", ".yml"):
        values = yaml.safe_load(text)
        loop = values.get("loop") if isinstance(values, dict) else None
        yield from ((key, 1) for key in (loop or {}))
    elif path.suffix == ".md":
        for block in re.finditer(r"\bloop: *\{([^}]*)\}", text):
            yield from ((key, text[: block.start()].count("\n") + 1) for key in re.findall(r"(\w+):", block[1]))
    elif path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                fields = {n.target.id: n.lineno for n in node.body
                          if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}  # fmt: skip
                if "learning_rate" in fields:
                    yield from fields.items()


def offences(path: Path, name: str) -> Iterator[Found]:
    """Replaced names in a file, which goes by a name relative to the project."""
    text, parts = path.read_text(encoding="utf8"), Path(name).parts
    room = parts[2].removesuffix(".py") if parts[:2] == ("src", "chelys") else None
    here = [banned for banned in BANNED if not banned.rooms or room in banned.rooms]
    tree = ast.parse(text) if path.suffix == ".py" else None
    skipped = old_name_lines(tree) if tree else set()
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if number not in skipped]
    names = {"name": list(defined(tree)), "part": list(identifiers(tree))} if tree else {}
    keys = [key for key in loop_keys(path, text) if key[1] not in skipped]
    for old, kind, _ in here:
        if kind == "word":
            pattern = re.compile(rf"(?<![A-Za-z]){old.replace('_', '[_ -]')}(?![a-z])", re.IGNORECASE)
            yield from (Found(old, name, number) for number, line in lines if pattern.search(line))
        elif kind == "module":
            yield from (Found(old, name, 0) for part in parts if part.removesuffix(".py") == old)
        elif kind == "loop":
            yield from (Found(old, name, line) for key, line in keys if key == old)
        elif tree is not None:
            wanted = parts_of(old)
            for identifier, line in names[kind]:
                part = kind == "part" and f" {wanted} " in f" {parts_of(identifier)} "
                if part or (kind == "name" and identifier.lstrip("_") == old):
                    yield Found(old, name, line)
            if kind == "part":
                stems = [parts_of(part.removesuffix(".py")) for part in parts]
                yield from (Found(old, name, 0) for stem in stems if f" {wanted} " in f" {stem} ")
        elif path.suffix == ".md":  # in prose, code alone
            quoted = re.compile(rf"(?<=`)(?:\w+\.|--)?{old}(?=[`= ])")
            yield from (Found(old, name, number) for number, line in lines if quoted.search(line))
        else:  # a configuration: its keys
            yield from (Found(old, name, number) for number, line in lines if re.search(rf"\b{old}:", line))


def files() -> list[Path]:
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for folder in (PACKAGE,):
        found += [path for ending in ("py", "yaml", "md", "html") for path in folder.rglob(f"*.{ending}")]
    return [path for path in sorted(found) if path.relative_to(ROOT).as_posix() not in ALLOWED]


def all_offences() -> list[Found]:
    return [one for path in files() for one in dict.fromkeys(offences(path, path.relative_to(ROOT).as_posix()))]


def test_replaced_names_are_gone() -> None:
    found = all_offences()
    shown = [f"{one.path}:{one.line}: {one.name}" for one in found if f"{one.name}: {one.place}" not in MEANT]
    assert not shown, "\n".join(shown)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("src/chelys/inference/a.py", "class BestTakes: ...", ["takes"]),
        ("src/chelys/inference/a.py", "def f(take): ...", ["take"]),
        ("src/chelys/inference/a.py", "take = 3", []),
        ("src/chelys/inference/a.py", "# all knobs\nmost_codes = 3", ["knobs", "most_codes"]),
        ("src/chelys/inference/a.py", "RENAMED = {'knobs': 'options'}\nrenamed_arguments(most_codes='x')", []),
        ("src/chelys/inference/a.py", "def f(clean): ...", ["clean"]),
        ("src/chelys/text/a.py", "def f(clean): ...", []),
        ("src/chelys/training/a.py", "losses = {'contrast': 1}", ["contrast"]),
        ("src/chelys/training/a.py", "class C:\n    learning_rate: float\n    average: float", ["average"]),
        ("src/chelys/data/page.py", "", ["page"]),
        ("src/chelys/data/ledger.py", "", ["ledger"]),
        ("docs/a.md", "Set `loop.clip=3` and `longest`; the longest text.", ["clip", "longest"]),
        ("docs/a.md", "A code book that nobody needs, `--borrowed 0`.", ["code_book", "nobody", "borrowed"]),
        ("docs/a.md", "The codebook is no code-book.", ["code_book"]),
        ("src/chelys/configs/a.yaml", "loop: {steps: 3, average: 0.9}\nborrowed: 0.5", ["average", "borrowed"]),
    ],
)
def test_a_planted_name_is_found(tmp_path: Path, name: str, text: str, expected: list[str]) -> None:
    path = tmp_path / Path(name).name
    path.write_text(text)
    assert sorted(one.name for one in offences(path, name)) == sorted(expected)


if __name__ == "__main__":
    wanted = [each.strip("/") for each in sys.argv[1:]]
    for one in sorted(all_offences(), key=lambda one: (one.path, one.line)):
        if not wanted or any(each in one.path for each in wanted):
            print(f"{one.path}:{one.line}: {one.name}")
