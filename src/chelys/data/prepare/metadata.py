"""What is known of every recording and every clip: the JSON lines that a preparation writes.

``recordings.jsonl`` has a line for each file found, ``clips.jsonl`` one for each clip, kept or dropped, in the order of
recordings and time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from chelys.deprecation import renamed_names, warn_renamed
from chelys.errors import ManifestError
from chelys.parsing import ParseError, parse_json, read_lines

CLIPS = "clips.jsonl"
RECORDINGS = "recordings.jsonl"
MANIFEST = "manifest.jsonl"
STATISTICS = "statistics.json"
_OLD_CLIPS = "ledger.jsonl"

__getattr__ = renamed_names(__name__)


@dataclass
class RecordingMetadata:
    """One file of RAW."""

    source: str  # path relative to RAW
    seconds: float = 0.0  # how much of it can be read; 0 if nothing
    sha256: str | None = None  # of the content; None if it cannot be read
    licence: str | None = None  # from ``about.yaml``
    status: str = "read"  # ``read`` or ``unreadable``
    reason: str | None = None  # why it is unreadable, or what is wrong with a recording that was read in part


@dataclass
class ClipMetadata:
    """A piece of a recording between two pauses."""

    id: str  # unique; made of the recording's name and content and the clip's start
    source: str  # the recording, relative to RAW
    start: float  # start in the recording (seconds)
    end: float  # end there (seconds)
    seconds: float  # length
    licence: str | None = None  # of the recording
    speaker: str | None = None  # who speaks; None if unknown
    #: file that holds the clip's sound, relative to OUT; None for a piece that was never written
    audio: str | None = None
    audio_start: float = 0.0  # start of the clip in that file (seconds)
    audio_end: float = 0.0  # end there (seconds)
    #: measurement -> value, None where it cannot be taken
    measured: dict[str, float | None] = field(default_factory=dict)
    text: str | None = None  # the best transcript; None if there is none
    confidence: float | None = None  # of the transcript, 0 to 1
    #: transcripts, best first: ``{"text", "confidence"}``
    candidates: list[dict[str, Any]] = field(default_factory=list)
    words: list[list[Any]] = field(default_factory=list)  # ``[word, start, end]``, seconds from the clip's start
    similar: list[str] = field(default_factory=list)  # ids of similar clips of the same speaker, nearest first
    same_as: str | None = None  # id of the clip that this one repeats
    kept: bool = True  # whether it is in the manifest
    reasons: list[str] = field(default_factory=list)  # why not


def read_clips(out: Path) -> Iterator[ClipMetadata]:
    """Clips of a prepared folder, in order. Raises ManifestError if the list is missing or malformed."""
    path = out / CLIPS
    if not path.is_file() and (out / _OLD_CLIPS).is_file():
        warn_renamed(str(out / _OLD_CLIPS), f"{CLIPS} (run 'chelys data prepare' again)")
        path = out / _OLD_CLIPS
    return _read(path, ClipMetadata)


def read_recordings(out: Path) -> Iterator[RecordingMetadata]:
    """Recordings of a prepared folder, in order. Raises ManifestError if the list is missing or malformed."""
    return _read(out / RECORDINGS, RecordingMetadata)


def _read(path: Path, kind: type) -> Iterator[Any]:
    if not path.is_file():
        raise ManifestError(f"there is no {path}: make it with 'chelys data prepare RAW {path.parent}'")
    known = {f.name for f in fields(kind)}
    for number, line in read_lines(path):
        try:
            yield kind(**{key: value for key, value in parse_json(line).items() if key in known})
        except (ParseError, AttributeError, TypeError) as error:
            raise ManifestError(f"{path}:{number}: {error}") from error


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
        self.recordings += 1
        self.recorded_seconds += recording.seconds
        if recording.status != "read":
            self.unreadable += 1
            self.unreadable_reasons[recording.reason or "unknown"] += 1
        return recording

    def clip(self, clip: ClipMetadata) -> ClipMetadata:
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
            **{name: getattr(self, name) for name in ("recordings", "unreadable", "clips", "kept")},
            "recorded_hours": round(self.recorded_seconds / 3600, 4),
            "clip_hours": round(self.clip_seconds / 3600, 4),
            "kept_hours": round(self.kept_seconds / 3600, 4),
            "dropped_for": dict(sorted(self.reasons.items())),
            "unreadable_for": dict(sorted(self.unreadable_reasons.items())),
            "kept_of_speaker": dict(sorted(self.speakers.items())),
            "kept_of_licence": dict(sorted(self.licences.items())),
        }
