"""The one reader of audio: recordings of any kind and length, block by block.

libsndfile (soundfile) reads wav, flac, ogg, opus, aiff and the like. FFmpeg's libraries (PyAV, extra ``media``) read
everything else, m4a, aac, wma, webm and the sound of videos, and also MP3: libsndfile can read that too, and does where
PyAV is missing, but its MP3 library prints warnings to the process's standard error, and each seek loses some frames.

A header that claims hours, or a small file that unpacks to hours, is found out before it fills memory. No child process
is started, and nothing but the file itself is opened: the demuxer is always named, because one that FFmpeg guesses
could be a playlist.

n samples.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile as sf

from chelys.errors import AudioError, MissingExtra
from chelys.files import open_regular

_NO_AUDIO = "not audio, or damaged from the start"
_SILENCE = 1e-4  # root mean square
_SAMPLE_RATES = range(1_000, 1_000_001)  # Hz; a header outside of it is damaged, and resampling it would fill memory
_MAX_CHANNELS = 64
_BLOCK = 1 << 16  # samples of each channel
_TOLERATED_LOSS_SECONDS = 0.5  # encoders count lengths that loosely
_LOUDEST = 1e10  # of full scale: more than floats that were meant as whole numbers; far beyond, filters overflow
_CANCELLED = 0.01  # the mean of the channels has less than this share of the power of one: they are in opposite phase

#: Suffix -> demuxer of FFmpeg.
_DEMUXERS = {
    **dict.fromkeys(".m4a .m4b .mp4 .m4v .mov .3gp".split(), "mp4"),
    **dict.fromkeys(".wma .wmv .asf".split(), "asf"),
    **dict.fromkeys(".webm .mka .mkv".split(), "matroska"),
    **dict.fromkeys(".mp3 .mp2 .mpga".split(), "mp3"),
    **dict.fromkeys(".mpg .mpeg".split(), "mpeg"),
    ".aac": "aac", ".avi": "avi", ".flv": "flv", ".ts": "mpegts", ".amr": "amr", ".ac3": "ac3", ".ape": "ape",
    ".g722": "g722", ".gsm": "gsm",
}  # fmt: skip
#: Offset, mark, and the demuxer of a file that has the mark there. A WAV goes to FFmpeg if libsndfile refuses it.
_HEADS = ((8, b"WAVE", "wav"), (0, b"fLaC", None), (0, b"OggS", None), (8, b"AIFF", None), (8, b"AIFC", None),
          (0, b"caff", None), (0, b".snd", None), (4, b"ftyp", "mp4"), (0, b"\x1a\x45\xdf\xa3", "matroska"),
          (8, b"AVI ", "avi"), (0, b"FLV\x01", "flv"), (0, b"\x30\x26\xb2\x75", "asf"), (0, b"ID3", "mp3"))  # fmt: skip
_BYTES_PER_SAMPLE = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}

#: A file, or the bytes of one.
Source = str | Path | bytes


class AudioStream:
    """An open recording; see ``open_audio``."""

    def __init__(self, source: Source, *, first_channel: bool = False) -> None:
        self._source, self._first_channel = source, first_channel
        self.damage: str | None = None  # what is wrong with it, as far as it was read
        self.truncated = False  # whether the damage is only that it ends before it should
        self._channel: int | None = None  # to take alone, because the mean of all cancels
        self._open()

    def _open(self) -> None:
        self._decoder = _decoder(self._source)
        self.sample_rate = self._decoder.sample_rate  # Hz
        self.frames = self._decoder.frames  # of each channel, as its header promises; 0 if that is not believable
        self.counted = isinstance(self._decoder, _SoundFile)  # whether that is no estimate
        self._at = 0  # samples handed out

    def blocks(self) -> Iterator[np.ndarray]:
        """The rest of the recording in pieces ``(n,)``: float32, the channels mixed.

        The end of the data and the end of what can be read look the same here; ``damage`` tells them apart.
        """
        while (block := self._next(_BLOCK)) is not None:
            yield block
        if self.damage is None:
            missing = self._decoder.promised() - self._at
            if _TOLERATED_LOSS_SECONDS * self.sample_rate < missing < 1 << 48:  # streams claim lengths beyond measure
                self.truncated = True
                seconds, promised = self._at / self.sample_rate, (self._at + missing) / self.sample_rate
                self.damage = f"ends early: {seconds:.1f} s of {promised:.1f} s"

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples ``start`` to ``stop``, ``(n,)``; fewer where the recording ends before.

        Raises:
            AudioError: If it is damaged there; the message does not name the file.
        """
        parts = list(self.pieces(start, stop))
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def pieces(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """The same, block by block."""
        if start != self._at and not self._seek(start):
            if start < self._at:
                self._decoder.close()
                self._open()
            while self._at < start and self._next(min(_BLOCK, start - self._at)) is not None:
                pass
        while self._at < stop and (block := self._next(stop - self._at)) is not None:
            yield block
        if self.damage is not None:
            raise AudioError(self.damage)

    def _seek(self, sample: int) -> bool:
        try:
            if not self.frames or not self._decoder.seek(min(sample, self.frames)):
                return False
        except self._decoder.errors:  # a truncated file; reading up to there says what is wrong
            self._decoder.close()
            self._open()
            return False
        self._at = sample
        return True

    def _next(self, limit: int) -> np.ndarray | None:
        """At most so many samples, mixed; None at the end, or where nothing more can be read."""
        seconds = self._at / self.sample_rate
        try:
            block = self._decoder.read(min(limit, _BLOCK))
        except self._decoder.errors:
            self.damage = f"damaged after {seconds:.1f} s" if self._at else _NO_AUDIO
            return None
        if block is None or not len(block):
            return None
        mono = self._mix(block)
        loudest = np.abs(mono).max()
        if not loudest <= _LOUDEST:  # NaN is not either
            kind = (
                f"beyond {_LOUDEST:g} times full scale" if loudest < np.inf else "not finite numbers (NaN or infinity)"
            )
            self.damage = f"holds samples that are {kind} after {seconds:.1f} s"
            return None
        self._at += len(mono)
        return mono

    def _mix(self, block: np.ndarray) -> np.ndarray:
        """``(n, channels)`` -> ``(n,)``: the mean, or of channels in opposite phase the loudest."""
        if self._first_channel or block.shape[1] == 1:
            return np.ascontiguousarray(block[:, 0])
        mean = block.mean(axis=1)
        if self._channel is None:  # the first block with sound decides for all
            power = np.square(block, dtype=np.float64).mean(axis=0)
            if power.max() < _SILENCE**2:
                return mean
            cancels = np.square(mean, dtype=np.float64).mean() < _CANCELLED * power.max()
            self._channel = int(power.argmax()) if cancels else -1
        return mean if self._channel < 0 else np.ascontiguousarray(block[:, self._channel])

    def close(self) -> None:
        """Close the file."""
        self._decoder.close()


@contextmanager
def open_audio(source: Source, *, first_channel: bool = False) -> Iterator[AudioStream]:
    """Open a recording, a file or the bytes of one, of any length; memory does not grow with it.

    Raises:
        AudioError: If it is not audio, or so damaged that nothing can be read; the message does not name the file.
        MissingExtra: If PyAV is needed and not installed.
        OSError: If the file cannot be opened, or is no regular file.
    """
    stream = AudioStream(source, first_channel=first_channel)
    try:
        yield stream
    finally:
        stream.close()


# ---- decoders -------------------------------------------------------------------------------------------------------


def _decoder(source: Source) -> _SoundFile | _AV:
    """What decodes a recording; see ``open_audio`` for what it raises."""
    file = _opened(source)
    try:
        demuxer = _demuxer(file.read(12), "" if isinstance(source, bytes) else Path(source).suffix.lower())
        file.seek(0)
        if demuxer in (None, "wav") or (demuxer == "mp3" and not _has_av()):
            try:
                found = _SoundFile(file, source, forward=demuxer == "mp3")
                decoder: _SoundFile | _AV = found
                if found.is_mp3 and _has_av():  # under another name, or behind damage
                    found.close()
                    decoder = _AV(_opened(source), "mp3")
            except (sf.SoundFileError, TypeError, OSError) as error:  # TypeError: headerless '.raw'
                if demuxer != "wav" or not _has_av():
                    raise AudioError(_NO_AUDIO) from error
                file = _opened(source)
                decoder = _AV(file, demuxer)
        else:
            decoder = _AV(file, demuxer)
        if decoder.sample_rate not in _SAMPLE_RATES:
            raise AudioError(f"claims a sample rate of {decoder.sample_rate} Hz: 1000 to 1000000 Hz can be read")
        if decoder.channels not in range(1, _MAX_CHANNELS + 1):
            raise AudioError(f"claims {decoder.channels} channels: 1 to {_MAX_CHANNELS} can be read")
    except BaseException:
        file.close()
        raise
    return decoder


def _opened(source: Source) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else open_regular(source)


def _demuxer(head: bytes, suffix: str) -> str | None:
    """FFmpeg's demuxer for a file, by its first bytes or else its suffix; None for what libsndfile reads."""
    for offset, mark, demuxer in _HEADS:
        if head[offset : offset + len(mark)] == mark:
            return demuxer
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and suffix not in _DEMUXERS:
        return "mp3" if head[1] & 0x06 else "aac"  # the bits of the layer are zero in AAC
    return _DEMUXERS.get(suffix)


def _has_av() -> bool:
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


class _Forward(sf.SoundFile):
    """A file that is read from begin to end: soundfile would seek after each block, which costs frames of an MP3."""

    def seekable(self) -> bool:
        return False


class _SoundFile:
    errors: tuple[type[Exception], ...] = (sf.SoundFileError, OSError)

    def __init__(self, file: BinaryIO, source: Source, *, forward: bool) -> None:
        self._source, self._forward = source, forward
        name: Any = file
        if not isinstance(source, bytes):  # by name, because libsndfile goes by the suffix too
            name = str(source) if os.name == "nt" else os.fsencode(source)  # which soundfile takes in any encoding
            file.close()
        self._file = (_Forward if forward else sf.SoundFile)(name)
        self.sample_rate, self.channels = self._file.samplerate, self._file.channels
        self.frames = self._file.frames if self._file.frames < 1 << 48 else 0

    @property
    def is_mp3(self) -> bool:
        return self._file.format in ("MP3", "MPEG")

    def read(self, count: int) -> np.ndarray | None:
        return self._file.read(count, dtype="float32", always_2d=True)

    def seek(self, sample: int) -> bool:
        if self._forward or self._file.format in ("OGG", "MP3"):  # where libsndfile lands up to a packet away
            return False
        self._file.seek(sample)
        return True

    def promised(self) -> int:
        return max(self._file.frames, self._promised_by_riff())

    def _promised_by_riff(self) -> int:
        """Frames that a WAV's head promises; libsndfile quietly believes the file's size instead."""
        if isinstance(self._source, bytes):
            head, available = self._source[:8], len(self._source)
        else:
            with open(self._source, "rb") as file:
                head, available = file.read(8), os.fstat(file.fileno()).st_size
        size = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF" or size >= 0x7FFFF000 or self._file.subtype not in _BYTES_PER_SAMPLE:
            return 0
        missing = size + 8 - available
        return self._file.frames + max(missing, 0) // (_BYTES_PER_SAMPLE[self._file.subtype] * self.channels)

    def close(self) -> None:
        self._file.close()


class _AV:
    def __init__(self, file: BinaryIO, demuxer: str) -> None:
        try:
            import av
        except ImportError as error:
            raise MissingExtra("media", error) from error
        self.errors: tuple[type[Exception], ...] = (av.FFmpegError, OSError, ValueError)
        self._raw = file
        self._container: Any = None
        try:
            self._container = av.open(file, format=demuxer, metadata_errors="replace")
            if not self._container.streams.audio:
                raise AudioError("holds no sound")
            stream = self._container.streams.audio[0]
            self.sample_rate, self.channels = stream.rate or 0, stream.channels or 0
            self.frames = round(stream.duration * stream.time_base * self.sample_rate) if stream.duration else 0
            self._planes = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
            self._packets = self._decoded(self._container.decode(stream))
        except (av.FFmpegError, ValueError, AttributeError) as error:  # the last: of a stream that nothing decodes
            self.close()
            raise (error if isinstance(error, AudioError) else AudioError(_NO_AUDIO)) from error
        self._rest = np.zeros((0, max(1, self.channels)), np.float32)

    def _decoded(self, frames: Iterator[Any]) -> Iterator[np.ndarray]:
        import av

        for frame in frames:
            frame.pts = None  # gaps in the time stamps of a damaged file are not to be filled
            for plane in self._planes.resample(frame):
                yield plane.to_ndarray().T
        with suppress(av.FFmpegError, ValueError):  # ValueError: nothing was ever resampled
            for plane in self._planes.resample(None):
                yield plane.to_ndarray().T

    def read(self, count: int) -> np.ndarray | None:
        parts, held = [self._rest], len(self._rest)
        self._rest = self._rest[:0]
        error = None
        while held < count:
            try:
                part = next(self._packets, None)
            except self.errors as found:
                error = found  # after what was decoded before it
                break
            if part is None:
                break
            parts.append(part)
            held += len(part)
        block = np.concatenate(parts)
        if error is not None:
            if not len(block):
                raise error
            self._packets = _raising(error)
        self._rest = block[count:]
        return block[:count]

    def seek(self, sample: int) -> bool:
        return False  # FFmpeg's seeks land near the sample, not on it

    def promised(self) -> int:
        return self.frames

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
        self._raw.close()


def _raising(error: Exception) -> Iterator[np.ndarray]:
    raise error
    yield
