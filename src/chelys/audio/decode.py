"""Sound files to samples: libsndfile, and ffmpeg for what libsndfile lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile as sf

from chelys.errors import AudioError

READABLE = "wav, flac, ogg or mp3"

_FFMPEG_SUFFIXES = frozenset(".m4a .m4b .mp4 .mov .3gp .aac .wma .webm .mka .mkv .amr .ac3 .ape".split())
_FFMPEG_TIMEOUT_SECONDS = 300.0
_BLOCK = 1 << 16  # samples
_MP3_SAMPLES_PER_BYTE = 48  # at its lowest bit rate, 8 kbit/s, an MP3 spends 24 bytes on 576 or 1152 samples

# Heads of the containers that libsndfile reads without libmpg123: RIFF, RF64, FLAC, Ogg, AIFF, CAF, AU.
_QUIET_HEADS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b"caff", b".snd")
_stderr_lock = threading.Lock()


def decode(path: Path, *, first_channel: bool = False) -> tuple[np.ndarray, int]:
    """Samples of a regular file.

    Args:
        path: The file.
        first_channel: Take the first channel alone in place of the mean of all.

    Returns:
        One channel, float32, ``(n,)``; the file's own rate, Hz.

    Raises:
        AudioError: If it is not audio, or damaged.
    """
    try:
        return _decode(path, first_channel)
    except (sf.SoundFileError, TypeError, OSError) as error:  # TypeError: headerless '.raw', whose rate nobody knows
        if not _is_for_ffmpeg(path):
            raise AudioError(f"{path} is not audio, or damaged: give a {READABLE} file") from error
    return _decode_with_ffmpeg(path, first_channel)


def _decode(path: Path, first_channel: bool) -> tuple[np.ndarray, int]:
    """One channel ``(n,)`` and the file's own rate, Hz."""
    # soundfile cannot encode names that are not valid UTF-8, but takes them as bytes.
    name = str(path) if os.name == "nt" else os.fsencode(path)
    blocks = []
    with muted_libmpg123(path), sf.SoundFile(name) as file:
        # By blocks: some headers claim a length that is unknown, or absurd, and a buffer of that size would be made.
        # Not so for MP3: soundfile seeks after each read, and every seek in an MP3 costs some frames.
        size = min(file.frames, _MP3_SAMPLES_PER_BYTE * path.stat().st_size) if file.format == "MP3" else _BLOCK
        while len(block := file.read(size, dtype="float32", always_2d=True)):
            blocks.append(block[:, 0] if first_channel else block.mean(axis=1))
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32), file.samplerate


@contextmanager
def muted_libmpg123(path: Path) -> Iterator[None]:
    """Silence file descriptor 2 while libsndfile may hand the file to libmpg123, which writes its doubts there."""
    with path.open("rb") as file:
        needless = file.read(4) in _QUIET_HEADS
    if needless:
        yield
        return
    with _stderr_lock:
        try:
            kept = os.dup(2)
        except OSError:  # standard error is closed: nothing to silence
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def _is_for_ffmpeg(path: Path) -> bool:
    """Whether libsndfile lacks this kind of recording. Nothing else is shown to ffmpeg, which follows playlists."""
    with path.open("rb") as file:
        head = file.read(8)
    return path.suffix.lower() in _FFMPEG_SUFFIXES or head[4:8] == b"ftyp"


def _decode_with_ffmpeg(path: Path, first_channel: bool) -> tuple[np.ndarray, int]:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise AudioError(f"{path} cannot be read without ffmpeg: install ffmpeg, or convert it to {READABLE}")
    with tempfile.TemporaryDirectory(prefix="chelys-") as folder:
        decoded = Path(folder) / "decoded.wav"
        # An absolute path behind 'file:' is neither taken for an option nor for a URL.
        command = [ffmpeg, "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-i", f"file:{path.absolute()}"]
        command += ["-map", "0:a:0", "-c:a", "pcm_f32le", "-rf64", "auto", "-f", "wav", str(decoded)]
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True,
                           timeout=_FFMPEG_TIMEOUT_SECONDS)  # fmt: skip
            return _decode(decoded, first_channel)
        except subprocess.TimeoutExpired as error:
            raise AudioError(
                f"{path} took ffmpeg more than {_FFMPEG_TIMEOUT_SECONDS:g} s: convert it to {READABLE}"
            ) from error
        except (subprocess.CalledProcessError, sf.SoundFileError, OSError) as error:
            raise AudioError(
                f"{path} is not audio, or damaged (ffmpeg cannot read it): give a {READABLE} file"
            ) from error
