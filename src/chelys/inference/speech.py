"""What synthesis returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

#: Called with the name of a stage of the work, its steps done and their number.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Candidate:
    """One rendering of a whole text.

    Attributes:
        audio: ``(n,)`` float32 in [-1, 1].
        score: Mean of the scores of its sentences; higher is better. Not a number if nothing was ranked.
        codes: Speech codes of each sentence, or of each piece of a streamed one.
    """

    audio: np.ndarray
    score: float
    codes: list[list[int]]


@dataclass(frozen=True)
class Chunk:
    """One sentence, or a piece of one, as soon as it is ready.

    Attributes:
        audio: ``(n,)`` float32 in [-1, 1], with the pause that follows.
        sample_rate: Hz.
        text: The sentence; empty if an earlier chunk named it.
        candidates: The kept candidates, best first; ``audio`` is the first one's.
        scores: CLVP scores of all candidates that were sampled, in the order of sampling.
        warnings: What the user should know.
    """

    audio: np.ndarray
    sample_rate: int
    text: str
    candidates: list[Candidate]
    scores: list[float] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Speech:
    """A spoken text.

    Attributes:
        audio: ``(n,)`` float32 in [-1, 1].
        sample_rate: Hz.
        candidates: The kept candidates, best first; ``audio`` is the first one's.
        receipt: What was asked for and what was made, ready for JSON.
        warnings: What the user should know.
    """

    audio: np.ndarray
    sample_rate: int
    candidates: list[Candidate]
    receipt: dict[str, Any]
    warnings: list[str]

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return len(self.audio) / self.sample_rate

    def save(self, path: str | Path) -> None:
        """Write wav, flac, ogg or mp3, by the suffix.

        Raises:
            OutputError: If the suffix is unknown or the file cannot be written.
        """
        from chelys.audio.io import write  # late: most speech is not written to files

        write(Path(path), self.audio, self.sample_rate)
