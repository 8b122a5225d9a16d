"""What is done with a book once there is one: rendered, replayed, compared; chosen on the board, in a browser too.

``CHELYS_PICTURES=$PWD/docs/images`` keeps the screenshots; ``CHELYS_PICTURES_MODEL=nano`` takes them of nano.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import node_packages
import numpy as np
import pytest
from typer.testing import CliRunner

from chelys.audiobook.board import waveform
from chelys.cli.main import app
from chelys.inference.sound_recipe import read_recipe

pytest.importorskip("av")
TEXT = "# One\n\nHello there. One, two, three <b> & four.\n\n# Two\n\nThree two one. Hello there.\n"

PICTURED = (
    "# The harbor\n\nThe guard lit a lamp at the gate. Three boats came in with the tide.\n\n"
    "# Morning\n\nNobody had watered the plants since spring. Where did you leave the keys?\n"
)

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.md").write_text(TEXT)

    def run(*words: str, model: Path = toy_folder) -> tuple[int, str]:
        modelled = words[0] not in ("diff", "cache")
        found = CliRunner().invoke(app, [*words, *(["--model", str(model)] if modelled else [])])
        return found.exit_code, found.output

    return run


def record(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.fixture
def draft(command: Command) -> str:
    status, told = command("read", "book.md", "-o", "draft.m4b", "-p", "ultra_fast", "-q")
    assert status == 0, told
    return "draft.m4b"


def test_a_draft_is_rendered_with_the_same_codes(command: Command, draft: str) -> None:
    status, told = command("render", draft, "-o", "final.m4b", "-p", "fast")
    assert status == 0 and "6 of 6 sentences rendered" in told
    rough, final = record("draft.sentences.jsonl"), record("final.sentences.jsonl")
    assert [one["computed"] for one in final] == [["wave"]] * 6
    for name in ("candidate", "sentence_key", "start_s", "end_s", "score"):
        assert [one[name] for one in rough] == [one[name] for one in final]
    assert read_recipe(Path("final.m4b"))["options"]["steps"] == 10
    assert command("render", draft, "-o", "x.m4b", "--set", "temperature=1")[0] != 0  # that would change the words


def test_recipes_say_what_differs_and_name_no_folder(
    command: Command, draft: str, tmp_path: Path, toy_folder: Path
) -> None:
    recipe = read_recipe(tmp_path / draft)
    assert str(tmp_path) not in json.dumps(recipe) and recipe["settings"]["source"] == "book.md"
    assert {"text_hash", "model_hash", "voice_hashes", "versions", "options", "seed", "takes"} <= set(recipe)
    command("read", "book.md", "-o", "other.m4b", "-p", "ultra_fast", "-q", "--seed", "4", "-v", "high")
    status, told = command("diff", draft, "other.m4b")
    assert status == 1 and "seed: 0 -> 4" in told and "voice_hashes.narrator: " in told and "text" not in told
    shutil.copy(toy_folder / "voices" / "high.safetensors", tmp_path / "mine.safetensors")
    path = str(tmp_path / "mine.safetensors")
    assert command("read", "book.md", "-o", "voice.m4b", "-p", "ultra_fast", "-q", "-v", path)[0] == 0
    recipe = read_recipe(tmp_path / "voice.m4b")
    assert str(tmp_path) not in json.dumps(recipe) and recipe["settings"]["voice"] == "mine.safetensors"
    assert command("replay", "voice.m4b")[0] == 0
    assert command("diff", draft, draft) == (0, "made of the same\n")
    assert command("diff", draft, "book.md")[0] != 0


def test_a_file_is_proved_repeated_or_said_why_not(command: Command, draft: str, tmp_path: Path) -> None:
    status, told = command("replay", draft)
    assert status == 0 and "repeated to the byte; 0 sentences computed" in told
    status, told = command("replay", draft, "--no-store")
    assert status == 0 and "repeated to the byte; 6 sentences computed" in told
    Path("book.md").write_text(TEXT.replace("two one", "one two"))
    status, told = command("replay", draft)
    assert status == 1 and "text_hash: " in told and "seed" not in told
    Path("book.md").unlink()
    status, told = command("replay", draft)
    assert status != 0
    (tmp_path / "elsewhere").mkdir()
    Path("elsewhere/book.md").write_text(TEXT)
    assert command("replay", draft, "--book", "elsewhere/book.md")[0] == 0


def test_verdicts_stand_in_the_record(command: Command) -> None:
    asked = ("read", "book.md", "-o", "checked.m4b", "-p", "ultra_fast", "-q", "--verify", "builtin")
    assert command(*asked)[0] == 0
    verdicts = [one["verdict"] for one in record("checked.sentences.jsonl")]
    assert all({"passed", "reasons", "risk", "suspicious", "split"} <= set(one) for one in verdicts)
    assert all(one["passed"] or one["reasons"] for one in verdicts)
    assert command(*asked, "--force")[0] == 0
    again = record("checked.sentences.jsonl")
    assert [one["computed"] for one in again] == [[]] * 6 and [one["verdict"] for one in again] == verdicts
    assert command(*asked[:-1], "no-such-model", "--force")[0] != 0


def test_a_reading_that_was_stopped_at_its_end_goes_on(command: Command, draft: str) -> None:
    asked = ("read", "book.md", "-o", draft, "-p", "ultra_fast", "-q")
    assert command(*asked)[0] != 0  # it is there
    Path("draft.sentences.jsonl").unlink()  # what is written last
    made = Path(draft).read_bytes()
    assert command(*asked, "--seed", "3")[0] != 0  # another reading
    assert command(*asked)[0] == 0 and Path(draft).read_bytes() == made
    assert [one["computed"] for one in record("draft.sentences.jsonl")] == [[]] * 6


def test_the_board_shows_takes_and_escapes_texts(command: Command, draft: str) -> None:
    assert command("board", draft, "--all")[0] == 0
    page = Path("draft.board.html").read_text()
    assert page.count("<fieldset") == 6 and page.count('type="radio"') == 12 == page.count("data:audio/mpeg;base64,")
    assert "<b>" not in page.split("</style>")[1]
    assert "http" not in page.replace("http-equiv", "")  # it loads nothing
    assert command("board", draft)[0] != 0  # it is there
    assert command("board", draft, "--force")[0] == 0
    assert Path("draft.board.html").read_text().count("<fieldset") < 6  # only those that may be wrong


def test_waveforms_are_paths() -> None:
    path = waveform(np.sin(np.linspace(0, 900, 24_000)).astype(np.float32))
    assert path.startswith("M0 20 L0 1") and path.count("L") == 480
    assert waveform(np.zeros(3, np.float32)).count("L") == 6


def test_the_store_is_looked_at_and_cleared(command: Command, draft: str) -> None:
    status, told = command("cache", "status", "--json")
    assert status == 0 and json.loads(told)["stages"]["codes"]["entries"] == 6
    command("read", "book.md", "-o", "more.m4b", "-p", "ultra_fast", "-q", "--set", "steps=4")
    status, told = command("cache", "why", "Three two one.")
    assert status == 0 and "rendering.steps: 6 before, 4 now" in told and "the first of this text" in told
    assert command("cache", "why", "no such words")[0] != 0
    status, told = command("cache", "gc", "--store-size", "0.001", "--json")
    assert status == 0 and json.loads(told)["removed"] >= 0


@pytest.mark.slow
def test_the_board_in_a_browser(command: Command, tmp_path: Path, toy_folder: Path) -> None:
    node_packages.require_chromium()
    modules = node_packages.install(tmp_path, "playwright-core@1.65.1", "axe-core@4.14.1")
    model = Path(os.environ.get("CHELYS_PICTURES_MODEL", toy_folder))
    Path("book.md").write_text(PICTURED)
    asked = ("read", "book.md", "-o", "draft.m4b", "-p", "ultra_fast", "-q", "--force", "--set", "candidates=4")
    assert command(*asked, model=model)[0] == command("board", "draft.m4b", "--all", model=model)[0] == 0
    before = record("draft.sentences.jsonl")
    found = node_packages.run(Path(__file__).parent / "board.mjs", modules, tmp_path / "draft.board.html", tmp_path)
    assert found["faults"] == found["errors"] == found["foreign"] == [] and found["overflow"] <= 0
    assert found["sentences"] == 6 and found["played"] == 1 and found["told"] == "1 sentence changed"
    chosen = found["chosen"]
    assert chosen["checked"] and chosen["key"] == before[0]["sentence_key"]
    assert found["name"] == "draft.choices.json" and chosen["candidate"] != before[0]["candidate"]
    assert command(*asked, model=model)[0] == 0  # the same command again follows the file
    after = record("draft.sentences.jsonl")
    assert [one["candidate"] for one in after] == [chosen["candidate"], *(one["candidate"] for one in before[1:])]
    assert [bool(one["computed"]) for one in after] == [False] * 6  # rendered for the board already
    if pictures := os.environ.get("CHELYS_PICTURES"):
        for name in ("board.png", "board_dark.png"):
            shutil.copy(tmp_path / name, Path(pictures) / name)
