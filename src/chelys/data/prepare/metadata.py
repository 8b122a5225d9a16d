"""What is known of every recording and every clip: the JSON lines that a preparation writes.

``recordings.jsonl`` has a line for each file found, ``clips.jsonl`` one for each clip, kept or dropped, in the order of
recordings and time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from chelys.deprecation import renamed_names, warn_renamed
from chelys.errors import ManifestError

CLIPS = "clips.jsonl"
RECORDINGS = "recordings.jsonl"
MANIFEST = "manifest.jsonl"
STATISTICS = "statistics.json"
_OLD_CLIPS = "ledger.jsonl"

__getattr__ = renamed_names(__name__, {
    "read_ledger": f"{__name__}.read_clips", "Clip": f"{__name__}.ClipMetadata",
    "Recording": f"{__name__}.RecordingMetadata",
})  # fmt: skip


@dataclass
class RecordingMetadata:
    """One file of RAW.

    Attributes:
        source: Path relative to RAW.
        seconds: How much of it can be read; 0 if nothing.
        sha256: Of the content; None if it cannot be read.
        licence: From ``about.yaml``.
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
class ClipMetadata:
    """A piece of a recording between two pauses.

    Attributes:
        id: Unique; made of the recording's name and content and the clip's start.
        source: The recording, relative to RAW.
        start: Start in the recording (seconds).
        end: End there (seconds).
        seconds: Length.
        licence: Of the recording.
        speaker: Who speaks; None if unknown.
        audio: File that holds the clip's sound, relative to OUT; None for a piece that was never written.
        audio_start: Start of the clip in that file (seconds).
        audio_end: End there (seconds).
        measured: Measurement -> value, None where it cannot be taken.
        text: The best transcript; None if there is none.
        confidence: Of the transcript, 0 to 1.
        candidates: Transcripts, best first: ``{"text", "confidence"}``.
        words: ``[word, start, end]``, seconds from the clip's start.
        similar: Ids of similar clips of the same speaker, nearest first.
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


def read_clips(out: Path) -> Iterator[ClipMetadata]:
    """Clips of a prepared folder, in order.

    Raises:
        ManifestError: If the list is missing or a line of it is malformed.
    """
    path = out / CLIPS
    if not path.is_file() and (out / _OLD_CLIPS).is_file():
        warn_renamed(str(out / _OLD_CLIPS), f"{CLIPS} (run 'chelys data prepare' again)")
        path = out / _OLD_CLIPS
    return _read(path, ClipMetadata)


def read_recordings(out: Path) -> Iterator[RecordingMetadata]:
    """Recordings of a prepared folder, in order.

    Raises:
        ManifestError: If the list is missing or a line of it is malformed.
    """
    return _read(out / RECORDINGS, RecordingMetadata)


def _read(path: Path, kind: type) -> Iterator[Any]:
    if not path.is_file():
        raise ManifestError(f"there is no {path}: make it with 'chelys data prepare RAW {path.parent}'")
    known = {f.name for f in fields(kind)}
    with path.open(encoding="utf8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield kind(**{key: value for key, value in json.loads(line).items() if key in known})
            except json.JSONDecodeError as error:
                raise ManifestError(f"{path}:{number}: not JSON ({error.msg})") from error


class Statistics:
    """Counts of recordings and clips; pass each through ``recording`` or ``clip``."""

    def __init__(self) -> None:
        self.recordings = self.unreadable = self.clips = self.kept = 0
        self.recorded_seconds = self.clip_seconds = self.kept_seconds = 0.0
        self.reasons: Counter[str] = Counter()
        self.unreadable_reasons: Counter[str] = Counter()
        self.speakers: Counter[str] = Counter()
        self.licences: Counter[str] = Counter()

    def recording(self, recording: RecordingMetadata) -> RecordingMetadata:
        """Count a recording; returns it."""
        self.recordings += 1
        self.recorded_seconds += recording.seconds
        if recording.status != "read":
            self.unreadable += 1
            self.unreadable_reasons[recording.reason or "unknown"] += 1
        return recording

    def clip(self, clip: ClipMetadata) -> ClipMetadata:
        """Count a clip; returns it."""
        self.clips += 1
        self.clip_seconds += clip.seconds
        self.reasons.update(clip.reasons)
        if clip.kept:
            self.kept += 1
            self.kept_seconds += clip.seconds
            self.speakers[clip.speaker or "unknown"] += 1
            self.licences[clip.licence or "unknown"] += 1
        return clip

    def as_row(self) -> dict[str, object]:
        """Plain values; a clip counts under each of its reasons."""
        return {
            "recordings": self.recordings,
            "unreadable": self.unreadable,
            "clips": self.clips,
            "kept": self.kept,
            "recorded_hours": round(self.recorded_seconds / 3600, 4),
            "clip_hours": round(self.clip_seconds / 3600, 4),
            "kept_hours": round(self.kept_seconds / 3600, 4),
            "dropped_for": dict(sorted(self.reasons.items())),
            "unreadable_for": dict(sorted(self.unreadable_reasons.items())),
            "kept_of_speaker": dict(sorted(self.speakers.items())),
            "kept_of_licence": dict(sorted(self.licences.items())),
        }
