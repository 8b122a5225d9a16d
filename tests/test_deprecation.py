"""Old names work for one release and warn with the new name."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from chelys import old_names
from chelys.cli.console import rename_options
from chelys.config import from_mapping
from chelys.configs import read_config_file
from chelys.deprecation import ChelysDeprecationWarning, renamed_arguments, renamed_names


@dataclass(frozen=True)
class Inner:
    RENAMED: ClassVar[dict[str, str | None]] = {"average": "ema_decay", "gone": None}
    ema_decay: float = 0.5


@dataclass(frozen=True)
class Outer:
    RENAMED: ClassVar[dict[str, str | None]] = {"ring": "loop"}
    loop: Inner = field(default_factory=Inner)
    more: list[Inner] = field(default_factory=list)
    maybe: Inner | None = None
    named: dict[str, Inner] = field(default_factory=dict)


def test_a_module_hands_out_old_names_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(old_names.RENAMED_NAMES, "chelys.old", {"Old": "chelys.errors.UserError"})
    get = renamed_names("chelys.old")
    with pytest.warns(
        ChelysDeprecationWarning, match=r"^chelys\.old\.Old is deprecated.*: use chelys\.errors\.UserError$"
    ):
        assert get("Old") is importlib.import_module("chelys.errors").UserError
    with pytest.raises(AttributeError, match="module 'chelys.old' has no attribute 'Other'"):
        get("Other")


def test_old_modules_import_as_the_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(old_names.MOVED_MODULES, "chelys.faults", "chelys.errors")
    with pytest.warns(ChelysDeprecationWarning, match=r"chelys\.faults is deprecated.*chelys\.errors"):
        old = importlib.import_module("chelys.faults")
    new = importlib.import_module("chelys.errors")
    assert old is new and new.__spec__ is not None and new.__spec__.name == "chelys.errors"
    del sys.modules["chelys.faults"]


def test_old_arguments_of_functions_and_dataclasses() -> None:
    @renamed_arguments(takes="candidates")
    def speak(text: str, candidates: int = 1) -> int:
        return candidates

    @renamed_arguments(takes="candidates")
    @dataclass(frozen=True)
    class Options:
        candidates: int = 1

    assert speak("a", candidates=2) == 2 and Options(3).candidates == 3
    with pytest.warns(ChelysDeprecationWarning, match="takes=...*: use candidates"):
        assert speak("a", takes=4) == 4  # type: ignore[call-arg]
    with pytest.warns(ChelysDeprecationWarning):
        assert Options(takes=5) == Options(5)  # type: ignore[call-arg]
    with pytest.warns(ChelysDeprecationWarning), pytest.raises(TypeError, match="both 'takes' and 'candidates'"):
        speak("a", takes=1, candidates=1)  # type: ignore[call-arg]


def test_old_keys_of_nested_configurations() -> None:
    values = {
        "ring": {"average": 0.1},
        "more": [{"average": 0.2}],
        "maybe": {"average": 0.3, "gone": 1},
        "named": {"a": {"average": 0.4}},
    }
    with pytest.warns(ChelysDeprecationWarning) as warned:
        outer = from_mapping(Outer, values, where="run.yaml")
    assert outer == Outer(Inner(0.1), [Inner(0.2)], Inner(0.3), {"a": Inner(0.4)})
    messages = {str(warning.message) for warning in warned}
    assert "run.yaml: ring is deprecated and goes with the next release: use loop" in messages
    assert "run.yaml: loop: average is deprecated and goes with the next release: use ema_decay" in messages
    assert "run.yaml: maybe: gone is deprecated and goes with the next release: it has no effect" in messages
    assert values["ring"] == {"average": 0.1}


def test_an_override_by_either_name_replaces_what_a_file_has_under_the_other(tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text("loop: {ema_decay: 0.1}")
    (tmp_path / "old.yaml").write_text("loop: {average: 0.1}")
    for name, override in (("new", "average"), ("old", "ema_decay"), ("old", "average")):
        values = read_config_file(tmp_path / f"{name}.yaml", [f"loop.{override}=0.2"])
        with pytest.warns(ChelysDeprecationWarning, match="average"):
            assert from_mapping(Outer, values) == Outer(Inner(0.2))


def test_old_options_of_a_command_line() -> None:
    with pytest.warns(ChelysDeprecationWarning, match="^--takes is deprecated.*: use --candidates$"):
        assert rename_options(["--takes", "3", "--", "--takes"], {"--takes": "--candidates"}) == [
            "--candidates", "3", "--", "--takes",
        ]  # fmt: skip
    with pytest.warns(ChelysDeprecationWarning):
        assert rename_options(["x", "--takes=3", "--quiet"], {"--takes": "--candidates", "--quiet": None}) == [
            "x", "--candidates=3",
        ]  # fmt: skip
