"""Which words were heard in place of those that were to be said, and the diseases of autoregressive speech.

Words are compared in Whisper's plain spelling (Radford et al. 2022, appendix C), aligned by jiwer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from chelys.audio.recognition import Recogniser, hear
from chelys.errors import MissingExtra

#: Seconds a character; fluent English lies between 0.05 and 0.09. Below a text of 20 characters this says nothing.
SHORT, LONG, LEAST = 0.035, 0.13, 20


@dataclass(frozen=True)
class WordComparison:
    """The words of a text and those that were heard, both in plain spelling; counts of words."""

    reference: str
    transcript: str
    substituted: int
    deleted: int
    inserted: int  # doubled ones among them
    doubled: int  # inserted words that repeat those beside them
    cer: float  # wrong characters over characters

    @property
    def errors(self) -> int:
        """All of them."""
        return self.substituted + self.deleted + self.inserted

    @property
    def words(self) -> int:
        """That were to be said."""
        return len(self.reference.split())


def plain(text: str) -> str:
    """A text in Whisper's plain spelling. Raises MissingExtra without the package of its rules."""
    return str(_spelling()(text))


@cache
def _spelling() -> Any:
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise MissingExtra("eval", error) from error
    return EnglishTextNormalizer()


def compare_words(reference: str, transcript: str) -> WordComparison:
    """Compare two texts in plain spelling; nothing heard is one strange word. Raises MissingExtra without jiwer."""
    try:
        import jiwer
    except ImportError as error:
        raise MissingExtra("eval", error) from error
    transcript = transcript or "_"
    found = jiwer.process_words(reference, transcript)
    wanted, got = reference.split(), transcript.split()
    doubled = 0
    for chunk in found.alignments[0]:
        if chunk.type == "insert":
            run, at = got[chunk.hyp_start_idx : chunk.hyp_end_idx], chunk.ref_start_idx
            doubled += len(run) if run in (wanted[max(0, at - len(run)) : at], wanted[at : at + len(run)]) else 0
    return WordComparison(
        reference,
        transcript,
        found.substitutions,
        found.deletions,
        found.insertions,
        doubled,
        float(jiwer.cer(reference, transcript)),
    )


def listen(recogniser: Recogniser, audio: np.ndarray, text: str) -> WordComparison:
    """Compare what is heard in ``(n,)`` samples at 16 kHz with a text."""
    return compare_words(plain(text), plain(hear(recogniser, audio)))


def error_rate(found: Sequence[WordComparison]) -> float:
    """All errors over all words."""
    return sum(words.errors for words in found) / sum(words.words for words in found)


def is_cut(words: WordComparison, seconds: float, characters: int) -> bool:
    """Whether the end is missing: the last word was not heard, and the take is short for its text."""
    short = characters >= LEAST and seconds < SHORT * characters
    return bool(short and words.deleted and words.reference.split()[-1] != words.transcript.split()[-1])


def runs_away(words: WordComparison, seconds: float, characters: int) -> bool:
    """Whether speech went on after the text: words came on top, or the take is long for its text."""
    long = characters >= LEAST and seconds > LONG * characters
    return bool(long or words.inserted > max(2, words.words // 4))


def sentences_astray(sentences: Sequence[str], transcript: str) -> tuple[list[str], list[str]]:
    """Which sentences of a long text were lost, and which were said twice.

    A sentence is lost where fewer than half of its words were heard, and repeated where half as many words as it has,
    or more, were added within it or behind it and are words of it. ``sentences``: in plain spelling, in order;
    ``transcript``: all that was heard, likewise.
    """
    import jiwer

    of_word = [i for i, sentence in enumerate(sentences) for _ in sentence.split()]
    hits = dict.fromkeys(range(len(sentences)), 0)
    added: dict[int, list[str]] = {i: [] for i in hits}
    for chunk in jiwer.process_words(" ".join(sentences), transcript).alignments[0]:
        if chunk.type == "equal":
            for place in of_word[chunk.ref_start_idx : chunk.ref_end_idx]:
                hits[place] += 1
        elif chunk.type == "insert":
            added[of_word[max(0, chunk.ref_start_idx - 1)]] += transcript.split()[
                chunk.hyp_start_idx : chunk.hyp_end_idx
            ]
    own = [sentence.split() for sentence in sentences]
    lost = [sentence for i, sentence in enumerate(sentences) if hits[i] < len(own[i]) / 2]
    repeated = [
        sentence
        for i, sentence in enumerate(sentences)
        if sum(word in own[i] for word in added[i]) >= max(2, len(own[i]) / 2)
    ]
    return lost, repeated
