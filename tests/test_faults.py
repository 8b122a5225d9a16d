"""Faults of the original that no single part of chelys could have: each test is named after the one it guards."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

import chelys
from chelys.cli.main import app
from chelys.errors import UserError
from chelys.inference.options import SpeechOptions
from chelys.inference.synthesizer import Synthesizer

QUICK = SpeechOptions(candidates=2, steps=2, temperature=0.8)

#: What the original needs at run time and chelys does not.
HEAVY = ("transformers", "torchaudio", "librosa", "scipy", "deepspeed", "rotary_embedding_torch", "einops")


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_cvvp_of_a_model_that_has_none_is_refused_in_one_line_before_anything_is_sampled(
    tts: Synthesizer, weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    voice = replace(tts.resolve_voice("low"), clips=())
    assert tts.speak("Hello.", voice=voice, seed=1, options=QUICK).seconds > 0, "without CVVP the voice will do"
    monkeypatch.setattr("chelys.inference.synthesizer.generate", lambda *_, **__: pytest.fail("it was sampled"))
    with pytest.raises(UserError, match="has no cvvp network") as refusal:
        tts.speak("Hello.", voice=voice, seed=1, options=replace(QUICK, cvvp=weight))
    assert "\n" not in str(refusal.value)


def switches_of(command: Any, path: str = "chelys") -> Iterator[tuple[str, Any]]:
    """Every option that its function takes as a truth value."""
    kinds = get_type_hints(command.callback) if command.callback else {}
    yield from ((f"{path} {p.name}", p) for p in command.params if kinds.get(p.name) in (bool, bool | None))
    for name, inner in getattr(command, "commands", {}).items():
        yield from switches_of(inner, f"{path} {name}")


def test_b11_switches_of_the_command_line_take_no_value() -> None:
    switches = dict(switches_of(typer.main.get_command(app)))
    assert switches.keys() >= {"chelys speak stream", "chelys speak as_json", "chelys voices add force"}
    assert [name for name, option in switches.items() if not option.is_flag] == []


@pytest.mark.parametrize("value", ["false", "0", "no"])
def test_b11_a_value_behind_a_switch_is_not_taken_for_true(value: str) -> None:
    result = CliRunner().invoke(app, ["speak", "Hello.", f"--stream={value}"])
    assert result.exit_code == 2 and "--stream" in result.stderr


def test_b13_speaking_opens_no_socket(toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a socket was used")

    for use in ("bind", "listen", "connect"):
        monkeypatch.setattr(socket.socket, use, refuse)
    with socket.socket() as guarded, pytest.raises(AssertionError):
        guarded.listen()
    tts = chelys.load(str(toy_folder))
    assert list(tts.stream("Hello there.", seed=1, options=QUICK)) and tts.speak("Hello.", seed=1, options=QUICK)


def test_b15_speaking_needs_none_of_the_libraries_that_the_original_is_tied_to(toy_folder: Path) -> None:
    program = f"""
import sys
sys.modules.update(dict.fromkeys({HEAVY!r}))
import chelys
tts = chelys.load({str(toy_folder)!r})
options = chelys.SpeechOptions(candidates=1, steps=1)
assert tts.speak("Hello.", seed=1, options=options).seconds > 0
import chelys.tortoise.api
print("spoken")
"""
    environment = {"PYTHONPATH": str(Path(chelys.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout == "spoken\n", done.stderr
