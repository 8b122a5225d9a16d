"""Recordings in, speech out: read any sound file as mono at one rate, write whole files or growing streams.

A file appears under its name only when it is complete: it is written beside it under a passing name first.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from chelys.audio.decode import READABLE, decode
from chelys.audio.output import FORMATS, WholeFile, check_output
from chelys.audio.wav_stream import WavStream, checked, to_pcm
from chelys.errors import AudioError, OutputError, VoiceError

__all__ = ["FORMATS", "WavStream", "check_output", "clip_paths", "read", "read_clips"]
__all__ += ["to_bytes", "to_pcm", "write", "write_stdout"]

#: What a folder of clips is searched for.
CLIP_SUFFIXES = frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .au .caf .m4a .aac".split())
MIN_CLIP_SECONDS = 0.5
MIN_CLIP_PEAK = 1e-3
MIN_CLIP_RMS = 1e-4

_SAMPLE_RATES = range(1_000, 1_000_001)  # Hz; a header outside of it is damaged, and resampling it would fill memory
_BLOCK = 1 << 14  # samples: libvorbis overflows the stack when it is handed minutes at once


def read(path: str | Path, rate: int, *, reference: bool = False) -> np.ndarray:
    """A recording as one channel at the wanted rate.

    Args:
        path: Whatever libsndfile reads (wav, flac, ogg, opus, mp3, aiff ...); with ffmpeg also m4a and its like.
        rate: Wanted sample rate, Hz.
        reference: Read as the published system did, which drops all channels of a wav but the first, resamples wavs
            with a short filter and clips to [-1, 1].

    Returns:
        Mean of the channels, float32, ``(n,)``, n > 0.

    Raises:
        AudioError: If there is no such file, it is not audio or damaged, or it holds no usable samples.
    """
    source = Path(path)
    size = _size_of_file(source)
    if not size:
        raise AudioError(f"{source} is empty (0 bytes): give a {READABLE} file")
    published_wav = reference and source.suffix.lower() == ".wav"
    audio, source_rate = decode(source, first_channel=published_wav)
    if source_rate not in _SAMPLE_RATES:
        raise AudioError(f"{source} claims a sample rate of {source_rate} Hz: 1000 to 1000000 Hz can be read")
    if not np.isfinite(audio).all():
        raise AudioError(f"{source} holds samples that are not finite numbers (NaN or infinity): export it again")
    if source_rate != rate:
        audio = (_resample_as_published if published_wav else _resample)(audio, source_rate, rate)
    if not len(audio):
        raise AudioError(f"{source} holds no samples: give a recording with sound in it")
    if reference:
        audio = np.clip(audio, -1.0, 1.0)
    return np.ascontiguousarray(audio, dtype=np.float32)


def _resample(audio: np.ndarray, source_rate: int, rate: int) -> np.ndarray:
    return soxr.resample(audio, source_rate, rate, quality="HQ")


def _resample_as_published(audio: np.ndarray, source_rate: int, rate: int) -> np.ndarray:
    import torch  # here: who only writes or asks for help does not wait a second for it

    from chelys.audio.resample import can_resample, resample

    if not can_resample(source_rate, rate):
        return _resample(audio, source_rate, rate)
    return resample(torch.from_numpy(audio)[None], source_rate, rate)[0].numpy()


def _size_of_file(path: Path) -> int:
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
    return status.st_size


def clip_paths(paths: Sequence[str | Path]) -> list[Path]:
    """The clips that are meant by files and folders, a folder standing for the recordings in it, sorted by name.

    Raises:
        VoiceError: If there are none.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in CLIP_SUFFIXES and not p.name.startswith("."))
        if not inside:
            raise VoiceError(f"the folder {path} holds no recordings: put {READABLE} clips of one speaker into it")
        found += inside
    if not found:
        raise VoiceError(f"no clips given: a voice needs at least one {READABLE} clip of {MIN_CLIP_SECONDS} s or more")
    return found


def read_clips(paths: Sequence[str | Path], rate: int, *, reference: bool = False) -> list[np.ndarray]:
    """Clips to make a voice from.

    Args:
        paths: Files, or folders of them.
        rate: Wanted sample rate, Hz.
        reference: See ``read``.

    Returns:
        One float32 array ``(n,)`` for each clip.

    Raises:
        VoiceError: If there are no clips.
        AudioError: If one cannot be read, is shorter than 0.5 s or silent; it is named.
    """
    clips = []
    for path in clip_paths(paths):
        audio = read(path, rate, reference=reference)
        seconds = len(audio) / rate
        if seconds < MIN_CLIP_SECONDS:
            raise AudioError(f"{path} lasts {seconds:.2f} s: a voice needs clips of at least {MIN_CLIP_SECONDS} s")
        if np.abs(audio).max() < MIN_CLIP_PEAK or np.sqrt(np.mean(np.square(audio, dtype=np.float64))) < MIN_CLIP_RMS:
            raise AudioError(
                f"{path} is silent: a voice needs clips with a peak of at least {MIN_CLIP_PEAK} of full scale"
            )
        clips.append(audio)
    return clips


def write(path: str | Path, audio: np.ndarray, rate: int) -> None:
    """Write a file whole or not at all.

    Args:
        path: Its suffix picks the format: wav and flac (16 bits), ogg (Vorbis) or mp3.
        audio: Mono in [-1, 1], float32, ``(n,)``; what lies outside is clipped.
        rate: Sample rate, Hz.

    Raises:
        OutputError: If the suffix is unknown or the file cannot be written.
    """
    data = to_bytes(audio, rate, check_output(path))
    with WholeFile(path) as file:
        file.write(data)


def to_bytes(audio: np.ndarray, rate: int, format: str) -> bytes:
    """A sound file in memory.

    Args:
        audio: Mono in [-1, 1], ``(n,)``; what lies outside is clipped.
        rate: Sample rate, Hz.
        format: ``wav``, ``flac``, ``ogg`` or ``mp3``.

    Raises:
        OutputError: If the format is unknown or has no such sample rate.
    """
    if format not in FORMATS:
        raise OutputError(f"unknown format {format!r}: choose one of {', '.join(FORMATS)}")
    container, coding = FORMATS[format]
    samples = to_pcm(audio) if coding == "PCM_16" else np.clip(checked(audio), -1, 1)
    buffer = io.BytesIO()
    try:
        with sf.SoundFile(buffer, "w", samplerate=rate, channels=1, format=container, subtype=coding) as file:
            for start in range(0, len(samples), _BLOCK):
                file.write(samples[start : start + _BLOCK])
    except sf.SoundFileError as error:
        raise OutputError(f"cannot encode {format} at {rate} Hz: choose wav or flac") from error
    return buffer.getvalue()


def write_stdout(audio: np.ndarray, rate: int) -> None:
    """Write a WAV file to standard output; arguments as for ``write``."""
    sys.stdout.buffer.write(to_bytes(audio, rate, "wav"))
    sys.stdout.buffer.flush()
