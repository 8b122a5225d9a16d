"""The command line over a synthesizer that needs no weights, in this process and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import chelys
from chelys.audio import io

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import fake_model  # noqa: E402

RATE = 24_000


@pytest.fixture
def synthesizer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> fake_model.FakeSynthesizer:
    """The stand-in that ``chelys.load`` gives back; the user's voices are in ``tmp_path / "shelf"``."""
    fake = fake_model.FakeSynthesizer()
    monkeypatch.setattr(chelys, "load", fake_model.loader(fake), raising=False)
    monkeypatch.setenv("CHELYS_VOICES", str(tmp_path / "shelf"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return fake


@pytest.fixture
def invoke(synthesizer: fake_model.FakeSynthesizer) -> Callable[..., Any]:
    """Run a command in this process; stdout and stderr are kept apart."""
    from chelys.cli.main import app

    def run(*arguments: str | Path, input: bytes | None = None) -> Any:
        return CliRunner().invoke(app, [str(a) for a in arguments], input=input)

    return run


@pytest.fixture
def refused(invoke: Callable[..., Any]) -> Callable[..., str]:
    """Run a command that must fail: one line on stderr, status 2, no file made. Returns the line."""

    def run(*arguments: str | Path, input: bytes | None = None) -> str:
        before = snapshot(Path.cwd().parent)
        result = invoke(*arguments, input=input)
        assert result.exit_code == 2, (result.output, result.exception)
        assert result.stdout == ""
        lines = result.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith("chelys: error: "), result.stderr
        assert snapshot(Path.cwd().parent) == before
        return lines[0].removeprefix("chelys: error: ")

    return run


def snapshot(folder: Path) -> dict[Path, bytes | None]:
    """Every path below a folder and what is in it."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Start ``chelys`` in a process of its own: with the stand-in, or as it is."""

    def start(*arguments: str | bytes, fake: bool = True, **settings: Any) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(Path(chelys.__file__).parents[1]), str(HERE)])
        shelf = str(tmp_path / "shelf")
        environment = {**os.environ, "PYTHONPATH": path, "CHELYS_VOICES": shelf, **settings.pop("env", {})}
        program = ["-c", "import fake_model; fake_model.run()"] if fake else ["-m", "chelys"]
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, *program, *arguments]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, **{**streams, **settings})

    return start


@pytest.fixture
def clips(tmp_path: Path) -> dict[str, Path]:
    """One good clip, and one of each kind that is no use."""
    folder = tmp_path / "clips"
    folder.mkdir()
    tone = (0.5 * np.sin(np.arange(RATE) / 20)).astype(np.float32)
    made = {kind: folder / f"{kind}.wav" for kind in ("good", "empty", "silent", "short", "corrupt", "words", "gone")}
    io.write(made["good"], tone, RATE)
    made["empty"].write_bytes(b"")
    io.write(made["silent"], 0 * tone, RATE)
    io.write(made["short"], tone[: RATE // 10], RATE)
    made["corrupt"].write_bytes(io.to_bytes(tone, RATE, "flac")[:300])
    made["words"].write_text("These are words.\n" * 200)
    return made
