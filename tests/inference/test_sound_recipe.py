"""``chelys replay`` and ``chelys diff`` of what ``chelys speak`` made: proved, repeated, or said why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chelys.audio.io import read, write
from chelys.audio.tags import read_tags
from chelys.cli.main import app
from chelys.inference import sound_recipe as recipes
from chelys.inference.sound_recipe import read_recipe

TEXT = "Hello there. One, two, three. Three two one."
Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(tmp_path: Path, toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        how = [] if arguments[0] == "diff" else ["--model", str(toy_folder), "--device", "cpu"]
        made = CliRunner().invoke(app, [*arguments, *how])
        return made.exit_code, made.output

    return run


def speak(command: Command, output: str, *more: str, text: str = TEXT) -> None:
    status, told = command("speak", text, "-o", output, "-p", "ultra_fast", "--seed", "3", "-q", *more)
    assert status == 0, told


@pytest.mark.parametrize(
    ("output", "more"),
    [("a.flac", []), ("a.mp3", []), ("a.wav", ["--stream"]), ("a.wav", ["--early"]), ("a.wav", ["--keep", "2"])],
)
def test_a_file_is_repeated_or_said_why_not(command: Command, output: str, more: list[str]) -> None:
    speak(command, output, *more)
    for file in [output, *(["a-2.wav"] if "--keep" in more else [])]:
        status, told = command("replay", file)
        assert status == 0 and f"{file} is repeated to the byte; 3 sentences computed" in told


def test_what_is_another_is_named_and_no_folder_is(command: Command, tmp_path: Path, toy_folder: Path) -> None:
    shutil.copy(toy_folder / "voices" / "high.safetensors", tmp_path / "mine.safetensors")
    Path("words.tsv").write_text("hello\tHELLO\n")
    named = ("-v", str(tmp_path / "mine.safetensors"), "--lexicon", str(tmp_path / "words.tsv"))
    speak(command, "a.wav", *named)
    speak(command, "b.ogg", text="Hello there.")
    recipe = read_recipe(Path("a.wav"))
    assert str(tmp_path) not in json.dumps(recipe) and recipe["settings"]["voice"] == "mine.safetensors"
    assert {"text_hash", "model_hash", "voice_hashes", "versions", "options", "seed", "sound"} <= set(recipe)
    status, told = command("diff", "a.wav", "b.ogg")
    assert status == 1 and "text_hash: " in told and "file_hashes.lexicon: " in told and "seed" not in told
    assert command("diff", "a.wav", "a.wav") == (0, "made of the same\n")
    assert command("replay", "a.wav")[0] == 0
    Path("words.tsv").write_text("hello\tOTHER\n")
    status, told = command("replay", "a.wav")
    assert status == 1 and "cannot be repeated" in told and "file_hashes.lexicon: " in told
    Path("words.tsv").unlink()
    assert "was made with words.tsv, which is not beside it" in command("replay", "a.wav")[1]
    assert "is no audiobook: chelys speak made it" in command("board", "a.wav")[1]
    write(
        "b.wav", read("b.ogg", 24_000), 24_000, comment=read_tags(Path("b.ogg"))["comment"].replace('"sound": "', "x")
    )
    assert command("replay", "b.wav")[0] != 0


def test_a_long_text_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "MAX_TEXT", 20)
    speak(command, "a.wav")
    assert read_recipe(Path("a.wav"))["settings"]["text"] is None
    assert "name its file with --book" in command("replay", "a.wav")[1]
    Path("text.txt").write_text(TEXT)
    assert command("replay", "a.wav", "--book", "text.txt")[0] == 0
    Path("text.txt").write_text(TEXT + " One.")
    assert "text_hash: " in command("replay", "a.wav", "--book", "text.txt")[1]
