"""Sentences and pauses to one sound, kept on the disk until its loudness is known: memory does not grow with it.

n samples.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from chelys.audio.io import to_pcm
from chelys.audio.rates import OUTPUT_RATE
from chelys.audiobook.sound import CEILING_DB, TARGET_LUFS, Limiter, LoudnessMeter, leveled, speech_span
from chelys.files import output_errors

#: Samples that a sentence keeps before and behind its speech, at most, to fade in and out; and at least: 10 and 2.5 ms.
_EDGE, _LEAST_EDGE = OUTPUT_RATE // 100, OUTPUT_RATE // 400
_BLOCK = 1 << 16  # samples
#: Loudness of each sentence as it is kept (LUFS): low enough that no peak is cut.
_KEPT_LUFS = -26.0
#: A file is as loud as asked to so many LU, or as near as so many trials bring it.
_EXACT_LU, _TRIALS = 0.05, 3


@dataclass(frozen=True)
class Placed:
    """Where a sentence came to lie."""

    start_s: float  # of its first speech, seconds from the beginning
    end_s: float  # of its last speech
    trimmed_s: float  # seconds of the take that were cut before it


@dataclass
class _Held:
    """A sentence that waits for the pause behind it."""

    audio: np.ndarray  # (n,) with the edges
    before: int  # samples of the edge before its speech
    behind: int


class Track:
    """A sound that grows at its end. A context manager; what it kept on the disk is gone at its end.

    Args:
        folder: Where it is kept: a file without a name, two bytes a sample.
        lead_s: Silence at the beginning, seconds.
    """

    def __init__(self, folder: Path, lead_s: float = 0.0) -> None:
        self._folder = folder
        with output_errors(folder):
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, prefix=".chelys-", suffix=".part")
        self.samples = 0  # on the disk
        self._meter = LoudnessMeter()
        self._pause_s = lead_s  # silence that is due
        self._held: _Held | None = None

    def __enter__(self) -> Track:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def pause(self, seconds: float) -> None:
        """Ask for silence before the next sentence; the longest that is asked for counts."""
        self._pause_s = max(self._pause_s, seconds)

    def add(self, audio: np.ndarray) -> Placed:
        """A take ``(n,)``, trimmed to its speech, as loud as all, after the pause that is due.

        Raises OutputError if it cannot be kept.
        """
        start, end = speech_span(audio)
        first, last = max(0, start - _EDGE), min(len(audio), end + _EDGE)
        piece = _Held(leveled(audio[first:last], _KEPT_LUFS), start - first, last - end)
        begin = self._join(piece)
        return Placed(begin / OUTPUT_RATE, (begin + end - start) / OUTPUT_RATE, start / OUTPUT_RATE)

    def end(self) -> float:
        """Write what waits, with the pause that is due. Returns the seconds so far; more can be added."""
        self._join(None)
        return self.samples / OUTPUT_RATE

    def _join(self, piece: _Held | None) -> int:
        """Write the sentence that waits and the pause; ``piece`` waits then. Returns the sample of its first speech.

        The pause counts from speech to speech, so the edges of both, which fade, are part of it.
        """
        room = round(self._pause_s * OUTPUT_RATE)
        held, self._held, self._pause_s = self._held, piece, 0.0
        behind = 0
        if held is not None:
            behind = min(held.behind, max(room // 2, _LEAST_EDGE))
            sound = held.audio[: len(held.audio) - held.behind + behind]
            self._write(_faded(sound, held.before, behind))
        if piece is not None:
            before = min(piece.before, max(room - behind, _LEAST_EDGE))
            piece.audio, piece.before = piece.audio[piece.before - before :], before
            behind += before
        for at in range(0, room - behind, _BLOCK):
            self._write(np.zeros(min(_BLOCK, room - behind - at), np.float32))
        return self.samples + (piece.before if piece is not None else 0)

    def _write(self, audio: np.ndarray) -> None:
        with output_errors(self._folder):
            self._file.write(to_pcm(audio).tobytes())
        self._meter.feed(audio)
        self.samples += len(audio)

    def mastered(self, meter: LoudnessMeter) -> Iterator[np.ndarray]:
        """The whole sound in pieces ``(n,)``, float32, at its loudness, its peaks held; ``meter`` hears it too.

        It is read some times before: to learn how much is lost where peaks are turned down.
        """
        gain_db, missing = 0.0, TARGET_LUFS - self._meter.loudness
        for _ in range(_TRIALS):
            if not math.isfinite(missing) or abs(missing) < _EXACT_LU:  # silence; loud enough
                break
            gain_db += missing
            trial = LoudnessMeter()
            for block in self._blocks(gain_db):
                trial.feed(block)
            missing = TARGET_LUFS - trial.loudness
        for block in self._blocks(gain_db):
            meter.feed(block)
            yield block

    def _blocks(self, gain_db: float) -> Iterator[np.ndarray]:
        gain = np.float32(10 ** (gain_db / 20) / 32768)
        with output_errors(self._folder):
            self._file.flush()
            self._file.seek(0)
        limiter = Limiter(10 ** (CEILING_DB / 20))
        while data := self._file.read(2 * _BLOCK):
            yield limiter.feed(np.frombuffer(data, "<i2").astype(np.float32) * gain)
        yield limiter.finish()
        self._file.seek(0, 2)


def _faded(audio: np.ndarray, before: int, behind: int) -> np.ndarray:
    """A sound ``(n,)`` whose first and last samples rise from and fall to silence, by half a cosine."""
    audio = audio.copy()
    for edge, part in ((max(before, _LEAST_EDGE), slice(None)), (max(behind, _LEAST_EDGE), slice(None, None, -1))):
        edge = min(edge, len(audio) // 2)
        audio[part][:edge] *= (0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / max(edge, 1))).astype(np.float32)
    return audio
