"""``python -m chelys speak`` from end to end: a process of its own, a real pipeline, a model with random weights."""

from __future__ import annotations

import io
import json
import shutil
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy

from chelys.audio.io import read, write
from chelys.inference.options import options_for
from chelys.inference.synthesizer import Synthesizer

RATE = 24_000
TEXT = "Hello there. One, two, three!"


@pytest.fixture
def run(process: Callable[..., Any], toy_folder: Path) -> Callable[..., tuple[int, bytes, str]]:
    """Speak with the toy model in a fresh process: exit status, standard output, standard error."""

    def run(*arguments: str | Path, model: Path = toy_folder, input: bytes = b"") -> tuple[int, bytes, str]:
        command = ["speak", *map(str, arguments), "--model", str(model)]
        started = process(*command, fake=False, stdin=-1, env={"OMP_NUM_THREADS": "1"})
        output, errors = started.communicate(input, timeout=300)
        return started.returncode, output, errors.decode()

    return run


def samples(data: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def made(folder: Path) -> set[str]:
    """Files in a folder, besides the user's voices and the cache of models."""
    return {path.name for path in folder.iterdir()} - {"shelf", "models"}


def test_the_same_seed_gives_the_same_file_in_every_process(
    run: Callable[..., Any], tts: Synthesizer, tmp_path: Path
) -> None:
    status, output, errors = run(TEXT, "--seed", "7", "-p", "ultra_fast", "-o", "a.wav")
    assert (status, errors) == (0, "") and output.startswith(b"a.wav  ") and output.endswith(b"seed 7\n")
    assert run("-", "--seed", "7", "-p", "ultra_fast", "-o", "-", "-q", input=TEXT.encode())[0] == 0
    spoken = samples((tmp_path / "a.wav").read_bytes())
    assert np.abs(spoken.astype(int)).max() > 300
    # and in this process
    expected = tts.speak(TEXT, seed=7, preset="ultra_fast").audio
    np.testing.assert_array_equal(np.clip(np.rint(expected * 32768), -32768, 32767).astype("<i2"), spoken)
    other = run(TEXT, "--seed", "8", "-p", "ultra_fast", "-o", "b.wav")
    assert other[0] == 0 and (tmp_path / "a.wav").read_bytes() != (tmp_path / "b.wav").read_bytes()
    assert made(tmp_path) == {"a.wav", "b.wav"}


def test_three_takes_and_their_receipt(run: Callable[..., Any], tmp_path: Path) -> None:
    arguments = [TEXT, "--seed", "7", "--keep", "3", "-p", "ultra_fast", "--candidates", "4", "--json", "-o", "a.flac"]
    status, output, errors = run(*arguments)
    assert (status, errors) == (0, "")
    receipt = json.loads(output)
    assert (receipt["seed"], receipt["voice"], receipt["model"], receipt["text"]) == (7, "low", "toy", TEXT)
    assert receipt["options"]["steps"] == options_for("ultra_fast").steps
    assert [len(sentence["scores"]) for sentence in receipt["sentences"]] == [4, 4]
    files = receipt["files"]
    assert [file["path"] for file in files] == ["a.flac", "a-2.flac", "a-3.flac"]
    assert [file["score"] for file in files] == sorted((file["score"] for file in files), reverse=True)
    waves = [read(tmp_path / file["path"], RATE) for file in files]
    assert len({audio.tobytes() for audio in waves}) == 3
    assert [len(audio) / RATE for audio in waves] == pytest.approx([file["seconds"] for file in files], abs=1e-3)
    assert made(tmp_path) == {"a.flac", "a-2.flac", "a-3.flac"}


def test_streams_and_pipes_carry_the_same_samples(run: Callable[..., Any], toy_folder: Path, tmp_path: Path) -> None:
    knobs = [TEXT + " 😀", "--seed", "7", "-p", "ultra_fast", "-v", toy_folder / "voices" / "high.safetensors"]
    status, piped, errors = run(*knobs, "-o", "-", "-q")
    assert status == 0 and errors == "chelys: warning: dropped what cannot be spoken: 😀\n"
    status, streamed, errors = run(*knobs, "--stream", "-o", "-")
    lines = errors.splitlines()
    assert status == 0 and "dropped" in lines[0] and lines[1].startswith("-  ") and len(lines) == 2
    np.testing.assert_array_equal(samples(piped), samples(streamed))
    assert run(*knobs, "--stream", "-o", "s.wav")[0] == 0
    np.testing.assert_array_equal(samples((tmp_path / "s.wav").read_bytes()), samples(piped))
    assert made(tmp_path) == {"s.wav"}


def test_a_voice_of_ones_own(
    process: Callable[..., Any], run: Callable[..., Any], toy_folder: Path, tmp_path: Path
) -> None:
    write(tmp_path / "clip.flac", toy.tone(180.0, 1.0), RATE)
    adding = process("voices", "add", "me", "clip.flac", "--model", str(toy_folder), fake=False)
    output, errors = adding.communicate()
    assert adding.returncode == 0 and output.startswith(b"me  1.0 s from 1 clip  ")
    assert b"clip.flac: only 1.0 s of speech" in errors
    listing = process("voices", "list", "--model", str(toy_folder), "--json", fake=False)
    rows = json.loads(listing.communicate()[0])
    assert [(row["name"], row["kind"]) for row in rows] == [("low", "built in"), ("high", "built in"), ("me", "yours")]
    assert run("Hello.", "-v", "me", "--seed", "1", "-q")[0] == 0
    assert made(tmp_path) == {"clip.flac", "speech.wav"}


def broken_model(toy_folder: Path, folder: Path) -> Path:
    shutil.copytree(toy_folder, folder)
    weights = folder / "diffusion.safetensors"
    weights.write_bytes(weights.read_bytes()[:5_000])
    return folder


def test_mistakes_are_one_line_and_leave_nothing_behind(
    run: Callable[..., Any], toy_folder: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    broken = broken_model(toy_folder, elsewhere / "broken")
    (elsewhere / "nothing").mkdir()
    write(elsewhere / "silent.wav", np.zeros(RATE, np.float32), RATE)
    for arguments, model, said in (
        (["😀 🐢"], toy_folder, "nothing in the text '😀 🐢' can be spoken"),
        (["a" * 10_000], toy_folder, "has 10000 letters"),
        (["Hello.", "-v", "nobody"], toy_folder, "unknown voice 'nobody': choose from low, high"),
        (["Hello.", "-v", elsewhere / "silent.wav"], toy_folder, "silent.wav is silent"),
        (["Hello.", "--stream"], broken, "diffusion.safetensors is damaged"),
        (["Hello."], elsewhere / "nothing", "is not a model folder: it has no config.json"),
        (["Hello."], elsewhere / "gone", "name 'nano' or a folder that has a config.json"),
    ):
        status, output, errors = run(*arguments, model=model)
        assert (status, output) == (2, b"")
        assert errors.startswith("chelys: error: ") and errors.count("\n") == 1 and said in errors, errors
        assert made(tmp_path) == set()


def test_loading_a_model_imports_no_compiler(toy_folder: Path, tmp_path: Path) -> None:
    """A second of every command: torch imports one for as little as random values on the meta device."""
    import os
    import subprocess
    import sys

    import chelys

    program = f"import sys, chelys; chelys.load({str(toy_folder)!r}).voices; sys.exit('sympy' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(chelys.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path).returncode == 0
