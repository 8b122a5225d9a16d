"""What the clips of a preparation sum up to."""

from __future__ import annotations

from collections import Counter

from chelys.data.prepare.ledger import Clip, Recording


class Statistics:
    """Counts recordings and clips as they pass."""

    def __init__(self) -> None:
        self.recordings = self.unreadable = self.clips = self.kept = 0
        self.recorded_seconds = self.clip_seconds = self.kept_seconds = 0.0
        self.reasons: Counter[str] = Counter()
        self.unreadable_reasons: Counter[str] = Counter()
        self.speakers: Counter[str] = Counter()
        self.licences: Counter[str] = Counter()

    def recording(self, recording: Recording) -> Recording:
        """Count one; gives it back."""
        self.recordings += 1
        self.recorded_seconds += recording.seconds
        if recording.status != "read":
            self.unreadable += 1
            self.unreadable_reasons[recording.reason or "unknown"] += 1
        return recording

    def clip(self, clip: Clip) -> Clip:
        """Count one; gives it back."""
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
