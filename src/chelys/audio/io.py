"""Audio files in and out: whole recordings, or parts of them, as arrays; files written whole, or while they grow.

n samples.
"""

from __future__ import annotations

import base64
import io
import os
import stat
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import soundfile as sf
import soxr

from chelys.audio.stream import AudioStream, Source, open_audio
from chelys.audio.tags import wav_comment, with_mp3_comment, with_wav_comment
from chelys.errors import AudioError, MissingExtra, OutputError, VoiceError
from chelys.files import output_errors, output_file

READABLE = "wav, flac, ogg or mp3"

#: What a folder of clips is searched for.
CLIP_SUFFIXES = frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .au .caf .m4a .aac".split())
RMS, PEAK = 0.08, 0.95  # loudness of clips that networks hear, and their largest sample
MIN_CLIP_SECONDS = 0.5
MIN_CLIP_PEAK = 1e-3
MIN_CLIP_RMS = 1e-4
#: Longest recording that is read into memory at once: in seconds, and in samples, of the file or of what is made of it.
MAX_SECONDS, MAX_SAMPLES = 5400.0, 1 << 27
#: Longest that the clips of one voice are in all, seconds; its latents are means over all of them.
MAX_CLIPS_SECONDS = 1800.0
#: A mean of the samples beyond this is a fault of the recorder, and taken out.
MAX_OFFSET = 0.01
_FAR = 1e9  # seconds: no recording goes on there
_TOO_LONG = "cut it, or give its parts one by one"

# ---- reading --------------------------------------------------------------------------------------------------------


def decode(
    source: Source, *, start: float = 0.0, end: float | None = None, max_seconds: float = MAX_SECONDS
) -> tuple[np.ndarray, int]:
    """A recording, a file or the bytes of one, at its own sample rate: mono float32 ``(n,)``, and the rate, Hz.

    ``start`` and ``end`` (None: of the file) of a part are in seconds. A part longer than ``max_seconds`` is refused,
    as soon as it is seen to be longer.

    Raises:
        AudioError, MissingExtra, OSError: As ``open_audio``, or if the part is damaged or too long.
    """
    with open_audio(source) as stream:
        parts = list(_pieces(stream, start, end, max_seconds, stream.sample_rate))
        return _joined(parts), stream.sample_rate


def _pieces(
    stream: AudioStream, start: float, end: float | None, max_seconds: float, rate: int
) -> Iterator[np.ndarray]:
    """A part of a recording that will be resampled to a rate; an AudioError as soon as it is seen to be too long."""
    source_rate = stream.sample_rate
    most = min(max_seconds, MAX_SAMPLES / max(rate, source_rate))
    first = round(min(start, _FAR) * source_rate)
    limit = first + round(most * source_rate)
    last = limit + 1 if end is None else round(min(end, _FAR) * source_rate)
    room = limit - first
    if end is None and stream.counted and stream.frames - first > room:
        raise AudioError(f"lasts more than {most:.0f} s: {_TOO_LONG}")
    for block in stream.pieces(first, min(max(last, first), limit + 1)):
        room -= len(block)
        if room < 0:
            raise AudioError(f"lasts more than {most:.0f} s: {_TOO_LONG}")
        yield block


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def centered(samples: np.ndarray) -> np.ndarray:
    """Samples ``(n,)`` without their constant offset, if that is beyond `MAX_OFFSET`."""
    offset = float(samples.mean(dtype=np.float64)) if len(samples) else 0.0
    return samples - np.float32(offset) if abs(offset) > MAX_OFFSET else samples


