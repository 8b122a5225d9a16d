"""``chelys read`` with the toy model: what it prints, what it computes, what it refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from books import epub, nav, xhtml  # noqa: E402

from chelys.audio.tags import read_tags  # noqa: E402

PAGES = {"a.xhtml": xhtml("<h1>One</h1><p>Hello there. One, two.</p>"), "b.xhtml": xhtml("<p>Three. A hello.</p>")}
TOC = nav(("The first", "a.xhtml"), ("The second", "b.xhtml"))


@pytest.fixture
def read(tmp_path: Path, toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.epub").write_bytes(epub(PAGES, toc=TOC))

    def run(*arguments: str, input: bytes | None = None, model: str = str(toy_folder)) -> Any:
        from chelys.cli.main import app

        how = ("--model", model, "--device", "cpu", "--preset", "ultra_fast", "--set", "repetition_penalty=1.0")
        return CliRunner().invoke(app, ["read", *arguments, *how], input=input)

    return run


def test_a_book_is_read_and_nothing_of_it_is_computed_twice(read: Callable[..., Any], tmp_path: Path) -> None:
    first = read("book.epub", "--json")
    assert first.exit_code == 0, first.output
    *events, made = map(json.loads, first.stdout.splitlines())
    assert [event["place"] for event in events] == ["1:1", "1:2", "1:3", "2:1", "2:2"]
    assert (made["sentences"], made["computed"]) == (5, 5) and made["files"] == ["book.m4b", "book.sentences.jsonl"]
    assert made["levels"][0]["loudness"] == pytest.approx(-18, abs=1)  # the toy's noise is mostly held at the ceiling
    assert json.loads(read_tags(tmp_path / "book.m4b")["comment"])["settings"]["seed"] == 0
    again = read("book.epub", "-o", "book.mp3", "--subtitles", "srt")
    assert again.exit_code == 0 and "5 of the store" in again.stdout and "book.srt" in again.stdout
    changed = {**PAGES, "b.xhtml": xhtml("<p>Three. Two hello.</p>")}
    (tmp_path / "book.epub").write_bytes(epub(changed, toc=TOC))
    after = read("book.epub", "--json", "--force")
    assert json.loads(after.stdout.splitlines()[-1])["computed"] == 1
    silent = read("book.epub", "-o", "book.flac", "-q")
    assert (silent.exit_code, silent.stdout) == (0, "")


def test_chapters_are_listed_and_a_plan_is_made(read: Callable[..., Any], tmp_path: Path) -> None:
    listed = read("book.epub", "--list")
    assert listed.stdout.splitlines()[0] == "A Book" and "The second" in listed.stdout
    rows = json.loads(read("book.epub", "--list", "--json").stdout)["chapters"]
    assert [row["title"] for row in rows] == ["The first", "The second"]
    plan = json.loads(read("book.epub", "--plan", "--json", "--chapters", "2").stdout)
    assert (plan["chapters"], plan["sentences"], plan["sampled"]) == (1, 2, 2)
    assert plan["seconds"] > 2 and plan["work_seconds"] > 0
    assert "of sound" in read("book.epub", "--plan").stdout
    assert not (tmp_path / "book.m4b").exists()


def test_names_are_listed_and_spoken_into_a_folder(read: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "book.epub").write_bytes(epub({"a.xhtml": xhtml("<p>Hello Queequeg.</p>")}))
    found = read("book.epub", "--find-names", "-o", "names", "--json", model="nano")
    assert found.exit_code == 0, found.output
    assert [name["text"] for name in json.loads(found.stdout)["names"]] == ["Queequeg"]
    made = sorted(path.name for path in (tmp_path / "names").iterdir())
    assert made == ["Queequeg-1.wav", "Queequeg-2.wav", "names.tsv"]


def test_standard_input_and_a_file_a_chapter(read: Callable[..., Any], tmp_path: Path) -> None:
    made = read("-", "--each-chapter", "-o", "out", "--no-store", input=b"# One\n\nHello there.\n\n# Two\n\nA hello.\n")
    assert made.exit_code == 0, made.output
    assert sorted(path.name for path in (tmp_path / "out").glob("*.mp3")) == ["01 One.mp3", "02 Two.mp3"]
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("gone.epub",), "No such file"),
        (("book.epub", "-o", "book.avi"), "no audiobook format"),
        (("book.epub", "--chapters", "9"), "the book has 1 to 2"),
        (("book.epub", "--pauses", "scene=long"), "is no pause"),
        (("book.epub", "--include", "pictures"), "choose from note"),
        (("book.epub", "--preview", "soon"), "is no time"),
        (("book.epub", "--speakers", "gone.tsv"), "no table of speakers"),
        (("book.epub", "--voice", "nobody"), "nobody"),
        (("book.epub", "-o", "gone/book.m4b"), "cannot write"),
        (("book.epub", "-o", "taken.m4b"), "exists"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: tuple[str, ...], line: str, read: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "taken.m4b").write_bytes(b"mine")
    result = read(*arguments)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1, result.output
    assert result.stderr.startswith("chelys: error: ") and line in result.stderr
    assert (tmp_path / "taken.m4b").read_bytes() == b"mine"
