"""What a ledger sums up to: the figures of the report and of the data card, gathered in one pass."""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chelys.data.prepare.ledger import Clip, Recording, read_ledger, read_recordings
from chelys.data.prepare.references import Comparison, compare, read_references
from chelys.data.prepare.statistics import Statistics

_ENOUGH = 100_000  # values of a measurement; a histogram of more looks the same
_LISTED = 200
UNKNOWN = "unknown"


class Values:
    """Values of a measurement: all of them, or an even sample of very many."""

    def __init__(self, seed: int) -> None:
        self.count = 0
        self._sum = 0.0
        self._values: list[float] = []
        self._rng = np.random.default_rng(seed)

    def add(self, value: float) -> None:
        """Take one in."""
        self.count += 1
        self._sum += value
        if len(self._values) < _ENOUGH:
            self._values.append(value)
        elif (place := int(self._rng.integers(self.count))) < _ENOUGH:  # Vitter (1985), algorithm R
            self._values[place] = value

    @property
    def mean(self) -> float:
        """Of all of them."""
        return self._sum / max(1, self.count)

    def array(self) -> np.ndarray:
        """Those at hand, ``(n,)``."""
        return np.array(self._values)


@dataclass
class Account:
    """What became of the recordings.

    Attributes:
        statistics: Counts.
        kept: Measurement -> its values among kept clips; ``seconds`` and ``confidence`` too.
        dropped: The same of the others.
        hours_of_speaker: Of kept clips.
        hours_of_licence: Of kept clips.
        hours_of_reason: Of dropped clips; a clip counts under each of its reasons.
        unreadable: Some of the recordings that could not be read.
        sample: Clips to listen to, drawn at random from the kept ones.
        doubtful: Kept clips with the least confident transcripts.
        words: In the transcripts of kept clips.
        comparison: With references, where there are some.
    """

    statistics: Statistics = field(default_factory=Statistics)
    kept: dict[str, Values] = field(default_factory=dict)
    dropped: dict[str, Values] = field(default_factory=dict)
    hours_of_speaker: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    hours_of_licence: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    hours_of_reason: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    unreadable: list[Recording] = field(default_factory=list)
    sample: list[Clip] = field(default_factory=list)
    doubtful: list[Clip] = field(default_factory=list)
    words: int = 0
    comparison: Comparison | None = None

    @property
    def speakers(self) -> int:
        """How many are named."""
        return len(self.hours_of_speaker.keys() - {UNKNOWN})


def gather(out: Path, *, references: Path | None = None, clips: int = 20, seed: int = 1) -> Account:
    """Read the account of a preparation.

    Args:
        out: Folder that ``chelys data prepare`` wrote.
        references: File of given transcripts.
        clips: How many to draw.
        seed: Of the drawing: which clips are drawn depends on it and on their names, not on their order.

    Raises:
        ManifestError: If there is no ledger, or the references name none of its recordings.
    """
    account = Account()
    given = None if references is None else read_references(references)
    sources = []
    for recording in read_recordings(out):
        account.statistics.recording(recording)
        sources.append(recording.source)
        if recording.status != "read" and len(account.unreadable) < _LISTED:
            account.unreadable.append(recording)
    heard: dict[str, list[str]] = defaultdict(list)
    kept: dict[str, list[str]] = defaultdict(list)
    drawn: list[tuple[int, str, Clip]] = []
    doubtful: list[tuple[float, str, Clip]] = []
    for clip in read_ledger(out):
        _count(account, clip, seed)
        if given is not None and clip.text:
            heard[clip.source].append(clip.text)
            if clip.kept:
                kept[clip.source].append(clip.text)
        if clip.kept:
            lot = hashlib.sha256(f"{seed}:{clip.id}".encode(errors="replace")).digest()
            _keep_largest(drawn, (-int.from_bytes(lot[:8], "big"), clip.id, clip), clips)
            if clip.confidence is not None:
                _keep_largest(doubtful, (-clip.confidence, clip.id, clip), clips)
    account.sample = [clip for _, _, clip in sorted(drawn, key=lambda row: (-row[0], row[1]))]
    account.doubtful = [clip for _, _, clip in sorted(doubtful, key=lambda row: (-row[0], row[1]))]
    if given is not None:
        account.comparison = compare(sources, _joined(kept), _joined(heard), given)
    return account


def _joined(texts: dict[str, list[str]]) -> dict[str, str]:
    return {source: " ".join(parts) for source, parts in texts.items()}


def _keep_largest(heap: list, row: tuple, most: int) -> None:
    (heapq.heappush if len(heap) < most else heapq.heappushpop)(heap, row)


def _count(account: Account, clip: Clip, seed: int) -> None:
    account.statistics.clip(clip)
    hours = clip.seconds / 3600
    if clip.kept:
        account.hours_of_speaker[clip.speaker or UNKNOWN] += hours
        account.hours_of_licence[clip.licence or UNKNOWN] += hours
        account.words += len((clip.text or "").split())
    else:
        for reason in clip.reasons:
            account.hours_of_reason[reason] += hours
    group = account.kept if clip.kept else account.dropped
    for name, value in {"seconds": clip.seconds, "confidence": clip.confidence, **clip.measured}.items():
        if isinstance(value, int | float) and np.isfinite(value):
            group.setdefault(name, Values(seed)).add(float(value))
