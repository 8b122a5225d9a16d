"""What a clip sounds like, as far as a check of a manifest needs to know: read once, file by file.

n samples.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chelys.audio.stream import open_audio
from chelys.errors import AudioError

_LOUD = 0.02  # of the peak: what is quieter at the ends of a clip is taken for silence


class Piece(NamedTuple):
    """A clip of a file.

    Attributes:
        start: Where it begins (seconds).
        end: Where it ends; None is the file's end.
    """

    start: float
    end: float | None


@dataclass(frozen=True)
class Heard:
    """What a clip sounds like.

    Attributes:
        fault: Why nothing could be heard, or not all; None if all was.
        seconds: Its length; of a clip that is longer than asked for, what was listened to.
        sounding: Seconds from its first loud sample to its last.
        peak: Largest sample, of full scale.
        level: Root mean square.
        clipping: Share of the samples within 1 % of the largest.
        rate: Hz.
        digest: Of the samples at 16 bits, so that copies in other lossless formats have the same.
    """

    fault: str | None
    seconds: float = 0.0
    sounding: float = 0.0
    peak: float = 0.0
    level: float = 0.0
    clipping: float = 0.0
    rate: int = 0
    digest: bytes = b""


def listen(path: Path, pieces: list[Piece], most: float) -> list[Heard]:
    """Listen to the clips of a file, in one pass.

    Args:
        path: The file.
        pieces: Its clips.
        most: Seconds of a clip after which there is no need to go on.

    Returns:
        One for each piece, in their order.
    """
    gathered: list[list[np.ndarray]] = [[] for _ in pieces]
    try:
        with open_audio(path) as stream:
            rate = stream.sample_rate
            bounds = [_bounds(piece, rate, most) for piece in pieces]
            read, last = 0, max(end for _, end in bounds)
            for block in stream.blocks():
                for (start, end), parts in zip(bounds, gathered, strict=True):
                    if start < read + len(block) and end > read:
                        parts.append(block[max(0, start - read) : end - read])
                read += len(block)
                if read >= last:
                    break
            damage = stream.damage
    except AudioError as error:
        return [Heard(str(error))] * len(pieces)
    except OSError as error:
        return [Heard(error.strerror or str(error))] * len(pieces)
    heard = []
    for piece, (_, end), parts in zip(pieces, bounds, gathered, strict=True):
        samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        fault = damage if end > read else None
        if not len(samples):
            fault = fault or "holds no samples"
        elif piece.end is not None and end - read > 0.1 * rate:
            fault = fault or f"the clip ends at {piece.end:.2f} s, the file at {read / rate:.2f} s"
        heard.append(_measure(samples, rate, fault))
    return heard


def _bounds(piece: Piece, rate: int, most: float) -> tuple[int, int]:
    """First sample of interest and the one after the last."""
    end = piece.start + most + 1
    return round(piece.start * rate), round((end if piece.end is None else min(end, piece.end)) * rate)


def _measure(samples: np.ndarray, rate: int, fault: str | None) -> Heard:
    if not len(samples):
        return Heard(fault, rate=rate)
    if not np.isfinite(samples).all():
        return Heard("holds samples that are not finite numbers", rate=rate)
    size = np.abs(samples)
    peak = float(size.max())
    loud = np.flatnonzero(size >= _LOUD * peak)
    return Heard(
        fault,
        seconds=len(samples) / rate,
        sounding=float(loud[-1] + 1 - loud[0]) / rate,
        peak=peak,
        level=float(np.sqrt(np.square(samples, dtype=np.float64).mean())),
        clipping=float((size >= 0.99 * peak).mean()),
        rate=rate,
        digest=hashlib.blake2b(np.round(samples * 32768).astype("<i4").tobytes(), digest_size=16).digest(),
    )
