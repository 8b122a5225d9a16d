"""Texts and codes with the errors of a decoder that misreads: what CLVP must notice when it ranks candidates.

Such a decoder drops, repeats, swaps or mangles words, ends early or runs on. Here a text or a sequence of codes is
changed in that way, so that the two no longer match, though most of them still does.

m codes of a clip, o of another.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

#: Most words that are repeated, or cut off the end.
MOST_WORDS = 3
#: Smallest and largest length in codes of a stretch within a clip: 0.13 to 0.5 s, about a word.
STRETCH = 3, 12
#: Smallest and largest number of codes by which an end comes early or late: 0.17 to 0.64 s; less may be silence.
END = 4, 15

#: Some errors cannot be heard ("that that" swapped); then another is tried, at most so often.
_TRIES = 8
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*'?")


# ---- texts ----------------------------------------------------------------------------------------------------------


class _Words(NamedTuple):
    """A text taken apart: ``gaps[i]`` lies before word i, the last gap after all.

    Marks lie in gaps and stay where they are, so that the end of a corrupted text looks like any other.
    """

    words: list[str]
    gaps: list[str]

    def text(self) -> str:
        return self.gaps[0] + "".join(word + gap for word, gap in zip(self.words, self.gaps[1:], strict=True))


def corrupt_text(text: str, other: str, rng: np.random.Generator, pronounce: Callable[[str], str] = str.lower) -> str:
    """The text with an error in one place, a function of the state of ``rng``.

    One word is dropped, one to three are repeated, two neighbours swap, one becomes a word of another text (which may
    be empty), or the last one to three are cut: equally likely, of those for which the text is long enough. Numbers and
    signs must be written out, and there must be a word. What ``pronounce`` makes the same ("two", "too") is no
    corruption.
    """
    right, strange = _split_words(text), _WORD.findall(other)
    sound = [pronounce(word) for word in right.words]
    kinds = [
        "repeat",
        *(["drop", "swap", "truncate"] if len(right.words) > 1 else []),
        *(["replace"] if strange else []),
    ]
    for _ in range(_TRIES):
        wrong = _corrupt_words(kinds[int(rng.integers(len(kinds)))], right, strange, rng)
        if [pronounce(word) for word in wrong.words] != sound:
            return wrong.text()
    return _corrupt_words("repeat", right, strange, rng).text()  # one word more is always another text


def _split_words(text: str) -> _Words:
    found = list(_WORD.finditer(text))
    if not found:
        raise ValueError(f"no word in {text!r}: there is nothing to corrupt")
    edges = [0, *(edge for match in found for edge in match.span()), len(text)]
    gaps = [text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]
    return _Words([match.group() for match in found], gaps)


def _corrupt_words(kind: str, text: _Words, strange: list[str], rng: np.random.Generator) -> _Words:
    words, gaps = text
    if kind == "drop":
        return _without(text, int(rng.integers(len(words))), 1)
    if kind == "truncate":
        count = int(rng.integers(1, min(MOST_WORDS, len(words) - 1) + 1))
        return _without(text, len(words) - count, count)
    if kind == "swap":
        at = int(rng.integers(len(words) - 1))
        return _Words([*words[:at], words[at + 1], words[at], *words[at + 2 :]], gaps)
    if kind == "replace":
        at, word = int(rng.integers(len(words))), strange[int(rng.integers(len(strange)))]
        return _Words([*words[:at], word, *words[at + 1 :]], gaps)
    count = int(rng.integers(1, min(MOST_WORDS, len(words)) + 1))
    first = int(rng.integers(len(words) - count + 1))
    return _Words(words[: first + count] + words[first:], [*gaps[: first + count], " ", *gaps[first + 1 :]])


def _without(text: _Words, first: int, count: int) -> _Words:
    """Leave words out; of the gaps around them the one that is left is an outer one, or the one with most marks."""
    past = first + count
    if first == 0 or past == len(text.words):
        gap = text.gaps[0 if first == 0 else past]
    else:
        gap = max(text.gaps[first : past + 1], key=len)
    return _Words(text.words[:first] + text.words[past:], [*text.gaps[:first], gap, *text.gaps[past + 1 :]])


# ---- codes ----------------------------------------------------------------------------------------------------------


def corrupt_codes(codes: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """Codes of a clip ``(m,)``, m > 0, wrong in one place and mostly of another length; a function of ``rng``.

    A stretch is removed, repeated, or replaced by one of another clip ``(o,)``, which may be empty; or the end is cut,
    or continued by a stretch of another clip. Each is as likely as any other, so that on average about as much is added
    as taken away: at most half of the codes.
    """
    kinds = [
        "repeat",
        *(["remove", "shorten"] if len(codes) > 1 else []),
        *(["splice", "continue"] if len(other) else []),
    ]
    for _ in range(_TRIES):
        wrong = _corrupt_codes(kinds[int(rng.integers(len(kinds)))], codes, other, rng)
        if not torch.equal(wrong, codes):
            return wrong
    return _corrupt_codes("repeat", codes, other, rng)  # of another length, so never the same


def _corrupt_codes(kind: str, codes: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    half = len(codes) // 2
    if kind == "remove":
        start, end = _stretch(codes, STRETCH, half, rng)
        return torch.cat([codes[:start], codes[end:]])
    if kind == "shorten":
        return codes[: len(codes) - min(_sample_length(END, rng), half)]
    if kind == "splice":
        start, end = _stretch(other, STRETCH, max(1, half), rng)
        at = int(rng.integers(len(codes) - (end - start) + 1))
        return torch.cat([codes[:at], other[start:end], codes[at + end - start :]])
    if kind == "continue":
        start, end = _stretch(other, END, len(other), rng)
        return torch.cat([codes, other[start:end]])
    start, end = _stretch(codes, STRETCH, max(1, half), rng)
    return torch.cat([codes[:end], codes[start:]])


def _stretch(codes: Tensor, limits: tuple[int, int], most: int, rng: np.random.Generator) -> tuple[int, int]:
    """Start and end of a stretch, no longer than ``most`` or the codes."""
    length = min(_sample_length(limits, rng), most, len(codes))
    start = int(rng.integers(len(codes) - length + 1))
    return start, start + length


def _sample_length(limits: tuple[int, int], rng: np.random.Generator) -> int:
    least, most = limits
    return int(rng.integers(least, most + 1))
