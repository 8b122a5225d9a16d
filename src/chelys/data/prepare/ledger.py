"""The account of a preparation: what became of every recording and of every clip.

``recordings.jsonl`` has a line for each recording found, ``ledger.jsonl`` one for each clip, kept or dropped, by
recording and time. Both are plain JSON, a line each.
"""

from __future__ import annotations

import filecmp
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from chelys.errors import ManifestError

LEDGER = "ledger.jsonl"
RECORDINGS = "recordings.jsonl"
MANIFEST = "manifest.jsonl"
STATISTICS = "statistics.json"


@dataclass
class Recording:
    """One file of RAW.

    Attributes:
        source: Its path, relative to RAW.
        seconds: How much of it could be read; 0 if nothing.
        sha256: Of its content, None if that cannot be read.
        licence: As ``about.yaml`` says.
        status: ``read`` or ``unreadable``.
        reason: Why it is unreadable, or what is wrong with a recording that was read in part.
    """

    source: str
    seconds: float = 0.0
    sha256: str | None = None
    licence: str | None = None
    status: str = "read"
    reason: str | None = None


@dataclass
class Clip:
    """A piece of a recording between two pauses.

    Attributes:
        id: Unique; of the recording's name and content and the clip's start.
        source: The recording, relative to RAW.
        start: Where the clip begins in the recording (seconds).
        end: Where it ends there (seconds).
        seconds: Its length.
        licence: Of the recording.
        speaker: Who speaks, None if nobody said.
        audio: File that holds the clip's sound, relative to OUT; None for a piece that was never a clip.
        audio_start: Where the clip begins in that file (seconds).
        audio_end: Where it ends there (seconds).
        measured: Name of a measurement -> its value, None where it could not be taken.
        text: The best transcript, None if none was made.
        confidence: Of the transcript, 0 to 1.
        candidates: Transcripts, best first: ``{"text", "confidence"}``.
        words: ``[word, start, end]``, seconds from the clip's start.
        similar: Ids of other clips of the same speaker, nearest first.
        same_as: Id of the clip that this one repeats.
        kept: Whether it is in the manifest.
        reasons: Why not.
    """

    id: str
    source: str
    start: float
    end: float
    seconds: float
    licence: str | None = None
    speaker: str | None = None
    audio: str | None = None
    audio_start: float = 0.0
    audio_end: float = 0.0
    measured: dict[str, float | None] = field(default_factory=dict)
    text: str | None = None
    confidence: float | None = None
    candidates: list[dict[str, Any]] = field(default_factory=list)
    words: list[list[Any]] = field(default_factory=list)
    similar: list[str] = field(default_factory=list)
    same_as: str | None = None
    kept: bool = True
    reasons: list[str] = field(default_factory=list)


def read_ledger(out: Path) -> Iterator[Clip]:
    """Clips of a prepared folder, in order.

    Raises:
        ManifestError: If there is no ledger, or a line of it is malformed.
    """
    known = {f.name for f in fields(Clip)}
    for entry in _read_lines(out / LEDGER):
        yield Clip(**{key: value for key, value in entry.items() if key in known})


def read_recordings(out: Path) -> Iterator[Recording]:
    """Recordings of a prepared folder, in order.

    Raises:
        ManifestError: If there is no such list, or a line of it is malformed.
    """
    known = {f.name for f in fields(Recording)}
    for entry in _read_lines(out / RECORDINGS):
        yield Recording(**{key: value for key, value in entry.items() if key in known})


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise ManifestError(f"there is no {path}: make it with 'chelys data prepare RAW {path.parent}'")
    with path.open(encoding="utf8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ManifestError(f"{path}:{number}: not JSON ({error.msg})") from error


def to_line(value: Any) -> str:
    """One line of JSON; readable, unless a file's name is no UTF-8 and can only be written escaped."""
    entry = value if isinstance(value, dict) else asdict(value)
    line = json.dumps(entry, ensure_ascii=False)
    try:
        line.encode("utf8")
    except UnicodeEncodeError:
        line = json.dumps(entry)
    return line + "\n"


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write JSON lines whole or not at all; a file that says the same already is left alone."""
    _write(path, map(to_line, values))


def write_text(path: Path, text: str) -> None:
    """The same of a text."""
    _write(path, [text])


def _write(path: Path, parts: Iterable[str]) -> None:
    partial = path.with_name(f"{path.name}.part")
    try:
        with partial.open("w", encoding="utf8") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        put(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def put(partial: Path, path: Path) -> None:
    """Give a finished file its name, unless the file of that name is the same, byte for byte."""
    if path.is_file() and filecmp.cmp(partial, path, shallow=False):
        partial.unlink()
    else:
        partial.replace(path)