def silent_ends(samples: np.ndarray, rate: int) -> tuple[int, int]:
    """How many samples of ``(n,)`` at the beginning and at the end are silence, but for a tenth of a second each.

    Silent are frames of 20 ms that lie 40 dB below the louder ones.
    """
    length = max(1, rate // 50)
    if len(samples) < 2 * length:
        return 0, 0
    frames = samples[: len(samples) // length * length].reshape(-1, length)
    levels = np.sqrt(np.square(frames, dtype=np.float64).mean(1))
    loud = np.flatnonzero(levels > 0.01 * np.percentile(levels, 95))
    if not len(loud):
        return 0, 0
    lead, tail = int(loud[0]) * length - rate // 10, len(samples) - int(loud[-1] + 1) * length - rate // 10
    return max(0, lead), max(0, tail)


def trimmed(samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples ``(n,)`` without their silent ends."""
    lead, tail = silent_ends(samples, rate)
    return samples[lead : len(samples) - tail]


def read(
    path: str | Path, rate: int, *, start: float = 0.0, end: float | None = None, max_seconds: float = MAX_SECONDS,
    first_channel: bool = False, resampler: Callable[[np.ndarray, int, int], np.ndarray] | None = None,
) -> np.ndarray:  # fmt: skip
    """A user's recording, or a part of it as in ``decode``, at a wanted sample rate, Hz: mono float32 ``(n,)``, n > 0.

    ``first_channel`` takes the first channel alone in place of a mix of all; ``resampler`` is in place of ``resample``.

    Raises:
        AudioError: If there is no such file, it is not audio, damaged or too long, or it holds no samples; one line.
    """
    path = Path(path)
    _check_file(path)
    try:
        with open_audio(path, first_channel=first_channel) as stream:
            source_rate = stream.sample_rate
            pieces = _pieces(stream, start, end, max_seconds, rate)
            if resampler is None:  # block by block: a file at 1 kHz takes 24 times its memory at 24 kHz
                convert = Resampler(source_rate, rate)
                parts = [made for piece in pieces if len(made := convert(piece))]
                samples = _joined([*parts, convert(np.zeros(0, np.float32), last=True)])
            else:
                samples = resampler(_joined(list(pieces)), source_rate, rate)
    except MissingExtra as error:
        raise AudioError(
            f"{path} cannot be read without PyAV: pip install 'chelys[media]', or convert it to {READABLE}"
        ) from error
    except AudioError as error:
        verb = "is " if str(error).startswith(("not audio", "damaged")) else ""
        advice = "" if _TOO_LONG in str(error) else f": give a {READABLE} file"
        raise AudioError(f"{path} {verb}{error}{advice}") from error
    except OSError as error:
        raise AudioError(f"cannot read {path}: {error.strerror or error}") from error
    except MemoryError as error:
        raise AudioError(f"{path} takes more memory than is free: give a shorter recording") from error
    if not len(samples):
        raise AudioError(f"{path} holds no samples: give a recording with sound in it")
    return np.ascontiguousarray(samples, dtype=np.float32)


def duration(path: Path) -> float:
    """Length of a recording in seconds: by its header where that can be believed, by its samples otherwise.

    Raises:
        AudioError, MissingExtra, OSError: As ``open_audio``, or if it is damaged.
    """
    with open_audio(path) as stream:
        seconds = stream.frames / stream.sample_rate
        if 0 < seconds < 24 * 3600:
            return seconds
        count = sum(len(block) for block in stream.blocks())
        if stream.damage and not stream.truncated:
            raise AudioError(stream.damage)
        return count / stream.sample_rate


def resample(audio: np.ndarray, source_rate: float, rate: int) -> np.ndarray:
    """Samples ``(n,)`` at another rate. A source rate that is a factor too high makes them so many times as fast."""
    return audio if source_rate == rate else soxr.resample(audio, source_rate, rate, quality="HQ")


class Resampler:
    """Blocks at one rate to blocks at another; the same blocks always give the same samples."""

    def __init__(self, source_rate: int, rate: int) -> None:
        self._stream = soxr.ResampleStream(source_rate, rate, 1) if source_rate != rate else None

    def __call__(self, block: np.ndarray, *, last: bool = False) -> np.ndarray:
        """The next block ``(n,)``."""
        return block if self._stream is None else self._stream.resample_chunk(block, last=last)


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise AudioError(f"there is no file {path}: give a {READABLE} file") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise AudioError(f"cannot read {path} ({getattr(error, 'strerror', None) or error})") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{path} is a folder: give a {READABLE} file")
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device could wait for ever
        raise AudioError(f"{path} is not a regular file: give a {READABLE} file")
    if not os.access(path, os.R_OK):
        raise AudioError(f"cannot read {path}: permission denied")
    if not status.st_size:
        raise AudioError(f"{path} is empty (0 bytes): give a {READABLE} file")


# ---- clips of a voice -----------------------------------------------------------------------------------------------


def clip_paths(paths: Sequence[str | Path]) -> list[Path]:
    """The clips that files and folders (sorted by name) stand for; a VoiceError if there are none."""
    found: list[Path] = []
    for path in map(Path, paths):
        if not os.path.isdir(path):  # False, too, of what can be no name; reading it says so
            found.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in CLIP_SUFFIXES and not p.name.startswith("."))
        if not inside:
            raise VoiceError(f"the folder {path} holds no recordings: put {READABLE} clips of one speaker into it")
        found += inside
    if not found:
        raise VoiceError(f"no clips given: a voice needs at least one {READABLE} clip of {MIN_CLIP_SECONDS} s or more")
    return found


def read_clip(path: str | Path, rate: int, *, max_seconds: float = MAX_CLIPS_SECONDS) -> np.ndarray:
    """As ``read``, without a constant offset and without silent ends."""
    return trimmed(centered(read(path, rate, max_seconds=max_seconds)), rate)


def read_clips(
    paths: Sequence[str | Path], rate: int, *, reader: Callable[..., np.ndarray] = read_clip
) -> list[np.ndarray]:
    """Clips to make a voice from, of files and folders of them: a float32 array ``(n,)`` at a rate, Hz, for each.

    Raises:
        VoiceError: If there are no clips.
        AudioError: If one cannot be read, is shorter than 0.5 s or silent, or all last more than half an hour.
    """
    clips, room = [], MAX_CLIPS_SECONDS
    for path in clip_paths(paths):
        audio = reader(path, rate, max_seconds=room)
        room -= len(audio) / rate
        check_clip(audio, rate, path)
        clips.append(audio)
    return clips


def check_clip(audio: np.ndarray, rate: int, name: str | Path) -> None:
    """Refuse a clip that no voice can be made of: an AudioError if it is shorter than 0.5 s or silent."""
    seconds = len(audio) / rate
    if seconds < MIN_CLIP_SECONDS:
        raise AudioError(f"{name} lasts {seconds:.2f} s: a voice needs clips of at least {MIN_CLIP_SECONDS} s")
    edge = rate // 20  # where the resampling of a constant rings
    inner = audio[edge : len(audio) - edge]
    if np.abs(inner).max() < MIN_CLIP_PEAK or inner.std(dtype=np.float64) < MIN_CLIP_RMS:
        raise AudioError(f"{name} is silent: a voice needs clips with a peak of at least {MIN_CLIP_PEAK} of full scale")


def normalize_loudness(audio: np.ndarray) -> np.ndarray:
    """A clip ``(n,)`` as loud as networks hear clips, but never clipped; so a quiet recording makes no quiet voice."""
    gain = RMS / (float(np.sqrt(np.mean(audio.astype(np.float64) ** 2))) + 1e-9)
    return (audio * min(gain, PEAK / (float(np.abs(audio).max()) + 1e-9))).astype(np.float32)


# ---- writing --------------------------------------------------------------------------------------------------------

#: Suffix without its dot -> libsndfile's container and coding; pcm is 16-bit little-endian samples without a header.
FORMATS: dict[str, tuple[str, str]] = {
    "wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"), "pcm": ("RAW", "PCM_16"),
}  # fmt: skip
#: What puts a comment into files of which libsndfile does not do it well.
_COMMENTED = {"WAV": with_wav_comment, "MP3": with_mp3_comment}
WAV_HEAD = 44  # bytes before the samples of a ``WavStream``
_UNKNOWN_SIZE = 0xFFFFFFFF
_WRITE_BLOCK = 1 << 14  # samples: libvorbis overflows the stack when it is handed minutes at once


def check_output(path: str | Path, formats: Sequence[str] = tuple(FORMATS)) -> str:
    """Find out before any work is done whether a file can be written, in one of some formats.

    Gives the format that the suffix names, a key of ``FORMATS``.

    Raises:
        OutputError: If the suffix is unknown or the place cannot be written to; nothing is left behind.
    """
    name = Path(path).suffix.lower().removeprefix(".")
    choice = f"choose one of {', '.join('.' + known for known in formats)}"
    try:
        target = Path(os.path.realpath(path))
        mode = _mode(target)
        if mode is not None and stat.S_ISDIR(mode):
            raise OutputError(f"cannot write {path}: it is a folder; give a file such as {Path(path) / 'speech.wav'}")
        if not name:
            raise OutputError(f"cannot write {path}: it has no suffix; {choice}")
        if name not in formats:
            why = f"'.{name}' is not for streams" if name in FORMATS else f"unknown suffix '.{name}'"
            raise OutputError(f"cannot write {path}: {why}; {choice}")
        if not os.path.isdir(target.parent):
            raise OutputError(f"cannot write {path}: there is no folder {target.parent}; make it first")
        if mode is not None and not stat.S_ISREG(mode):  # renaming onto a device would replace the device
            raise OutputError(f"cannot write {path}: it is not a regular file; use '-' to write to a pipe")
        if mode is not None and not os.access(target, os.W_OK):
            raise OutputError(f"cannot write {path}: permission denied; choose another file")
        with tempfile.TemporaryFile(dir=target.parent):
            return name
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(path: str | Path, audio: np.ndarray, rate: int, *, comment: str = "") -> None:
    """Write audio ``(n,)``, float32 in [-1, 1] (what lies outside is clipped), whole or not at all.

    The suffix picks the format: wav, flac and pcm (16 bits), ogg (Vorbis), opus or mp3; the rate is in Hz. All but pcm
    carry a comment, of ASCII, as a tag.

    Raises:
        OutputError: If the suffix is unknown or the file cannot be written.
    """
    data = to_bytes(audio, rate, check_output(path), comment=comment)
    with output_file(path) as file:
        file.write(data)


def to_bytes(audio: np.ndarray, rate: int, format: str, *, comment: str = "") -> bytes:
    """A sound file in memory; arguments as for ``write``, with the format's name.

    Raises:
        OutputError: If the format is unknown or has no such sample rate.
    """
    if format not in FORMATS:
        raise OutputError(f"unknown format {format!r}: choose one of {', '.join(FORMATS)}")
    if format == "pcm":
        return to_pcm(audio).tobytes()
    container, coding = FORMATS[format]
    samples = to_pcm(audio) if coding == "PCM_16" else np.clip(_checked(audio), -1, 1)
    buffer = io.BytesIO()
    try:
        with sf.SoundFile(buffer, "w", samplerate=rate, channels=1, format=container, subtype=coding) as file:
            if comment and container not in _COMMENTED:
                file.comment = comment
            for start in range(0, len(samples), _WRITE_BLOCK):
                file.write(samples[start : start + _WRITE_BLOCK])
    except sf.SoundFileError as error:
        raise OutputError(f"cannot encode {format} at {rate} Hz: choose wav or flac") from error
    data = buffer.getvalue()
    return _COMMENTED[container](data, comment) if comment and container in _COMMENTED else data


@contextmanager
def growing_sound_file(path: Path, rate: int) -> Iterator[sf.SoundFile]:
    """A new FLAC of 16 bits, mono, to be written block by block.

    Raises OSError if the file cannot be written, also where libsndfile overlooks it: at the end of a FLAC.
    """
    with path.open("xb") as raw:
        sink = _CheckedFile(raw)
        try:
            with sf.SoundFile(sink, "w", samplerate=rate, channels=1, format="FLAC", subtype="PCM_16") as file:
                yield file
        except (sf.SoundFileError, AssertionError):  # soundfile asserts that all samples were written
            if sink.error is None:
                raise
        if sink.error is not None:
            raise sink.error


class _CheckedFile:
    """A file for libsndfile, that keeps the first error: raised within its callbacks it would be printed, no more."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        return self._try(lambda: self._file.write(data), 0)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._try(lambda: self._file.seek(offset, whence), -1)

    def tell(self) -> int:
        return self._try(self._file.tell, -1)

    def read(self, size: int = -1) -> bytes:
        return b""  # nothing is read back

    def _try(self, call: Callable[[], int], failed: int) -> int:
        try:
            return call()
        except OSError as error:
            self.error = self.error or error
            return failed


def data_url(audio: np.ndarray, rate: int) -> str:
    """Audio ``(n,)`` for a page that loads nothing: MP3, or WAV at rates that MP3 does not know."""
    try:
        kind, data = "mpeg", to_bytes(audio, rate, "mp3")
    except OutputError:
        kind, data = "wav", to_bytes(audio, rate, "wav")
    return f"data:audio/{kind};base64,{base64.b64encode(data).decode()}"


def encode_opus(audio: np.ndarray, rate: int, kbps: int) -> bytes:
    """A waveform ``(n,)`` as Ogg Opus of a variable bit rate; raises MissingExtra without PyAV.

    ``rate`` is 8, 12, 16, 24 or 48 kHz.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtra("media", error) from error
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream: Any = container.add_stream("libopus", rate=rate, layout="mono")
        stream.bit_rate = kbps * 1000
        stream.options = {"vbr": "on", "compression_level": "10", "application": "audio"}
        stream.format = "flt"
        frame = av.AudioFrame.from_ndarray(audio[None].astype(np.float32), format="flt", layout="mono")
        frame.sample_rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


def to_pcm(audio: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as int16, the inverse of how 16-bit files are read (1 is 32768); ``(n,)`` to ``(n,)``."""
    return np.clip(np.rint(_checked(audio) * np.float32(32768)), -32768, 32767).astype("<i2")


def _checked(audio: np.ndarray) -> np.ndarray:
    """The samples as float32; anything but finite numbers ``(n,)`` is a fault of the caller."""
    samples = np.asarray(audio, dtype=np.float32)
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise ValueError(f"audio to write must be finite and of shape (n,), not {samples.shape}")
    return samples


def write_stdout(audio: np.ndarray, rate: int) -> None:
    """Write a WAV file to standard output; arguments as for ``write``."""
    sys.stdout.buffer.write(to_bytes(audio, rate, "wav"))
    sys.stdout.buffer.flush()


class WavStream:
    """A mono WAV that is written while it is being spoken, to a path or an open binary file, which is left open.

    The standard library's ``wave`` cannot write it: on a pipe it fails when it goes back to correct the header. Onto a
    pipe this header says that the length is unknown (sizes 0xFFFFFFFF, which players take as "until the end"). A file
    can be played at any moment: after each block its header is corrected to what is there, and it stays when the
    ``with`` block fails.

    Args:
        target: A path, or an open binary file.
        rate: Hz.
        coding: ``PCM_16``, or ``FLOAT``, 32 bits, which loses nothing.
        keep: Samples to keep of the file that lies at the path; what follows them is cut off.

    Raises:
        OutputError: If a path cannot be written.
    """

    def __init__(
        self, target: str | Path | BinaryIO, rate: int, *, coding: Literal["PCM_16", "FLOAT"] = "PCM_16", keep: int = 0
    ) -> None:
        self.rate, self._coding = rate, coding
        self._path = target if isinstance(target, (str, Path)) else None
        self._file: Any = target
        self._keep = keep * self._width
        self._bytes = 0
        if self._path is not None:
            check_output(self._path, formats=("wav",))

    @property
    def _width(self) -> int:
        return 2 if self._coding == "PCM_16" else 4

    def __enter__(self) -> WavStream:
        with self._errors():
            if self._path is not None:
                self._file = open(self._path, "r+b" if self._keep else "wb", buffering=0)  # noqa: SIM115
            self._start = self._file.tell() if self._file.seekable() and not _appends(self._file) else None
            if self._keep:
                self._file.truncate(WAV_HEAD + self._keep)
                self._bytes = self._keep
                self._correct_header()
            else:
                self._send(_wav_header(self.rate, self._coding, None if self._start is None else 0))
        return self

    def write(self, audio: np.ndarray) -> None:
        """Add samples ``(n,)`` in [-1, 1]; they are on their way when this returns."""
        data = to_pcm(audio).tobytes() if self._coding == "PCM_16" else _checked(audio).astype("<f4").tobytes()
        with self._errors():
            self._send(data)
            self._bytes += len(data)
            if self._start is not None:
                self._correct_header()

    def finish(self, comment: str) -> None:
        """Put a comment, of ASCII, behind the last samples of a file."""
        chunk, end = wav_comment(comment), WAV_HEAD + self._bytes
        if self._start is None or (end + len(chunk)) >> 32:  # a pipe, or too long for a WAV
            return
        with self._errors():
            self._file.seek(self._start + 4)
            self._send(struct.pack("<I", end + len(chunk) - 8))
            self._file.seek(self._start + end)
            self._send(chunk)

    def sync(self) -> None:
        """Wait until all of it is on the disk."""
        with self._errors():
            os.fsync(self._file.fileno())

    @property
    def samples(self) -> int:
        """Length so far."""
        return self._bytes // self._width

    @property
    def seconds(self) -> float:
        """Length so far."""
        return self.samples / self.rate

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            with self._errors():
                self._file.close()

    def _correct_header(self) -> None:
        self._file.seek(self._start)
        self._send(_wav_header(self.rate, self._coding, self._bytes))
        self._file.seek(0, os.SEEK_END)

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:  # an unbuffered file may take less than all
            rest = rest[self._file.write(rest) :]
        self._file.flush()

    def _errors(self) -> AbstractContextManager[None]:
        return nullcontext() if self._path is None else output_errors(self._path)


def wav_samples(path: Path, rate: int, coding: str) -> int:
    """How many samples lie in a file that a ``WavStream`` wrote, its header right or not yet; 0 if none did."""
    try:
        with path.open("rb") as file:
            head, wanted = file.read(WAV_HEAD), _wav_header(rate, coding, 0)
            return (os.fstat(file.fileno()).st_size - WAV_HEAD) // wanted[32] if head[8:40] == wanted[8:40] else 0
    except OSError:
        return 0


def _appends(file: Any) -> bool:
    """Whether a file takes everything at its end, wherever one seeks to, as after ``>>`` of a shell."""
    try:
        import fcntl

        return bool(fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & os.O_APPEND)
    except (ImportError, OSError):  # Windows; no file of the system's
        return False


def _wav_header(rate: int, coding: str, data_bytes: int | None) -> bytes:
    """The 44 bytes before the samples of a mono WAV; None for a length that is not known yet."""
    kind, width = (1, 2) if coding == "PCM_16" else (3, 4)
    data = _UNKNOWN_SIZE if data_bytes is None else min(data_bytes, _UNKNOWN_SIZE)
    riff = min(data + 36, _UNKNOWN_SIZE)
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, 1, rate, width * rate, width, 8 * width)
    return struct.pack("<4sI4s", b"RIFF", riff, b"WAVE") + layout + struct.pack("<4sI", b"data", data)
