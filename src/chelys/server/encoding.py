"""Audio formats as clients want them, written while the speech is being made.

libsndfile, which chelys needs anyway, writes WAV, FLAC, MP3 and Opus. AAC is written by PyAV (extra ``media``), whose
wheels bundle GPL libraries (docs/dependencies.md), so it is offered only where that is installed.

A file whose end is known before its first byte is sent has its length in its head. Else the head says "unknown" in the
way of the format, and players start at once.

n samples.
"""

from __future__ import annotations

import ctypes
import io
from typing import Any, BinaryIO, Literal, Protocol, cast, get_args

import numpy as np
import soundfile as sf

from chelys.audio.io import WavStream, to_bytes, to_pcm
from chelys.errors import UserError

Format = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
FORMATS: tuple[Format, ...] = get_args(Format)
MEDIA_TYPES: dict[Format, str] = {
    "mp3": "audio/mpeg", "opus": "audio/ogg", "aac": "audio/aac", "flac": "audio/flac", "wav": "audio/wav",
    "pcm": "audio/pcm",
}  # fmt: skip
_CODINGS = {
    "mp3": ("MP3", "MPEG_LAYER_III", {"bitrate_mode": "CONSTANT", "compression_level": 0.2}),  # 128 kbit/s at 24 kHz
    "opus": ("OGG", "OPUS", {}),
    "flac": ("FLAC", "PCM_16", {}),
}
#: An Ogg page holds so many milliseconds of Opus; libsndfile's own choice is a second.
OGG_PAGE_MS = 100.0
_SET_OGG_PAGE_LATENCY_MS = 0x1302  # a command of libsndfile that soundfile has no name for
_BLOCK = 1 << 14  # samples; see chelys.audio.io


class Encoder(Protocol):
    """Writes one file."""

    def feed(self, audio: np.ndarray) -> bytes:
        """More samples ``(n,)`` in [-1, 1]. Returns what is to be sent now; may be nothing yet."""

    def finish(self) -> bytes:
        """Returns the rest of the file."""


def encode(audio: np.ndarray, rate: int, format: Format) -> bytes:
    """A whole file, which knows its length. Raises UserError as ``encoder`` does."""
    if format != "aac":
        return to_bytes(audio, rate, format)
    made = encoder(rate, format)
    return made.feed(audio) + made.finish()


def encoder(rate: int, format: Format) -> Encoder:
    """What writes a file whose length is not known yet.

    Raises UserError if the format needs a package that is not installed.
    """
    if format == "aac":
        return _AAC(rate)
    return _PCM() if format == "pcm" else _WAV(rate) if format == "wav" else _SoundFileEncoder(rate, format)


def available(format: Format) -> bool:
    """Whether the format can be written here."""
    if format == "aac":
        try:
            import av  # noqa: F401
        except ImportError:
            return False
    return True


class _PCM:
    """16 bits, little-endian, as OpenAI's."""

    def feed(self, audio: np.ndarray) -> bytes:
        return to_pcm(audio).tobytes()

    def finish(self) -> bytes:
        return b""


