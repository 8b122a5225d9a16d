"""The command as a whole: help, version, logging, what it imports, and what faults of chelys itself look like."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import chelys
from chelys.cli import main
from chelys.cli.train import STAGES
from chelys.inference.options import NANO_PRESETS
from chelys.registry import MORE_PRESETS
from chelys.tortoise.speaking import PUBLISHED_PRESETS
from chelys.training.tasks import RUNS

VERBS = [
    [],
    ["speak"],
    ["voices"],
    ["voices", "list"],
    ["voices", "add"],
    ["voices", "random"],
    ["detect"],
    ["convert"],
    ["voices", "info"],
    ["voices", "mix"],
    ["voices", "remove"],
    ["voices", "rename"],
    ["voices", "export"],
    ["voices", "preview"],
    ["doctor"],
    ["data"],
    ["data", "make"],
    ["data", "make", "synthetic"],
    ["data", "lexicon"],
    ["data", "features"],
    ["data", "prepare"],
    ["data", "recipe"],
    ["data", "check"],
    ["data", "report"],
    ["train"],
    ["train", "plan"],
]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help_with_an_example(invoke: Callable[..., Any], verb: list[str]) -> None:
    result = invoke(*verb, "--help")
    assert result.exit_code == 0 and "Example: chelys " in result.stdout and result.stderr == ""


def test_no_verb_is_help(invoke: Callable[..., Any]) -> None:
    assert invoke().exit_code == 0 and invoke().stdout == invoke("--help").stdout
    for group in ("voices", "data"):
        result = invoke(group)
        assert result.exit_code == 2 and "Example: chelys" in result.output and "error" not in result.output


def test_a_wrong_verb_is_answered_with_the_near_one(refused: Callable[..., str]) -> None:
    assert "Did you mean 'speak'" in refused("spaek")


def test_version(process: Callable[..., Any]) -> None:
    run = process("--version", fake=False)
    output, errors = run.communicate()
    assert run.returncode == 0 and output.startswith(b"chelys") and output.count(b"\n") == 1 and errors == b""


def test_an_old_option_works_and_is_named_in_one_line(process: Callable[..., Any]) -> None:
    run = process("data", "check", "gone.jsonl", "--longest", "3", fake=False)
    _, errors = run.communicate()
    warning, error = errors.decode().splitlines()
    assert warning.startswith("chelys: warning: --longest is deprecated") and warning.endswith("use --max-seconds")
    assert run.returncode == 2 and error == "chelys: error: no manifest at gone.jsonl"


@pytest.mark.parametrize("arguments", [["--help"], ["speak", "--help"], ["voices", "add", "--help"], ["speak", ""]])
def test_neither_help_nor_an_empty_text_imports_torch(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    folders = os.pathsep.join([str(tmp_path), str(Path(chelys.__file__).parents[1])])
    command = [sys.executable, "-m", "chelys", *arguments]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": folders})
    assert b"torch was imported" not in done.stderr and done.returncode == (2 if arguments == ["speak", ""] else 0)


@pytest.mark.parametrize(
    ("words", "verbs"),
    [(["-vv", "voices", "list"], ["voices"]), (["speak", "-o", "read"], ["speak"]), ([], None), (["voice"], None)],
)
def test_only_the_verb_that_is_named_is_made(words: list[str], verbs: list[str] | None) -> None:
    made = main._app_for(words)
    found = [*(one.name for one in made.registered_commands), *(one.name for one in made.registered_groups)]
    assert sorted(str(name) for name in found) == sorted(verbs or main.VERBS)


def test_the_help_of_training_names_every_stage() -> None:
    assert list(STAGES) == list(RUNS)


def test_verbose_logs_what_chelys_does(invoke: Callable[..., Any], synthesizer: Any) -> None:
    speak, say = synthesizer.speak, ["speak", "Hello.", "--force"]

    def talking(*arguments: Any, **settings: Any) -> Any:
        logging.getLogger("chelys.test").info("looking around")
        logging.getLogger("chelys.test").debug("very closely")
        return speak(*arguments, **settings)

    synthesizer.speak = talking
    logger = logging.getLogger("chelys")
    try:
        assert "looking around" not in invoke(*say).stderr
        once = invoke("-v", *say).stderr
        assert "chelys.test: looking around" in once and "very closely" not in once
        assert "very closely" in invoke("-vv", *say).stderr
    finally:
        logger.handlers = []
        logger.setLevel(logging.NOTSET)


def test_a_fault_of_chelys_itself_is_not_hidden(invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("chelys.load", broken)
    result = invoke("speak", "Hello.")
    assert result.exit_code == 1 and isinstance(result.exception, RuntimeError)


def test_the_presets_named_in_the_help_are_the_presets() -> None:
    assert set(NANO_PRESETS) == {"ultra_fast", "fast", "standard", "high_quality", "streaming"}
    assert set(PUBLISHED_PRESETS) == set(NANO_PRESETS) | set(MORE_PRESETS) == set(NANO_PRESETS) | {"paper"}
