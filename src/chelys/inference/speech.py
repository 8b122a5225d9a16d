"""What synthesis returns."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import ModelError, OutputError

#: Called with the name of a stage of the work, its steps done and their number.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, repr=False)
class Candidate:
    """One rendering of a whole text."""

    audio: np.ndarray  # ``(n,)`` float32 in [-1, 1]
    score: float  # Mean of the scores of its sentences; higher is better. Not a number if nothing was ranked.
    codes: list[list[int]]  # speech codes of each sentence, or of each piece of a streamed one

    def __repr__(self) -> str:
        return f"<Candidate: {len(self.audio)} samples, score {self.score:.4g}>"


@dataclass(frozen=True, repr=False)
class Chunk:
    """One sentence, or a piece of one, as soon as it is ready."""

    audio: np.ndarray  # ``(n,)`` float32 in [-1, 1], with the pause that follows
    sample_rate: int  # hz
    text: str  # the sentence; empty if an earlier chunk named it
    candidates: list[Candidate]  # the kept candidates, best first; ``audio`` is the first one's
    #: CLVP scores of all candidates that were sampled, in the order of sampling
    scores: list[float] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # what the user should know
    sentence: int = 0  # place of the sentence in the text, from 0
    sentences: int = 1  # how many the text has
    complete: bool = True  # whether the sentence ends here for certain; False for the pieces of a streamed one

    def __repr__(self) -> str:
        return f"<Chunk: {len(self.audio) / self.sample_rate:.2f} s, {shorten(self.text)!r}>"


@dataclass(frozen=True, repr=False)
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

    def to_bytes(self, format: str = "wav") -> bytes:
        """A sound file in memory: ``wav``, ``flac``, ``mp3``, ``ogg`` (Vorbis), ``opus`` (in Ogg), or ``pcm``.

        ``pcm`` is 16-bit little-endian samples without a header. Raises OutputError if the format is unknown.
        """
        from chelys.audio.io import to_bytes  # late: most speech is not written to files

        return to_bytes(self.audio, self.sample_rate, format)

    def save(self, target: str | Path | BinaryIO, format: str | None = None) -> None:
        """Write a sound file: to a path, whole or not at all, or into an open binary file, which stays open.

        ``format`` is one of ``to_bytes``; None takes a path's suffix, or wav. Raises OutputError if the suffix or the
        format is unknown, or the path cannot be written.
        """
        from chelys.audio.io import check_output, to_bytes
        from chelys.files import output_file

        if isinstance(target, (str, Path)):
            format = format or check_output(target)
            data = to_bytes(self.audio, self.sample_rate, format)
            with output_file(target) as file:
                file.write(data)
        elif callable(getattr(target, "write", None)):
            target.write(self.to_bytes(format or "wav"))
        else:
            raise OutputError(f"cannot write to {type(target).__name__}: give a path or an open binary file")

    def __repr__(self) -> str:
        parts = [f"{self.seconds:.2f} s at {self.sample_rate} Hz"]
        if self.receipt.get("voice"):
            parts.append(f"voice {self.receipt['voice']}")
        if self.receipt.get("seed") is not None:
            parts.append(f"seed {self.receipt['seed']}")
        if len(self.candidates) > 1:
            parts.append(f"{len(self.candidates)} candidates")
        return f"<Speech: {', '.join(parts)}, {shorten(self.receipt.get('text', ''))!r}>"

    def _repr_html_(self) -> str:
        """A player, in notebooks."""
        data = base64.b64encode(self.to_bytes("flac")).decode()
        about = html.escape(repr(self))
        return f'<audio controls src="data:audio/flac;base64,{data}" aria-label="{about}"></audio><br>{about}'


def as_audio(samples: Tensor) -> np.ndarray:
    """Samples of any shape as float32 ``(n,)``. Raises ModelError if they are no finite numbers."""
    audio: np.ndarray = samples.flatten().float().cpu().numpy()
    if not np.isfinite(audio).all():
        raise ModelError(
            "the model and the voice make samples that are no finite numbers: get both again, or choose --dtype float32"
        )
    return audio


def silence(seconds: float) -> np.ndarray:
    """So many seconds of it, ``(n,)`` float32."""
    return np.zeros(round(seconds * OUTPUT_RATE), np.float32)


def shorten(text: str, most: int = 60) -> str:
    """A text, or its beginning."""
    return text if len(text) <= most else text[: most - 1] + "…"
