"""Words that are swapped, lost, doubled or added are counted as what they are."""

from __future__ import annotations

import pytest

from chelys.evaluation.words import compare_words, is_cut, runs_away, sentences_astray

SAID = "the birch canoe slid on the smooth planks"


@pytest.mark.parametrize(
    ("heard", "substituted", "deleted", "inserted", "doubled"),
    [
        (SAID, 0, 0, 0, 0),
        ("the birch canoe slipped on the smooth planks", 1, 0, 0, 0),
        ("the birch slid on the smooth planks", 0, 1, 0, 0),
        ("the birch canoe canoe slid on the smooth planks", 0, 0, 1, 1),
        ("the birch canoe slid on the slid on the smooth planks", 0, 0, 3, 3),
        ("the birch canoe slid on the very smooth planks", 0, 0, 1, 0),
        ("", 1, 7, 0, 0),
    ],
)
def test_what_was_done_to_the_words_is_told(
    heard: str, substituted: int, deleted: int, inserted: int, doubled: int
) -> None:
    found = compare_words(SAID, heard)
    assert (found.substituted, found.deleted, found.inserted) == (substituted, deleted, inserted)
    assert found.doubled == doubled and found.errors == substituted + deleted + inserted and found.words == 8
    assert (found.cer == 0) == (heard == SAID)


def test_a_cut_end_is_short_and_lacks_the_last_word() -> None:
    cut = compare_words(SAID, "the birch canoe")
    assert is_cut(cut, 1.2, len(SAID)) and not is_cut(cut, 2.5, len(SAID))
    assert not is_cut(compare_words(SAID, SAID), 1.2, len(SAID))


def test_speech_that_goes_on_runs_away() -> None:
    fine = compare_words(SAID, SAID)
    assert not runs_away(fine, 2.5, len(SAID)) and runs_away(fine, 6.0, len(SAID))
    assert runs_away(compare_words(SAID, SAID + " and on and on"), 2.5, len(SAID))


def test_sentences_are_lost_and_repeated() -> None:
    sentences = ["the river ran slowly through the valley", "an old man mended clocks", "the girl came back on friday"]
    whole = " ".join(sentences)
    assert sentences_astray(sentences, whole) == ([], [])
    assert sentences_astray(sentences, " ".join(sentences[::2])) == ([sentences[1]], [])
    assert sentences_astray(sentences, whole.replace(sentences[1], f"{sentences[1]} {sentences[1]}")) == (
        [], [sentences[1]]
    )  # fmt: skip
