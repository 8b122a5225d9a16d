"""What stands between the words: markup, read into runs of text and pauses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """Text that is spoken in one way."""

    text: str  # as it is written
    phonemes: str = ""  # how all of it sounds, whatever the lexicon says
    spoken: str = ""  # the words that the phonemes are
    rate: float = 1.0  # pace: 2 is twice as fast
    voice: str | None = None  # name of the voice; None is the caller's


@dataclass(frozen=True)
class Pause:
    """Silence in place of what the punctuation before it would give."""

    seconds: float
    asked: bool = (
        True  # by the author; otherwise it stands for a border, such as that of a paragraph, and may be longer
    )
