"""The attack in small: every reader of foreign bytes with damaged files, past finds, and operations that fail."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toy
from typer.testing import CliRunner

from chelys.audio.io import write
from chelys.cli.main import app

ATTACK = Path(__file__).parents[2] / "tools" / "attack"
sys.path.insert(0, str(ATTACK))

import mutate  # noqa: E402
import readers  # noqa: E402
from texts import text  # noqa: E402

from chelys.errors import UserError  # noqa: E402
from chelys.text.front_end import FORMATS, read_text  # noqa: E402
from chelys.text.tokenizer import Tokenizer  # noqa: E402
from chelys.weights.catalog import find_model  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def clean() -> Iterator[None]:
    yield
    shutil.rmtree(readers.scratch(), ignore_errors=True)


def answer(name: str, data: bytes) -> None:
    """A reader's answer, of one line if it is a refusal."""
    try:
        readers.READERS[name](data)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", readers.READERS)
def test_damaged_files_are_read_or_refused(name: str) -> None:
    rng = random.Random(name)
    seeds = readers.seeds(name)
    if name != "yaml":  # of which each is another stage's
        for data in seeds:
            readers.READERS[name](data)
    for _ in range(25):
        answer(name, mutate.damaged(name, seeds, rng))


@pytest.mark.parametrize("path", sorted(ATTACK.glob("corpus/*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_once_found_is_answered(path: Path) -> None:
    answer(path.parent.name, path.read_bytes())


def test_texts_of_every_kind_are_read_or_refused() -> None:
    rng, tokenizer = random.Random(0), Tokenizer.load(find_model("nano"))
    for number in range(300):
        try:
            read_text(text(rng), tokenizer, format=FORMATS[number % len(FORMATS)])
        except UserError as error:
            assert "\n" not in str(error)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux") or not shutil.which("cc"), reason="needs Linux and a compiler")
@pytest.mark.parametrize("command", ["voices", "speak", "convert", "train", "prepare"])
def test_operations_that_fail_leave_nothing_half_written(command: str) -> None:
    program = [sys.executable, str(ATTACK / "faults.py"), command]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 faults" in done.stdout and "refused" in done.stdout


@pytest.mark.parametrize("operation", ["replace", "fsync", "open"])
def test_an_operation_that_fails_leaves_the_voice_that_was_there(
    operation: str, toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same in this process and in small: the n-th call of one of Python's own operations."""
    monkeypatch.setenv("CHELYS_VOICES", str(tmp_path / "voices"))
    clip = tmp_path / "clip.wav"
    write(clip, toy.tone(150.0, 1.0), 24_000)
    asked = ["voices", "add", "me", str(clip), "--model", str(toy_folder), "--force"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    path = tmp_path / "voices" / "me.safetensors"
    before, real = path.read_bytes(), getattr(os, operation)
    for failing in range(1, 9):
        calls = 0

        def fails(*args: Any, number: int = failing, **more: Any) -> Any:
            nonlocal calls
            target = os.fspath(args[-1]) if operation == "replace" else args[0]
            if operation == "fsync" or str(target).startswith(str(tmp_path / "voices")):
                calls += 1
                if calls == number:
                    raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args, **more)

        with monkeypatch.context() as patch:
            patch.setattr(os, operation, fails)
            result = CliRunner().invoke(app, asked)
        assert result.exit_code in (0, 2) and "Traceback" not in result.output, result.output
        assert path.read_bytes() == before and [p.name for p in path.parent.iterdir() if p.name != ".lock"] == [
            path.name
        ]
        if calls < failing:
            break
    assert CliRunner().invoke(app, asked).exit_code == 0 and path.read_bytes() == before
