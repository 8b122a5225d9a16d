"""Clips that cannot be used: counted, listed with the reason, left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from chelys.files import write_json_lines

FILE_NAME = "bad_clips.jsonl"


class BadClip(NamedTuple):
    """A clip and what is wrong with it."""

    id: str  # of the manifest
    reason: str  # a few words that many clips can share: ``missing``, ``silent``, ``too short``
    detail: str = ""  # what is particular to this one


class BadClips:
    """Clips left out, each with its first reason, in the order in which they were found."""

    def __init__(self, clips: Iterable[BadClip] = ()) -> None:
        self._clips: dict[str, BadClip] = {}
        self.extend(clips)

    def __len__(self) -> int:
        return len(self._clips)

    def __bool__(self) -> bool:
        return True  # an empty list is a list

    def __contains__(self, clip_id: str) -> bool:
        return clip_id in self._clips

    def add(self, clip_id: str, reason: str, detail: str = "") -> None:
        """Add a clip, unless it is there."""
        self._clips.setdefault(clip_id, BadClip(clip_id, reason, detail))

    def extend(self, clips: Iterable[BadClip]) -> None:
        """Add several."""
        for clip in clips:
            self.add(*clip)

    def all(self) -> list[BadClip]:
        """Every clip with its reason."""
        return list(self._clips.values())

    def summary(self) -> str:
        """How many of each reason: ``3 silent, 1 missing``."""
        counts = Counter(clip.reason for clip in self._clips.values())
        return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())

    def write(self, path: Path) -> None:
        """Write the list, one clip a line, whole or not at all; no file where no clip is bad."""
        if not self._clips:
            path.unlink(missing_ok=True)
            return
        lines = (
            {"id": c.id, "reason": c.reason} | ({"detail": c.detail} if c.detail else {}) for c in self._clips.values()
        )
        write_json_lines(path, lines)

    @classmethod
    def read(cls, path: Path) -> BadClips:
        """Read a list; empty where there is none."""
        if not path.is_file():
            return cls()
        with path.open(encoding="utf8") as lines:
            return cls(BadClip(**json.loads(line)) for line in lines)
