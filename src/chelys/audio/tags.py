"""Tags of sound files: the one that chelys writes into its own, ``comment``, and those that it reads of any.

libsndfile writes comments of FLAC and Ogg. Those of a WAV, of which it reads no more than 2 kB, and of MP3, where its
own lengthen the sound, are written here: a ``LIST`` of ``INFO`` with an ``ICMT`` behind the samples, where readers that
know no more than samples never come; ID3v2.3 with a ``COMM`` in front of the first frame.
"""

from __future__ import annotations

import struct
from pathlib import Path

import soundfile as sf

from chelys.errors import AudioError, MissingExtra, first_line
from chelys.files import open_regular

_MOST_CHUNKS = 1000  # of a WAV, looked through for its tags
_MOST_BYTES = 1 << 20  # of its tags


def with_wav_comment(data: bytes, comment: str) -> bytes:
    """A WAV file with a comment (ASCII) behind its samples; as it is if that makes it too long for a WAV."""
    chunk = wav_comment(comment)
    size = len(data) + len(chunk) - 8
    return data if size >> 32 else data[:4] + struct.pack("<I", size) + data[8:] + chunk


def with_mp3_comment(data: bytes, comment: str) -> bytes:
    """An MP3 file without tags, with a comment (ASCII) in front."""
    text = b"\0eng\0" + comment.encode("ascii")  # Latin-1, English, no description
    frame = b"COMM" + struct.pack(">IH", len(text), 0) + text
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + frame + data


def wav_comment(comment: str) -> bytes:
    """The chunk of a WAV file that holds a comment, of ASCII."""
    text = comment.encode("ascii") + b"\0"
    text += b"\0" * (len(text) % 2)
    return struct.pack("<4sI4s4sI", b"LIST", 12 + len(text), b"INFO", b"ICMT", len(text)) + text


def read_tags(path: Path) -> dict[str, str]:
    """Tags of a sound file, names in lower case.

    By FFmpeg's libraries (PyAV, extra ``media``); without them the comment alone, of what libsndfile reads. Raises
    AudioError if it is no sound file, MissingExtra if only FFmpeg could read it, OSError if it cannot be read.
    """
    try:
        import av
    except ImportError as error:
        comment = _comment(path, error)
        return {"comment": comment} if comment else {}
    with open_regular(path) as raw:
        try:
            with av.open(raw, metadata_errors="replace") as file:
                found = dict(file.metadata)
                for stream in file.streams.audio:
                    found |= stream.metadata
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(f"{path} is no sound file ({first_line(error)})") from error
    return {name.lower(): text for name, text in found.items()}


def _comment(path: Path, missing: ImportError) -> str:
    with open_regular(path) as raw:
        head = raw.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            for _ in range(_MOST_CHUNKS):
                name, size = raw.read(4), int.from_bytes(raw.read(4), "little")
                if name == b"LIST" and 20 <= size <= _MOST_BYTES:
                    inside = raw.read(size)
                    length = int.from_bytes(inside[8:12], "little")
                    if inside[:8] == b"INFOICMT":
                        return inside[12 : 12 + length].rstrip(b"\0").decode("ascii", "replace")
                elif name:
                    raw.seek(size + size % 2, 1)
            return ""
    try:
        with sf.SoundFile(path) as file:
            return str(file.comment)
    except (sf.SoundFileError, TypeError) as error:
        if path.suffix.lower() in (".m4a", ".m4b"):
            raise MissingExtra("media", missing) from error
        raise AudioError(f"{path} is no sound file ({first_line(error)})") from error
