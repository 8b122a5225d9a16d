"""Long text becomes pieces that can be spoken at once."""

from __future__ import annotations

import random
import time

import pytest

from chelys.text.folding import LETTERS_PER_DIGIT
from chelys.text.normalize import is_speakable, normalize
from chelys.text.split import (
    CLAUSE_PAUSE_S,
    PARAGRAPH_PAUSE_S,
    PHRASE_PAUSE_S,
    SENTENCE_PAUSE_S,
    WORD_PAUSE_S,
    Sentence,
    split,
)


def texts(text: str, **options: int) -> list[str]:
    return [sentence.text for sentence in split(text, **options)]


@pytest.mark.parametrize(
    "expected",
    [
        ["One.", "Two!", "Three?", "Four…", "Five"],
        ["Dr. Smith met Mrs. Jones.", "They left."],
        ["J. K. Rowling wrote it.", "So did A. A. Milne."],
        ["Pi is 3.14 or so.", "Really."],
        ["We left at 5 p.m. sharp.", "It was late."],
        ["He left at 5 p.m.", "Then it rained."],
        ["The U.S. Army came.", "In the U.S.", "They stayed."],
        ['"Really?" she said.', '"Yes!"', "He nodded."],
        ["He said (quietly.)", "Then he left."],
        ["Well... maybe.", "No."],
        ["See No. 5 of e.g. this.", "Fine."],
        ["Love is patient (1 Cor. 13:4), says Prov. 10:12 too.", "He saw Dan.", "They left."],
        ["Take vitamin B.", "The end."],
        ["You and I.", "Nobody else."],
        ["Acme Inc. was here.", "Acme Inc.", "Nobody."],
        ["1. First item.", "2. Second item."],
        ["Hi.", "Go.", "Stop that."],
        ["Mr. St. John lives in St. Louis.", "Yes."],
        ["Yahoo! is a name.", "Good."],
        ["It was plan B.", "Nobody liked it."],
        ["She spelled B-O-B.", "Her name is M-A-R-I-A."],
        ["By J. Smith and Franklin D. Roosevelt.", "It ends."],
        ["He said no.", "7 men left."],
        ["He lives at No. 7 Oak Street.", "We do not."],
        ["The max. is 5.", "Max.", "Come."],
        ["Max. 5 people.", "Apt. 4 is free.", "Sr. Gomez came.", "See Vols. I–III."],
        ["II. The End.", "He paid 4s. 6d. in c. 1500.", "It ended."],
        ["It opens at 9 a.m.", "Come early.", "He left at 3 p.m. Monday."],
    ],
)
def test_sentences(expected: list[str]) -> None:
    assert texts(" ".join(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Chapter One\nIt was a dark night.", ["Chapter One", "It was a dark night."]),
        ("Red\nBlue\nGreen", ["Red", "Blue", "Green"]),
        ("- milk\n- eggs", ["- milk", "- eggs"]),
        ("It ended.Nobody spoke.", ["It ended.", "Nobody spoke."]),
        ("“It ended.”Nobody spoke.", ["“It ended.”", "Nobody spoke."]),
        ("See example.com or http://a.org/ab.Html now.", ["See example.com or http://a.org/ab.Html now."]),
        ("The United States of\nAmerica", ["The United States of America"]),
        ("It was long ago that she came to this town and to\nMaine, said he.",
         ["It was long ago that she came to this town and to Maine, said he."]),
    ],
)  # fmt: skip
def test_lines_and_forgotten_spaces(text: str, expected: list[str]) -> None:
    pieces = split(text)
    assert [piece.text for piece in pieces] == expected
    assert all(piece.pause_s == SENTENCE_PAUSE_S for piece in pieces[:-1])


def test_signs_that_are_long_to_say_make_shorter_pieces() -> None:
    assert max(len(text) for text in texts("≠" * 100, max_chars=180)) < 20


