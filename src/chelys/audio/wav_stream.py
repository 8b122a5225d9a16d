"""16-bit samples, and a WAV file that grows while it is being spoken."""

from __future__ import annotations

import os
import struct
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from chelys.audio.output import WholeFile, check_output

_UNKNOWN_SIZE = 0xFFFFFFFF


def to_pcm(audio: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as int16, the inverse of how 16-bit files are read (1 is 32768); ``(n,)`` to ``(n,)``."""
    return np.clip(np.rint(checked(audio) * np.float32(32768)), -32768, 32767).astype("<i2")


def checked(audio: np.ndarray) -> np.ndarray:
    """The samples as float32; anything but finite numbers ``(n,)`` is a fault of the caller."""
    samples = np.asarray(audio, dtype=np.float32)
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise ValueError(f"audio to write must be finite and of shape (n,), not {samples.shape}")
    return samples


class WavStream:
    """A 16-bit mono WAV that is written while it is being spoken.

    Onto a pipe its header says that the length is unknown (sizes 0xFFFFFFFF, which players take as "until the end");
    where one can seek, the sizes are put right at the end. A path gets the file only when the ``with`` block ends well.

    Args:
        target: Path of a ``.wav`` file, or an open binary file, which is left open.
        rate: Sample rate, Hz.

    Raises:
        OutputError: From ``with`` and ``write``, if a path cannot be written.
    """

    def __init__(self, target: str | Path | BinaryIO, rate: int) -> None:
        self.rate = rate
        self._whole: WholeFile | None = None
        if isinstance(target, (str, Path)):
            check_output(target, formats=("wav",))
            self._whole = WholeFile(target)
        self._file: BinaryIO | WholeFile = self._whole or target  # type: ignore[assignment]
        self._bytes = 0

    def __enter__(self) -> WavStream:
        with ExitStack() as stack:
            if self._whole:
                stack.enter_context(self._whole)
            self._start = self._file.tell() if self._file.seekable() else None
            self._file.write(_wav_header(self.rate, None))
            self._file.flush()
            self._stack = stack.pop_all()
        return self

    def write(self, audio: np.ndarray) -> None:
        """Add samples ``(n,)`` in [-1, 1]; they are on their way when this returns."""
        data = to_pcm(audio).tobytes()
        self._file.write(data)
        self._file.flush()
        self._bytes += len(data)

    @property
    def seconds(self) -> float:
        """Length so far."""
        return self._bytes / 2 / self.rate

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            if self._start is not None:
                self._file.seek(self._start)
                self._file.write(_wav_header(self.rate, self._bytes))
                self._file.seek(0, os.SEEK_END)
                self._file.flush()


def _wav_header(rate: int, data_bytes: int | None) -> bytes:
    """The 44 bytes before the samples of a 16-bit mono WAV; None for a length that nobody knows yet."""
    data = _UNKNOWN_SIZE if data_bytes is None else min(data_bytes, _UNKNOWN_SIZE)
    riff = min(data + 36, _UNKNOWN_SIZE)
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", riff, b"WAVE") + layout + struct.pack("<4sI", b"data", data)
