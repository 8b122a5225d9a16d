"""Recordings of any length and kind, read in pieces: memory does not grow with the recording.

libsndfile reads what it can; PyAV (extra ``prepare``) the rest: m4a, aac, wma, g722, the sound of videos.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile as sf
import soxr

from chelys.errors import AudioError, MissingExtra

_BLOCK = 1 << 16  # samples of each channel
_RATES = range(1_000, 1_000_001)  # Hz; a header that claims another is damaged
_MISSING_SECONDS = 0.5  # less than that is how encoders count, not a loss
_MOST_CHANNELS = 64

#: Suffix -> demuxer of ffmpeg. It is always named: one that is guessed could be a playlist, which opens other files.
_DEMUXERS = {
    **dict.fromkeys(".m4a .m4b .mp4 .m4v .mov .3gp".split(), "mp4"),
    **dict.fromkeys(".wma .wmv .asf".split(), "asf"),
    **dict.fromkeys(".webm .mka .mkv".split(), "matroska"),
    **dict.fromkeys(".mpg .mpeg".split(), "mpeg"),
    ".aac": "aac", ".avi": "avi", ".flv": "flv", ".ts": "mpegts", ".amr": "amr", ".ac3": "ac3", ".ape": "ape",
    ".g722": "g722", ".gsm": "gsm",
}  # fmt: skip
_HEADS = ((4, b"ftyp", "mp4"), (0, b"\x1a\x45\xdf\xa3", "matroska"), (8, b"AVI ", "avi"), (0, b"FLV\x01", "flv"),
          (0, b"\x30\x26\xb2\x75", "asf"), (8, b"WAVE", "wav"))  # fmt: skip


class Stream(Protocol):
    """An open recording.

    Attributes:
        rate: Hz.
        damage: What is wrong with it, known when all blocks are read; None if nothing is.
    """

    rate: int
    damage: str | None

    def blocks(self) -> Iterator[np.ndarray]:
        """The mean of its channels in pieces, float32 ``(n,)``."""
        ...


@contextmanager
def open_stream(path: Path) -> Iterator[Stream]:
    """Open a recording.

    Raises:
        AudioError: If it is not audio, or so damaged that nothing can be read.
        MissingExtra: If PyAV is needed and not installed.
    """
    demuxer = _demuxer(path)
    if demuxer is None or demuxer == "wav":
        try:
            file = _Forward(os.fsencode(path) if os.name != "nt" else str(path))
        except (sf.SoundFileError, TypeError, OSError) as error:
            if demuxer is None:
                raise AudioError("not audio, or damaged from the start") from error
        else:
            with file:
                _check(file.samplerate, file.channels)
                yield _SoundFileStream(path, file)
                return
    with _open_av(path, demuxer or "") as (stream, container):
        yield _AvStream(stream, container)


def _demuxer(path: Path) -> str | None:
    """Of the head of a file, or of its name; None for what libsndfile reads."""
    with path.open("rb") as file:
        head = file.read(12)
    for offset, mark, demuxer in _HEADS:
        if head[offset : offset + len(mark)] == mark:
            return demuxer
    return _DEMUXERS.get(path.suffix.lower())


def _check(rate: int, channels: int) -> None:
    if rate not in _RATES:
        raise AudioError(f"claims a sample rate of {rate} Hz")
    if channels not in range(1, _MOST_CHANNELS + 1):
        raise AudioError(f"claims {channels} channels")


class _Forward(sf.SoundFile):
    """A file that is read from begin to end: soundfile would seek after each block, which costs frames of an MP3."""

    def seekable(self) -> bool:
        return False


class _SoundFileStream:
    def __init__(self, path: Path, file: sf.SoundFile) -> None:
        self.path, self.file, self.rate = path, file, file.samplerate
        self.damage: str | None = None

    def blocks(self) -> Iterator[np.ndarray]:
        read = 0
        while True:
            try:
                block = self.file.read(_BLOCK, dtype="float32", always_2d=True)
            except (sf.SoundFileError, OSError):
                self.damage = f"damaged after {read / self.rate:.1f} s"
                return
            if not len(block):
                break
            mono = block.mean(axis=1)
            if not np.isfinite(mono).all():
                self.damage = f"holds no numbers after {read / self.rate:.1f} s"
                return
            read += len(mono)
            yield mono
        promised = max(self.file.frames, _frames_of_riff(self.path, self.file))
        if _MISSING_SECONDS * self.rate < promised - read < 1 << 48:  # streams claim lengths beyond all measure
            self.damage = f"ends early: {read / self.rate:.1f} s of {promised / self.rate:.1f} s"


def _frames_of_riff(path: Path, file: sf.SoundFile) -> int:
    """Frames that a WAV's head promises; libsndfile quietly believes the file's size instead."""
    with path.open("rb") as raw:
        head = raw.read(8)
    size = int.from_bytes(head[4:8], "little")
    if head[:4] != b"RIFF" or size >= 0x7FFFF000 or file.subtype not in _BYTES:
        return 0
    missing = size + 8 - path.stat().st_size
    return file.frames + max(missing, 0) // (_BYTES[file.subtype] * file.channels)


_BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}


@contextmanager
def _open_av(path: Path, demuxer: str) -> Iterator[tuple[Any, Any]]:
    try:
        import av
    except ImportError as error:
        raise MissingExtra("prepare", error) from error
    try:
        with path.open("rb") as file, av.open(file, format=demuxer, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise AudioError("holds no sound")
            stream = container.streams.audio[0]
            _check(stream.rate or 0, stream.channels or 0)
            yield stream, container
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError("not audio, or damaged from the start") from error


class _AvStream:
    def __init__(self, stream: Any, container: Any) -> None:
        self.stream, self.container, self.rate = stream, container, stream.rate
        self.damage: str | None = None

    def blocks(self) -> Iterator[np.ndarray]:
        import av

        mixer = av.AudioResampler(format="flt", layout="mono", rate=self.rate)
        read = 0
        try:
            for frame in self.container.decode(self.stream):
                frame.pts = None  # gaps in the time stamps of a damaged file are not to be filled
                for mixed in mixer.resample(frame):
                    mono = mixed.to_ndarray().reshape(-1)
                    read += len(mono)
                    yield mono
            with suppress(av.FFmpegError, ValueError):  # ValueError: nothing was ever resampled
                for mixed in mixer.resample(None):
                    yield mixed.to_ndarray().reshape(-1)
        except (av.FFmpegError, ValueError):
            self.damage = f"damaged after {read / self.rate:.1f} s"
            return
        promised = float(self.stream.duration * self.stream.time_base) if self.stream.duration else 0.0
        if promised - read / self.rate > _MISSING_SECONDS:
            self.damage = f"ends early: {read / self.rate:.1f} s of {promised:.1f} s"


class Resampler:
    """Blocks at one rate to blocks at another; the same blocks always give the same samples."""

    def __init__(self, source_rate: int, rate: int) -> None:
        self._stream = soxr.ResampleStream(source_rate, rate, 1) if source_rate != rate else None

    def __call__(self, block: np.ndarray, *, last: bool = False) -> np.ndarray:
        """The next block ``(n,)``."""
        return block if self._stream is None else self._stream.resample_chunk(block, last=last)
