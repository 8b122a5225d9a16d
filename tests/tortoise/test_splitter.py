"""The published rule of splitting with its faults mended."""

from __future__ import annotations

import random
import time

import pytest

from chelys.errors import UserError
from chelys.text.document import Sentence
from chelys.text.split import CLAUSE_PAUSE_S, SENTENCE_PAUSE_S, WORD_PAUSE_S
from chelys.tortoise.splitter import cut, split_tortoise


def both(text: str, desired: int, longest: int) -> tuple[list[str], list[str]]:
    """Repaired and original pieces."""
    repaired, original = (cut(text, desired=desired, max_chars=longest, reference=flag) for flag in (False, True))
    return repaired, original


def test_b14_splitter_sees_the_last_character() -> None:
    assert both("Is it so late? 7", 10, 40) == (["Is it so late?", "7"], ["Is it so late?", "7"])
    assert both("Is it so late?7", 10, 40) == (["Is it so late?", "7"], ["Is it so late?7"])


def test_b14_splitter_keeps_count_of_quotation_marks_when_it_walks_back() -> None:
    text = 'He saw how they came and said "Go on now." She left. It was late. They all went home. So did I.'
    assert both(text, 20, 31) == (
        ["He saw how they came and said", '"Go on now." She left.', "It was late.", "They all went home.", "So did I."],
        ["He saw how they came and said", '"Go on now." She left. It was', "late. They all went home. So", "did I."],
    )


def test_b14_splitter_cuts_at_sentences_where_a_quotation_mark_is_missing() -> None:
    text = 'He said "Hello there. ' + "She said nothing at all. " * 6
    repaired, original = both(text, 40, 70)
    assert all(piece.endswith(".") for piece in repaired)
    assert not all(piece.endswith(".") for piece in original)
    assert cut('A 12" pipe is here. So is a 5" one. They are long.', desired=15, max_chars=40) == [
        'A 12" pipe is here.',
        'So is a 5" one.',
        "They are long.",
    ]


def test_b14_splitter_closes_marks_behind_the_end_of_a_sentence() -> None:
    assert cut("(He left at once!) Then I left.", desired=10, max_chars=40) == ["(He left at once!)", "Then I left."]
    assert cut("(He left at once.) Then I left.", desired=10, max_chars=40) == ["(He left at once.)", "Then I left."]


def test_words_and_figures_are_not_cut_in_two() -> None:
    assert both("It is version 2.7", 10, 16) == (["It is version", "2.7"], ["It is version 2.", "7"])
    repaired, original = both("First paragraph ends with 3.14159 here", 10, 15)
    assert repaired == ["First", "paragraph ends", "with 3.14159", "here"]
    assert original[0] == "First para"
    assert both("x" * 40, 10, 15) == (["x" * 15, "x" * 15, "x" * 10], ["x" * 10] * 4)


def test_sentences_are_packed_up_to_the_desired_length() -> None:
    sentence = "A sentence of moderate length stands here to be counted. "
    pieces = split_tortoise(sentence * 9)
    assert [piece.text for piece in pieces] == [(sentence * 4).strip()] * 2 + [sentence.strip()]


def test_pauses_tell_what_ends_a_piece_and_the_original_has_none() -> None:
    text = '"Well, then?" said he, as ever, and left; as he does each time when night has come'
    assert split_tortoise(text, desired=10, max_chars=24) == [
        Sentence('"Well, then?"', SENTENCE_PAUSE_S),
        Sentence("said he, as ever, and", WORD_PAUSE_S),
        Sentence("left; as he does each", WORD_PAUSE_S),
        Sentence("time when night has", WORD_PAUSE_S),
        Sentence("come", 0.0),
    ]
    assert split_tortoise("One, two,|three:|four.|five") == [
        Sentence("One, two,", CLAUSE_PAUSE_S),
        Sentence("three:", CLAUSE_PAUSE_S),
        Sentence("four.", SENTENCE_PAUSE_S),
        Sentence("five", 0.0),
    ]
    assert {s.pause_s for s in split_tortoise(text, desired=10, max_chars=24, reference=True)} == {0.0}


def test_bars_alone_decide_where_to_cut() -> None:
    text = "One. Two! | Three? Four.|| ... | Five"
    assert [s.text for s in split_tortoise(text, desired=1)] == ["One. Two!", "Three? Four.", "Five"]
    assert [s.text for s in split_tortoise(text, desired=1, reference=True)] == [
        "One. Two! ", " Three? Four.", " ... ", " Five"
    ]  # fmt: skip


def test_a_part_between_bars_that_is_too_long_is_cut_as_well() -> None:
    pieces = [s.text for s in split_tortoise(f"Hi. Ho.|{'So it is. ' * 60}", desired=200, max_chars=300)]
    assert pieces[0] == "Hi. Ho."
    assert len(pieces) > 2 and all(len(piece) <= 300 for piece in pieces)


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("text", ["", "  \n\n ", "...", "?! .", "|", " | "])
def test_nothing_to_say_gives_no_pieces(text: str, reference: bool) -> None:
    assert split_tortoise(text, reference=reference) == []


def test_rows_of_signs_are_left_out() -> None:
    assert [s.text for s in split_tortoise("*** | Hi. | --- | 😀 | £ | 你好")] == ["Hi.", "£", "你好"]


@pytest.mark.parametrize("lengths", [{"desired": 0}, {"max_chars": 0}, {"desired": -5, "max_chars": 5}])
def test_lengths_below_one_are_refused(lengths: dict[str, int]) -> None:
    with pytest.raises(UserError, match="must be 1 or more characters$"):
        split_tortoise("Hi.", **lengths)  # type: ignore[arg-type]


@pytest.mark.parametrize("reference", [False, True])
def test_every_letter_is_in_one_piece_in_order(reference: bool) -> None:
    rng = random.Random(4)
    for _ in range(1500):
        text = "".join(rng.choices('ab. ,!?"“”()\n\ud800é3', k=rng.randrange(150)))
        desired, longest = rng.choice([(1, 1), (5, 8), (10, 15), (20, 40), (40, 20), (200, 300)])
        pieces = split_tortoise(text, desired=desired, max_chars=longest, reference=reference)
        letters = [c for c in text if c.isalnum()]
        assert [c for piece in pieces for c in piece.text if c.isalnum()] == letters
        for piece in pieces:
            assert piece.text == piece.text.strip() != ""
            assert len(piece.text) <= longest + reference, (text, piece)


def test_splitting_is_linear_in_the_text() -> None:
    for unit in ("a", ". ", "\n", "😀", '."', '"', ' "a', "a, ", "|", "!)", "\ud800"):
        for reference in (False, True):
            started = time.process_time()
            split_tortoise("x" + unit * (60_000 // len(unit)), reference=reference)
            assert time.process_time() - started < 3.0, unit
