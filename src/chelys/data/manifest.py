"""Manifests: one utterance a line of JSON, readable with ``less``.

``{"id", "audio", "text", "speaker", "seconds", "start", "end"}``; ``audio`` is relative to the manifest,
``start`` and ``end`` (seconds) cut a piece out of a longer file and are left out where the clip is a file.

Clips that cannot be used are counted, listed with the reason, and left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from chelys.deprecation import renamed_names
from chelys.errors import ManifestError, first_line
from chelys.files import write_json_lines
from chelys.parsing import ParseError, parse_json, read_json_lines, read_lines


@dataclass(frozen=True)
class Utterance:
    """A clip and its words."""

    id: str  # unique within the manifest
    audio: str  # path of the audio file, relative to the manifest unless absolute
    text: str  # what is said
    speaker: str  # who says it; clips of one speaker condition one another
    seconds: float  # length of the clip
    start: float = 0.0  # where the clip begins in the file (seconds)
    end: float | None = None  # where it ends; None is the file's end


_FIELDS = {f.name for f in fields(Utterance)}
_TEXTS = {"id", "audio", "text", "speaker"}
#: Seconds into a recording, and of a clip: four months.
MAX_POSITION = 10_000_000
_REQUIRED = {"id", "audio", "text", "speaker", "seconds"}


def read_manifest(path: Path, *, root: Path | None = None) -> Iterator[Utterance]:
    """Utterances of a manifest, in order; keys that chelys does not know are passed over.

    Audio paths are made absolute, unless a ``root`` is given, to which they are relative. Raises ManifestError if the
    file is missing or a line is malformed; the line is named.
    """
    for number, entry in numbered_entries(path):
        if isinstance(entry, ParseError) or (fault := fault_of(entry)):
            raise ManifestError(f"{path}:{number}: {entry if isinstance(entry, ParseError) else fault}")
        if root is None:
            entry["audio"] = str(path.parent.absolute() / entry["audio"])
        yield Utterance(**{key: value for key, value in entry.items() if key in _FIELDS})


def numbered_entries(path: Path) -> Iterator[tuple[int, Any]]:
    """The number and the value of each line that is not blank; a ParseError in place of one that cannot be parsed.

    Raises ManifestError if the file is missing, cannot be read, or is no text.
    """
    try:
        for number, line in read_lines(path):
            try:
                yield number, parse_json(line)
            except ParseError as error:
                yield number, error
    except FileNotFoundError:
        raise ManifestError(f"no manifest at {path}") from None
    except (OSError, ParseError) as error:
        raise ManifestError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def fault_of(entry: Any) -> str | None:
    """What is wrong with a line's value, or None."""
    if not isinstance(entry, dict):
        return "not an object with the keys of an utterance"
    if missing := _REQUIRED - set(entry):
        return f"lacks {', '.join(sorted(missing))}"
    for key in sorted(_FIELDS & set(entry)):
        value = entry[key]
        if key in _TEXTS and not isinstance(value, str):
            return f"{key} is {json.dumps(value)}; it must be a string"
        number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_POSITION
        if key not in _TEXTS and not (key == "end" and value is None) and not number:
            return f"{key} is {json.dumps(value)}; it must be a number of seconds, 0 to {MAX_POSITION}"
    end = entry.get("end")
    if end is not None and end <= entry.get("start", 0.0):
        return f"end is {end}; it must come after start, {entry.get('start', 0.0)}"
    return None


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest whole or not at all; default values are left out of the lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = (
        {k: v for k, v in asdict(utterance).items() if not (k == "start" and v == 0.0) and v is not None}
        for utterance in utterances
    )
    write_json_lines(path, entries)


# ---- clips that cannot be used --------------------------------------------------------------------------------------

BAD_CLIPS_FILE = "bad_clips.jsonl"
__getattr__ = renamed_names(__name__)


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
        for clip in clips:
            self.add(*clip)

    def all(self) -> list[BadClip]:
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
        if not path.is_file():
            return cls()
        try:
            return cls(BadClip(**entry) for entry in read_json_lines(path))
        except (OSError, ParseError, TypeError) as error:
            raise ManifestError(f"{path} is damaged ({first_line(error)}): delete it") from error