def test_pauses_tell_what_ends_a_piece() -> None:
    assert split("One. Two.\n\nThree,\nfour.\n \nFive.") == [
        Sentence("One.", SENTENCE_PAUSE_S),
        Sentence("Two.", PARAGRAPH_PAUSE_S),
        Sentence("Three, four.", PARAGRAPH_PAUSE_S),
        Sentence("Five.", 0.0),
    ]


def test_long_sentences_are_cut_at_the_best_mark() -> None:
    words = "one two three four five six"
    assert split(f"{words}, {words}; {words}, {words}.", max_chars=70) == [
        Sentence(f"{words}, {words};", CLAUSE_PAUSE_S),
        Sentence(f"{words}, {words}.", 0.0),
    ]
    assert texts(f"{words}, {words}.", max_chars=40) == [f"{words},", f"{words}."]
    assert texts(f"{words}—{words}.", max_chars=40) == [f"{words}—", f"{words}."]
    assert split(f"{words} {words}.", max_chars=40)[0] == Sentence(words, WORD_PAUSE_S)


def test_without_marks_a_long_sentence_is_cut_before_a_joining_word() -> None:
    said = "the road went up through the village past the church and the well until it left the houses behind"
    pieces = split(said, max_chars=60)
    assert [p.text for p in pieces] == [
        "the road went up through the village past the church",
        "and the well until it left the houses behind",
    ]
    assert pieces[0].pause_s == PHRASE_PAUSE_S < CLAUSE_PAUSE_S


def test_a_cut_is_not_made_within_a_number() -> None:
    assert texts("1,000,000 1,000,000 or 1,000,000", max_chars=45) == ["1,000,000", "1,000,000", "or 1,000,000"]


def test_a_monstrous_word_is_cut_hard() -> None:
    assert texts("x" * 10_000, max_chars=180) == ["x" * 180] * 55 + ["x" * 100]


def test_digits_take_longer_to_say() -> None:
    assert [len(t) for t in texts("7" * 100, max_chars=100)] == [20] * 5


@pytest.mark.parametrize("text", ["", "  \n\n ", "😀", "... !", "你好。"])
def test_nothing_to_say_gives_no_pieces(text: str) -> None:
    assert split(text) == []


def test_what_cannot_be_said_stays_with_its_neighbour() -> None:
    assert texts("*** Hello. 😀! *** Bye. ...") == ["*** Hello. 😀!", "*** Bye. ..."]
    assert texts("***\n\nHello.\n\n***\n\nBye.") == ["*** Hello. ***", "Bye."]


ALPHABETS = ["ab. ", "aB1.,;:!?'\"()—… \n", "Dr. Mr. St. U.S. A I 3.14 p.m.\n", "abc def ghi, 😀é你- 12$"]


def test_every_character_is_in_one_piece_in_order() -> None:
    rng = random.Random(9)
    pieces = 0
    for number in range(1500):
        alphabet = ALPHABETS[number % len(ALPHABETS)]
        text = "".join(rng.choices(alphabet, k=rng.randrange(0, 200)))
        longest = rng.choice([10, 25, 60, 180])
        sentences = split(text, max_chars=longest)
        if not is_speakable(text):
            assert sentences == []
            continue
        pieces += len(sentences)
        assert "".join("".join(s.text.split()) for s in sentences) == "".join(text.split())
        assert sentences[-1].pause_s == 0.0
        for sentence in sentences:
            assert normalize(sentence.text).text  # every piece can be spoken
            said = sum(LETTERS_PER_DIGIT if c.isdigit() else c.isalpha() for c in sentence.text)
            assert said <= longest or not sentence.text.isascii(), (text, sentence)
    assert pieces > 3000


def test_splitting_is_linear_in_the_text() -> None:
    for unit in ("a", "1", ". ", "\n", "😀", '."', "a, ", "A. "):
        started = time.process_time()
        split("x" + unit * (100_000 // len(unit)))
        assert time.process_time() - started < 3.0, unit
