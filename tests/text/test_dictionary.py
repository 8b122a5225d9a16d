"""The user's own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from chelys.errors import UserError
from chelys.text.dictionary import Dictionary
from chelys.text.lexicon import NANO_LEXICON, Lexicon
from chelys.text.pronounce import Pronouncer


@pytest.fixture(scope="module")
def pronouncer() -> Pronouncer:
    return Pronouncer(Lexicon.load(NANO_LEXICON))


def said(pronouncer: Pronouncer, entries: dict[str, str], sentence: str) -> list[tuple[str, str]]:
    words = pronouncer.pronounce(sentence, dictionary=Dictionary(entries.items(), pronouncer))
    return [(word.text, word.phonemes) for word in words if word.found == "given"]


@pytest.mark.parametrize(
    ("key", "sound", "sentence", "found"),
    [
        ("Siobhan", "/ʃəˈvɔːn/", "we met siobhan.", [("siobhan", "ʃəvˈɔn")]),
        ("Kaelyn", "KAY-lin", "kaelyn waits.", [("kaelyn", "kˈAlɪn")]),
        ("Kaelyn", "KAY-lin", "kaelyn's cat.", [("kaelyn's", "kˈAlɪnz")]),
        ("Kaelyn", "kuh-NOO", "kaelyn waits.", [("kaelyn", "kənˈu")]),
        ("SQL", "sequel", "the SQL sql", [("SQL", "sˈikwəl")]),
        ("sql", "sequel", "the SQL sql", [("SQL", "sˈikwəl"), ("sql", "sˈikwəl")]),
        ("Los Gatos", "/loʊs ˈɡætoʊs/", "in los gatos, los", [("los gatos", "lOs ɡˈætOs")]),
        ("Los", "/lɒs/", "los, gatos", [("los", "lɑs")]),
        ("C++", "see plus plus", "we write c plus plus.", [("c plus plus", "sˈi plˈʌs plˈʌs")]),
        ("the", "/ðiː/", "the end", [("the", "ði")]),
    ],
)
def test_entries(pronouncer: Pronouncer, key: str, sound: str, sentence: str, found: list[tuple[str, str]]) -> None:
    assert said(pronouncer, {key: sound}, sentence) == found


def test_what_the_text_itself_gives_goes_first(pronouncer: Pronouncer) -> None:
    dictionary = Dictionary([("kevin", "/kɛv/")], pronouncer)
    (word,) = pronouncer.pronounce("kevin", given={"kevin": "kˈi"}, dictionary=dictionary)
    assert word.phonemes == "kˈi"


def test_a_file_with_comments_and_a_byte_order_mark(pronouncer: Pronouncer, tmp_path: Path) -> None:
    file = tmp_path / "names.tsv"
    file.write_text("\ufeff# names\n\nKevin\t/kɛv/\nkevin\t/kɛv/\r\nBeth\tBAY-th\n", encoding="utf8")
    dictionary = Dictionary.load(file, pronouncer)
    assert pronouncer.pronounce("kevin", dictionary=dictionary)[0].phonemes == "kɛv"
    assert dictionary.warnings == []


def test_conflicts_are_told_and_the_last_line_counts(pronouncer: Pronouncer, tmp_path: Path) -> None:
    file = tmp_path / "names.tsv"
    file.write_text("Kevin\tone\nkevin\ttwo\n" + "".join(f"x{c}\tone\nx{c}\ttwo\n" for c in "abcdef"))
    dictionary = Dictionary.load(file, pronouncer)
    assert pronouncer.pronounce("kevin", dictionary=dictionary)[0].phonemes == "tˈu"
    (warning,) = dictionary.warnings
    assert "names.tsv" in warning and "kevin, xa" in warning and "and 2 more" in warning


def test_the_later_of_two_dictionaries_counts(pronouncer: Pronouncer) -> None:
    first = Dictionary([("kevin", "one"), ("los gatos", "two")], pronouncer)
    both = first | Dictionary([("kevin", "three")], pronouncer)
    words = pronouncer.pronounce("kevin los gatos", dictionary=both)
    assert [word.phonemes for word in words] == ["θɹˈi", "tˈu"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Kevin\t/kɛvʢn/", "Kevin: .*no sound 'ʢ'|Kevin: .*'ʢ'"),
        ("Kevin\t//", "no sound"),
        ("Kevin\t12 34", "no respelling"),
        ("Kevin", "line 1: expected 'word<TAB>sound'"),
        ("\tkevin", "line 1"),
        ("你好\tone", "no word"),
    ],
)
def test_a_bad_line_is_one_clear_line(pronouncer: Pronouncer, tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "names.tsv"
    file.write_text(line + "\n", encoding="utf8")
    with pytest.raises(UserError, match=told) as caught:
        Dictionary.load(file, pronouncer)
    assert "\n" not in str(caught.value) and "names.tsv" in str(caught.value)


def test_what_is_no_dictionary_is_refused(pronouncer: Pronouncer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dictionary at"):
        Dictionary.load(tmp_path / "none.tsv", pronouncer)
    (tmp_path / "binary.tsv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="UTF-8"):
        Dictionary.load(tmp_path / "binary.tsv", pronouncer)
    with pytest.raises(UserError, match="cannot be read"):
        Dictionary.load(tmp_path, pronouncer)
    (tmp_path / "huge.tsv").write_bytes(b"a\tb\n" * (1 << 23))
    with pytest.raises(UserError, match="cannot be read .*larger than"):
        Dictionary.load(tmp_path / "huge.tsv", pronouncer)


def test_a_hundred_thousand_lines(pronouncer: Pronouncer, tmp_path: Path) -> None:
    letters = "abcdefghij"
    names = ("".join(letters[int(digit)] for digit in f"{number:06d}") for number in range(100_000))
    file = tmp_path / "names.tsv"
    file.write_text("".join(f"zz{name}\tkuh-NOO\n" for name in names))
    dictionary = Dictionary.load(file, pronouncer)
    words = pronouncer.pronounce("zzaaabcd and zzajjjjj", dictionary=dictionary)
    assert [word.found for word in words] == ["given", "lexicon", "given"]
