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
    """One rendering of a whole text."""

    audio: np.ndarray  # ``(n,)`` float32 in [-1, 1]
    score: float  # Mean of the scores of its sentences; higher is better. Not a number if nothing was ranked.
    codes: list[list[int]]  # speech codes of each sentence, or of each piece of a streamed one


@dataclass(frozen=True)
class Chunk:
    """One sentence, or a piece of one, as soon as it is ready."""

    audio: np.ndarray  # ``(n,)`` float32 in [-1, 1], with the pause that follows
    sample_rate: int  # hz
    text: str  # the sentence; empty if an earlier chunk named it
    candidates: list[Candidate]  # the kept candidates, best first; ``audio`` is the first one's
    #: CLVP scores of all candidates that were sampled, in the order of sampling
    scores: list[float] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # what the user should know


@dataclass(frozen=True)
class Speech:
    """A spoken text."""

    audio: np.ndarray  # ``(n,)`` float32 in [-1, 1]
    sample_rate: int  # hz
    candidates: list[Candidate]  # the kept candidates, best first; ``audio`` is the first one's
    receipt: dict[str, Any]  # what was asked for and what was made, ready for JSON
    warnings: list[str]  # what the user should know

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return len(self.audio) / self.sample_rate

    def save(self, path: str | Path) -> None:
        """Write wav, flac, ogg or mp3, by the suffix.

        Raises OutputError if the suffix is unknown or the file cannot be written.
        """
        from chelys.audio.io import write  # late: most speech is not written to files

        write(Path(path), self.audio, self.sample_rate)
