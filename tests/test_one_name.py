"""One name, one thing: no two classes and no two modules of the package go by the same name."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "chelys"

#: Any room may have these.
EVERYWHERE = {"__init__", "__main__", "config"}
#: Rooms whose modules are named after what they serve: commands, the training of a network, the published counterpart.
NAMED_AFTER = ("cli/", "training/tasks/", "tortoise/")


def classes(package: Path = PACKAGE) -> dict[str, list[str]]:
    """Public and private classes by name (without underscores), and where each is defined."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf8")).body:
            if isinstance(node, ast.ClassDef):
                found[node.name.lstrip("_")].append(f"{path.relative_to(package)}:{node.lineno}")
    return found


def modules(package: Path = PACKAGE) -> dict[str, list[str]]:
    """Modules by their own name."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        inner = path.relative_to(package).as_posix()
        if path.stem not in EVERYWHERE and not inner.startswith(NAMED_AFTER):
            found[path.stem].append(inner)
    return found


def doubled(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: places for name, places in found.items() if len(places) > 1}


def test_no_two_classes_share_a_name() -> None:
    assert doubled(classes()) == {}


def test_no_two_modules_share_a_name() -> None:
    assert doubled(modules()) == {}


def test_doubles_are_found(tmp_path: Path) -> None:
    for name in ("a/one.py", "b/one.py", "cli/one.py", "b/__init__.py", "b/two.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(
            "class Block: ..." if name == "a/one.py" else "class _Block: ...\nclass Other: ..."
        )
    assert doubled(modules(tmp_path)) == {"one": ["a/one.py", "b/one.py"]}
    assert set(doubled(classes(tmp_path))) == {"Block", "Other"}