class _Sink(io.RawIOBase):
    """A file in memory whose begin can be sent off: what is written over it later is lost."""

    def __init__(self) -> None:
        self.kept, self._sent, self._at = bytearray(), 0, 0

    def seekable(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        data = bytes(data)
        start = self._at - self._sent
        if start >= 0:
            self.kept[start : start + len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._sent + len(self.kept))[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def take(self) -> bytes:
        data = bytes(self.kept)
        self._sent += len(data)
        self.kept.clear()
        return data


class _WAV:
    def __init__(self, rate: int) -> None:
        self._sink = _Sink()
        self._stream = WavStream(cast(BinaryIO, self._sink), rate).__enter__()

    def feed(self, audio: np.ndarray) -> bytes:
        self._stream.write(audio)
        return self._sink.take()

    def finish(self) -> bytes:
        return self._sink.take()


class _SoundFileEncoder:
    def __init__(self, rate: int, format: Format) -> None:
        self._format, self._sink = format, _Sink()
        self._file = _sound_file(self._sink, rate, format)
        self._begun = False

    def feed(self, audio: np.ndarray) -> bytes:
        _write(self._file, audio)
        return self._begin(self._sink.take())

    def finish(self) -> bytes:
        self._file.close()
        return self._begin(self._sink.take())

    def _begin(self, data: bytes) -> bytes:
        if not self._begun and data and self._format == "mp3":  # libsndfile leaves an empty frame for what it adds last
            data = _mp3_head(data) + data[_frame_bytes(data) :]
        self._begun |= bool(data)
        return data


def _sound_file(sink: _Sink, rate: int, format: Format) -> sf.SoundFile:
    container, coding, how = _CODINGS[format]
    file = sf.SoundFile(sink, "w", samplerate=rate, channels=1, format=container, subtype=coding, **how)
    if format == "opus":
        latency = ctypes.c_double(OGG_PAGE_MS)
        pointer = sf._ffi.cast("void *", ctypes.addressof(latency))
        sf._snd.sf_command(file._file, _SET_OGG_PAGE_LATENCY_MS, pointer, ctypes.sizeof(latency))
    return file


def _write(file: sf.SoundFile, audio: np.ndarray) -> None:
    samples = np.clip(np.asarray(audio, np.float32), -1, 1)
    for start in range(0, len(samples), _BLOCK):
        file.write(samples[start : start + _BLOCK])


# ---- MP3 ------------------------------------------------------------------------------------------------------------

#: kbit/s of MPEG-2 and 2.5, layer III, by index.
_BIT_RATES = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_SAMPLE_RATES = (22_050, 24_000, 16_000)
#: What LAME's encoder puts before the first sample; players add the 529 of the decoder.
_ENCODER_DELAY = 576
_HAS_BYTES, _GROWING = (2).to_bytes(4, "big"), (2**31 - 1).to_bytes(4, "big")


def _frame_bytes(data: bytes) -> int:
    """Length of an MPEG-2 layer III frame, by its head."""
    return 72_000 * _BIT_RATES[data[2] >> 4] // _SAMPLE_RATES[data[2] >> 2 & 3] + (data[2] >> 1 & 1)


def _mp3_head(data: bytes) -> bytes:
    """An info frame as LAME writes it, but for the length: it is no sound, and players leave out the delay.

    It gives the number of bytes, as if the file were still growing: FFmpeg takes a frame without any number for sound.
    """
    side_info = 4 + 9  # head of an MPEG-2 frame, side information of one channel
    tag = b"Info" + _HAS_BYTES + _GROWING + b"LAME3.100" + bytes(12)
    delays = (_ENCODER_DELAY << 12).to_bytes(3, "big")
    frame = data[:4] + bytes(side_info - 4) + tag + delays
    return frame.ljust(_frame_bytes(data), b"\0")


# ---- AAC ------------------------------------------------------------------------------------------------------------


class _AAC:
    """ADTS, which can be played from any frame on."""

    def __init__(self, rate: int) -> None:
        try:
            import av
        except ImportError:
            raise UserError(
                "aac is not offered here: choose mp3, opus, flac, wav or pcm, or install 'chelys[media]' on the server"
            ) from None
        self._av, self._rate, self._sink = av, rate, _Pipe()
        self._container: Any = av.open(self._sink, "w", format="adts")
        self._stream: Any = self._container.add_stream("aac", rate=rate, layout="mono")
        self._stream.bit_rate = 96_000
        self._at = 0

    def feed(self, audio: np.ndarray) -> bytes:
        frame = self._av.AudioFrame.from_ndarray(audio[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = self._rate, self._at
        self._at += len(audio)
        return self._send(self._stream.encode(frame))

    def finish(self) -> bytes:
        data = self._send(self._stream.encode(None))
        self._container.close()
        return data + self._sink.take()

    def _send(self, packets: Any) -> bytes:
        for packet in packets:
            self._container.mux(packet)
        return self._sink.take()


class _Pipe:
    """What PyAV writes to: it asks for no more than ``write``."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def take(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data
