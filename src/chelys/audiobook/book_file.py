"""Audiobook files: one sound with chapters, cover and tags, by FFmpeg's libraries (PyAV, extra ``audiobook``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from chelys.audio.rates import OUTPUT_RATE
from chelys.audiobook.book import Cover
from chelys.errors import MissingExtra, OutputError, first_line
from chelys.files import atomic_path, output_errors


@dataclass(frozen=True)
class Format:
    """How a kind of file is written."""

    container: str  # of FFmpeg
    codec: str
    samples: str  # sample format of the codec
    bits: int = 0  # a second, unless asked for otherwise; 0: what there is to say
    cover: bool = False  # whether it can hold one
    chapters: bool = True
    coder: str = ""  # how FFmpeg's AAC encoder searches; ``fast`` errs less on nano's speech than its default
    rate: int = OUTPUT_RATE  # at twice that AAC's blocks, which ring before a word, are half as long, and err less


FORMATS = {
    "m4b": Format("mp4", "aac", "fltp", 64_000, cover=True, coder="fast", rate=2 * OUTPUT_RATE),
    "m4a": Format("mp4", "aac", "fltp", 64_000, cover=True, coder="fast", rate=2 * OUTPUT_RATE),
    "mp3": Format("mp3", "libmp3lame", "fltp", 96_000, cover=True),
    "opus": Format("ogg", "libopus", "flt", 40_000),
    "flac": Format("flac", "flac", "s16", cover=True, chapters=False),
    "wav": Format("wav", "pcm_s16le", "s16", chapters=False),
}


@dataclass(frozen=True)
class Mark:
    """Where a chapter lies in a file."""

    title: str
    start_s: float  # seconds
    end_s: float


def format_named(path: Path, given: str | None = None) -> str:
    """The format of a file, by its suffix unless it is given. Raises OutputError if there is none such."""
    name = given or path.suffix.lower().removeprefix(".")
    if name not in FORMATS:
        raise OutputError(f"{path}: no audiobook format {name!r}: choose from {', '.join(FORMATS)}")
    return name


def check_installed() -> None:
    """Raise MissingExtra if a package is missing that reading a book needs at its end."""
    try:
        import av  # noqa: F401
        import pyloudnorm  # noqa: F401
        import scipy  # noqa: F401
    except ImportError as error:
        raise MissingExtra("audiobook", error) from error


def write(
    path: Path, blocks: Iterable[np.ndarray], format: str, *, tags: Mapping[str, str], chapters: Sequence[Mark] = (),
    cover: Cover | None = None, kbps: int | None = None,
) -> None:  # fmt: skip
    """Write a file, whole or not at all; the same input gives the same bytes. The caller holds a lock on it.

    Raises OutputError if it cannot be written, or FFmpeg refuses.

    Args:
        path: The file.
        blocks: Samples ``(n,)`` at 24 kHz in [-1, 1], piece by piece.
        format: One of ``FORMATS``.
        tags: FFmpeg's names (title, artist, album, comment ...) and what they say.
        chapters: In order; where the format has none they are left out.
        cover: The same.
        kbps: Bit rate, in thousands a second; None is the format's own.
    """
    import av

    how = FORMATS[format]
    with output_errors(path), atomic_path(path, locked=True) as partial:
        try:
            with av.open(
                str(partial), "w", format=how.container, options={"fflags": "+bitexact", **_OPTIONS.get(format, {})}
            ) as file:
                _fill(file, blocks, how, tags, chapters if how.chapters else (), cover if how.cover else None, kbps)
        except av.FFmpegError as error:
            if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
                raise OSError(error.errno, error.strerror) from error
            raise OutputError(f"cannot write {path}: {first_line(error)}") from error


#: Of the writers of files: heads in front, so that players start at once; files of more than 4 GB.
_OPTIONS = {
    "m4b": {"movflags": "+faststart"},
    "m4a": {"movflags": "+faststart"},
    "wav": {"rf64": "auto"},
    "mp3": {"id3v2_version": "3"},
}


def _fill(
    file: Any, blocks: Iterable[np.ndarray], how: Format, tags: Mapping[str, str], chapters: Sequence[Mark],
    cover: Cover | None, kbps: int | None,
) -> None:  # fmt: skip
    import av

    options = {"flags": "+bitexact"} | ({"aac_coder": how.coder} if how.coder else {})
    stream = file.add_stream(how.codec, rate=how.rate, layout="mono", options=options)
    stream.format = how.samples
    if bits := 1000 * kbps if kbps and how.bits else how.bits:
        stream.bit_rate = bits
    filled = {name: text for name, text in tags.items() if text}
    if how.container == "ogg":  # FFmpeg's own chapters there are off by up to a second
        for number, one in enumerate(chapters):
            hours, rest = divmod(round(one.start_s * 1000), 3_600_000)
            filled[f"CHAPTER{number:03d}"] = f"{hours:02d}:{rest // 60_000:02d}:{rest % 60_000 / 1000:06.3f}"
            filled[f"CHAPTER{number:03d}NAME"] = one.title
        chapters = ()
    (stream if how.container == "ogg" else file).metadata.update(filled)
    picture = None
    if cover is not None:
        picture = file.add_stream("mjpeg" if cover.kind == "jpeg" else "png", rate=1)
        picture.width, picture.height = cover.width, cover.height
        picture.pix_fmt = "yuvj420p" if cover.kind == "jpeg" else "rgb24"
        picture.disposition = av.stream.Disposition.attached_pic
    file.set_chapters([
        {"id": number, "start": round(one.start_s * 1000), "end": round(one.end_s * 1000),
         "time_base": Fraction(1, 1000), "metadata": {"title": one.title}}
        for number, one in enumerate(chapters)
    ])  # fmt: skip
    if picture is not None and cover is not None:
        packet = av.Packet(cover.data)
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = picture, 0, 0, True
        packet.time_base = Fraction(1, 1)
        file.mux(packet)
    at = 0
    for block in blocks:
        samples = np.rint(block * 32767).astype(np.int16) if how.samples == "s16" else block.astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples[None], format=how.samples, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = OUTPUT_RATE, at, Fraction(1, OUTPUT_RATE)
        at += len(block)
        for packet in stream.encode(frame):
            file.mux(packet)
    for packet in stream.encode(None):
        file.mux(packet)
