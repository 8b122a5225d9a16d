"""The lexicon file, and the inflections of words it knows."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from chelys.errors import ModelError
from chelys.text.lexicon import Lexicon

ENTRIES = {
    "canoe": "kənˈu",
    "box": "bˈɑks",
    "cat": "kˈæt",
    "rake": "ɹˈAk",
    "wait": "wˈAt",
    "bus": "bˈʌs",
    "the": "ðə",
    "US": "jˌuˈɛs",
    "us": "ˌʌs",
}


def test_file_round_trip_with_comment(tmp_path: Path) -> None:
    lexicon = Lexicon(ENTRIES, "Where from.\nWhich licence.")
    lexicon.save(tmp_path / "a.gz")
    again = Lexicon.load(tmp_path / "a.gz")
    assert dict(again) == ENTRIES
    assert again.comment == "Where from.\nWhich licence."


def test_the_same_entries_give_the_same_bytes(tmp_path: Path) -> None:
    Lexicon(ENTRIES).save(tmp_path / "a.gz")
    Lexicon(dict(reversed(ENTRIES.items()))).save(tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize(
    ("word", "phonemes"),
    [
        ("canoe", "kənˈu"),
        ("canoes", "kənˈuz"),
        ("canoe's", "kənˈuz"),
        ("canoes'", "kənˈuz"),
        ("cats", "kˈæts"),
        ("boxes", "bˈɑksᵻz"),
        ("bus's", "bˈʌsᵻz"),
        ("raked", "ɹˈAkt"),
        ("raking", "ɹˈAkɪŋ"),
        ("waited", "wˈATᵻd"),
        ("waiting", "wˈATɪŋ"),
        ("US", "jˌuˈɛs"),
        ("US's", "jˌuˈɛsᵻz"),
        ("us", "ˌʌs"),
    ],
)
def test_known_words_and_their_regular_forms(word: str, phonemes: str) -> None:
    assert Lexicon(ENTRIES).lookup(word) == phonemes


@pytest.mark.parametrize("word", ["", "s", "'s", "zebra", "zebra's", "ing", "cates", "'"])
def test_other_words_are_unknown(word: str) -> None:
    assert Lexicon(ENTRIES).lookup(word) is None


def test_phonemes_are_every_character_once() -> None:
    assert Lexicon({"a": "ba", "b": "cb"}).phonemes == "abc"
    assert Lexicon({}).phonemes == ""


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no lexicon at .*none.gz"):
        Lexicon.load(tmp_path / "none.gz")
    (tmp_path / "text.gz").write_text("canoe\tkənˈu\n")
    with pytest.raises(ModelError, match="text.gz"):
        Lexicon.load(tmp_path / "text.gz")
    Lexicon(ENTRIES).save(tmp_path / "cut.gz")
    (tmp_path / "cut.gz").write_bytes((tmp_path / "cut.gz").read_bytes()[:-12])
    with pytest.raises(ModelError, match="cut.gz"):
        Lexicon.load(tmp_path / "cut.gz")


@pytest.mark.parametrize("line", [b"nonsense", b"\tk", b"dog\t", b"dog\td\r", b"a\tb\tc", b"dog\t" + 500 * b"d"])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_malformed_line_is_named_by_its_number(tmp_path: Path, line: bytes, end: bytes) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"# note\ncat\tk\n" + line + end))
    with pytest.raises(ModelError, match="line 3: expected"):
        Lexicon.load(tmp_path / "x.gz")


def test_lines_may_be_empty_or_out_of_order(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress("dog\tdˈɔɡ\n\ncat\tkˈæt".encode()))
    assert dict(Lexicon.load(tmp_path / "x.gz")) == {"cat": "kˈæt", "dog": "dˈɔɡ"}
