"""Long text -> pieces short enough to be spoken at once, each with the silence that follows it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate

from chelys.deprecation import renamed_arguments
from chelys.text.abbreviations import (
    ABBREVIATIONS,
    BEFORE_FIGURE,
    MAY_END,
    ORDINARY_WORDS,
    begins_sentence,
    half_day_ends_sentence,
    letter_ends_sentence,
    no_is_a_number,
)
from chelys.text.document import Sentence
from chelys.text.folding import spoken_letters
from chelys.text.lines import FORGOTTEN_SPACE, paragraphs
from chelys.text.normalize import is_speakable
from chelys.text.scripture import ABBREVIATED_BOOK

#: Silence (seconds) after a piece, by what ends it.
WORD_PAUSE_S = 0.0
PHRASE_PAUSE_S = 0.05
CLAUSE_PAUSE_S = 0.12
SENTENCE_PAUSE_S = 0.28
PARAGRAPH_PAUSE_S = 0.6

_CLOSING = "\"'”’»)\\]"
_END = re.compile(rf"(?<![.!?…])[.!?…]+[{_CLOSING}]*(?:(?= |$)|{FORGOTTEN_SPACE.pattern})")
#: Words that a speaker takes a breath before, where no mark says so.
_JOINTS = "and|but|or|nor|so|yet|that|which|who|when|where|while|until|because|although|if|as|before|after|since|than"
#: Where a long sentence may be cut, best first; each pattern ends behind the mark.
_CUTS = (
    # An en dash without spaces joins ("Oct–Dec"), and dashes between figures are read ("10 - 15").
    (re.compile(rf"[;:][{_CLOSING}]*(?= )|—[—–]*|(?<!\d) [-–]+(?= )| [-–]+(?= \D)"), CLAUSE_PAUSE_S),
    (re.compile(rf",[{_CLOSING}]*(?= )"), CLAUSE_PAUSE_S),
    (re.compile(rf" (?=(?:{_JOINTS})\b)", re.IGNORECASE), PHRASE_PAUSE_S),
    (re.compile(r" "), WORD_PAUSE_S),
)
_LAST_WORD = re.compile(r"[A-Za-z.]+$")
_ADDRESS = re.compile(r"(?:[/@\\]|\bwww\.)\S*$")
_YEAR = re.compile(r"['’]\d\d\b")
_ITEM = re.compile(r"\d{1,9}|[IVX]{2,6}|V")
_NUMERAL = re.compile(r"[IVXL]+\b(?!')")
_NEXT_WORD = re.compile(r"[A-Za-z]{2,40}|[AI](?!\.)")


@renamed_arguments(longest="max_chars")
def split(text: str, *, max_chars: int = 180) -> list[Sentence]:
    """Cut text, as people write it, into sentences, and long sentences into clauses; no piece is empty.

    Pieces that hold nothing to say (a row of stars, an emoji) stay with their neighbour, so that every piece can be
    spoken and no character is lost. A text that holds nothing to say has no pieces. Empty lines part paragraphs.
    ``max_chars`` is the most letters in a piece, where figures and signs count as many as their names.
    """
    pieces: list[Sentence] = []
    waiting = ""  # unspeakable text at the very beginning
    for text_piece, pause_s in _pieces(text, max_chars):
        if is_speakable(text_piece):
            pieces.append(Sentence(f"{waiting} {text_piece}".strip(), pause_s))
            waiting = ""
        elif pieces:
            last = pieces.pop()
            pieces.append(Sentence(f"{last.text} {text_piece}", max(last.pause_s, pause_s)))
        else:
            waiting = f"{waiting} {text_piece}".strip()
    if pieces:
        pieces.append(Sentence(pieces.pop().text, 0.0))
    return pieces


def pause_after(piece: str) -> float:
    """Silence (seconds) after a piece, by its last mark."""
    last = piece.rstrip(_CLOSING)[-1:]
    if last in (".", "!", "?", "…"):
        return SENTENCE_PAUSE_S
    return CLAUSE_PAUSE_S if last in (",", ";", ":", "-", "–", "—") else WORD_PAUSE_S


def _pieces(text: str, max_chars: int) -> Iterator[tuple[str, float]]:
    for stretches in paragraphs(text):
        for number, stretch in enumerate(stretches, 1):
            # A line that ends in no mark, a heading or an item of a list, is a sentence.
            after_s = PARAGRAPH_PAUSE_S if number == len(stretches) else pause_after(stretch) or SENTENCE_PAUSE_S
            sentences = list(_sentences(stretch))
            for place, sentence in enumerate(sentences, 1):
                yield from _clauses(sentence, max_chars, after_s if place == len(sentences) else SENTENCE_PAUSE_S)


def _sentences(paragraph: str) -> Iterator[str]:
    start = 0
    for match in _END.finditer(paragraph):
        if _ends_sentence(paragraph, start, match):
            yield paragraph[start : match.end()].strip()
            start = match.end()
    if start < len(paragraph):
        yield paragraph[start:].strip()


def _ends_sentence(paragraph: str, start: int, match: re.Match[str]) -> bool:
    behind = match.end()
    if paragraph[behind : behind + 1] == " ":
        behind += 1
    elif behind < len(paragraph) and _ADDRESS.search(paragraph, max(start, match.start() - 60), match.start()):
        return False
    following = paragraph[behind : behind + 1]
    if not following:
        return True
    if following.islower():
        return False
    if match.group()[0] != "." or len(match.group().rstrip(_CLOSING)) > 1:
        return True
    if _ITEM.fullmatch(paragraph[start : match.start()].strip("([ ")):  # "1. First" is an item of a list
        return False
    before = paragraph[max(start, match.start() - 40) : match.start()]
    found = _LAST_WORD.search(before)
    word = found.group() if found else ""
    before = before[: len(before) - len(word)]
    next_word = _NEXT_WORD.match(paragraph, behind)
    begins = next_word is not None and begins_sentence(next_word.group())
    if following.isdigit() and ABBREVIATED_BOOK.compiled.search(before + word):
        return False
    if word in BEFORE_FIGURE and (following.isdigit() or _YEAR.match(paragraph, behind)):
        return word.lower() == "no" and not no_is_a_number(before, word, stop=True)
    if (BEFORE_FIGURE.get(word) or word.lower() in ("vol", "vols")) and _NUMERAL.match(paragraph, behind):
        return False
    if following.isdigit() and (word in ORDINARY_WORDS or (len(word) == 1 and word.islower())):  # "c. 1500", "4s. 6d."
        return False
    if word in ABBREVIATIONS or word == "St":
        return (word in MAY_END and bool(before.strip())) or word in ORDINARY_WORDS or begins  # "Sr. Gomez" goes on
    if len(word) == 1 and word.isupper() and word != "I":  # "J."
        return letter_ends_sentence(before, next_word.group() if next_word else None)
    if word.lower() in ("a.m", "p.m"):
        return half_day_ends_sentence(before, next_word.group() if next_word else None)
    return begins if "." in word else True  # "U.S."


def _clauses(sentence: str, max_chars: int, pause_s: float) -> Iterator[tuple[str, float]]:
    """The sentence in about equal parts, cut at the best marks there are."""
    while True:
        ends = list(accumulate(map(spoken_letters, sentence[: max_chars + 1])))
        if len(sentence) == len(ends) and ends[-1] <= max_chars:
            break
        most = max(1, bisect_right(ends, max_chars))  # so many characters fit
        rest = len(sentence) - most
        ideal = most if rest >= most else (most + rest) // 2
        cut, pause_after_s = _best_cut(sentence, most, ideal)
        yield sentence[:cut].strip(), pause_after_s
        sentence = sentence[cut:].strip()
    if sentence:
        yield sentence, pause_s


def _best_cut(sentence: str, most: int, ideal: int) -> tuple[int, float]:
    """Where to cut within the first ``most`` characters, near the ideal, and the pause there."""
    for pattern, pause_s in _CUTS:
        cuts: Iterable[int] = (match.end() for match in pattern.finditer(sentence, 0, most + 1))
        fitting = [cut for cut in cuts if most // 4 < cut <= most]
        if fitting:
            return min(fitting, key=lambda cut: abs(cut - ideal)), pause_s
    return most, WORD_PAUSE_S
