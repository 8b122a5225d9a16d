"""From probabilities of speech to clips: cut at pauses, never in a word, with a memory of one clip.

The paper cuts at half a second of silence; a stretch that is too long is cut at its longest shorter pause, and one
that has none is given up rather than cut in a word. Times are counted in frames of 32 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from chelys.data.prepare.voice_activity import FRAME_SECONDS

TOO_SHORT = "too short"
NO_PAUSE = "no pause to cut at"


@dataclass(frozen=True)
class CutSettings:
    """Where to cut.

    Attributes:
        pause: Silence that parts two clips (seconds); 0.5 in the paper.
        least: Shortest clip (seconds).
        most: Longest clip (seconds); 20 in the paper.
        least_pause: Shortest pause at which a stretch that is too long is cut (seconds).
        margin: Silence left before and after speech, where there is as much (seconds).
        on: Probability at which speech begins.
        off: Probability below which it ends.
    """

    pause: float = 0.5
    least: float = 0.6
    most: float = 20.0
    least_pause: float = 0.16
    margin: float = 0.2
    on: float = 0.5
    off: float = 0.35


class Cut(NamedTuple):
    """A piece of a recording.

    Attributes:
        start: Where it begins (seconds).
        end: Where it ends (seconds).
        reason: Why it is no clip, or None.
    """

    start: float
    end: float
    reason: str | None


class Island(NamedTuple):
    """Speech without a pause: first frame, and the first frame after it."""

    start: int
    end: int


class Cutter:
    """Cuts one recording, as it is heard."""

    def __init__(self, settings: CutSettings) -> None:
        self.settings = settings
        self.frame = 0
        self._begun: int | None = None  # first frame of the island being heard
        self._group: list[Island] = []  # islands of the stretch being heard, which may become one clip or more
        self._before = 0  # where the silence before the stretch begins
        self._pause = round(settings.pause / FRAME_SECONDS)
        self._least_pause = max(1, round(settings.least_pause / FRAME_SECONDS))

    @property
    def open_since(self) -> float:
        """Nothing before this time (seconds) will be in a clip any more."""
        if self._group:
            begin = self._group[0].start
        else:
            begin = self.frame if self._begun is None else self._begun
        return max(0.0, begin * FRAME_SECONDS - self.settings.margin)

    def hear(self, probabilities: Iterable[float]) -> Iterator[Cut]:
        """Go on; gives the pieces that are known by now."""
        for probability in probabilities:
            if self._begun is None and probability >= self.settings.on:
                self._begun = self.frame
            elif self._begun is not None and probability < self.settings.off:
                self._group.append(Island(self._begun, self.frame))
                self._begun = None
            self.frame += 1
            yield from self._split()
            silent = self._group and self._begun is None
            if silent and self.frame - self._group[-1].end >= self._pause:
                yield from self._close()

    def end(self, *, damaged: bool = False) -> Iterator[Cut]:
        """The recording ends here; where it is damaged, what was being said is not whole and is left out."""
        if self._begun is not None and not damaged:
            self._group.append(Island(self._begun, self.frame))
        elif self._begun is not None and self._group:
            self._group = []
        self._begun = None
        yield from self._split()
        if self._group:
            yield from self._close()

    def _length(self, start: int, end: int) -> float:
        return (end - start) * FRAME_SECONDS + 2 * self.settings.margin

    def _split(self) -> Iterator[Cut]:
        """Cut a stretch that has become too long at its longest pause."""
        while self._group:
            first = self._group[0].start
            heard = self._group[-1].end if self._begun is None else self.frame
            if self._length(first, heard) <= self.settings.most:
                return
            at = self._longest_pause()
            if at is None:  # nothing in here will ever be cut: one island, however long it grows
                self._group = [Island(first, self._group[-1].end)]
                return
            piece, self._group = self._group[: at + 1], self._group[at + 1 :]
            after = self._group[0].start if self._group else self._begun
            assert after is not None
            yield self._piece(piece, after)

    def _longest_pause(self) -> int | None:
        """Index of the island after which to cut; None where there is no pause."""
        starts = [island.start for island in self._group[1:]]
        if self._begun is not None:
            starts.append(self._begun)
        pauses = [(start - island.end, i) for i, (island, start) in enumerate(zip(self._group, starts, strict=False))]
        usable = [(length, i) for length, i in pauses if length >= self._least_pause]
        lengths = {i: self._length(self._group[0].start, self._group[i].end) for _, i in usable}
        fitting = [p for p in usable if self.settings.least <= lengths[p[1]] <= self.settings.most]
        if fitting:
            return max(fitting)[1]
        return usable[0][1] if usable else None  # what comes before it is too short or too long for a clip

    def _close(self) -> Iterator[Cut]:
        piece, self._group = self._group, []
        yield self._piece(piece, self.frame)

    def _piece(self, islands: list[Island], after: int) -> Cut:
        """A piece with its margins, of which each is at most half of the silence that there is."""
        start, end = islands[0].start, islands[-1].end
        before = min(self.settings.margin, (start - self._before) * FRAME_SECONDS / (2 if self._before else 1))
        behind = min(self.settings.margin, (after - end) * FRAME_SECONDS / 2)
        self._before = end
        cut = Cut(start * FRAME_SECONDS - before, end * FRAME_SECONDS + behind, None)
        if cut.end - cut.start < self.settings.least:
            return cut._replace(reason=TOO_SHORT)
        return cut if self._length(start, end) <= self.settings.most else cut._replace(reason=NO_PAUSE)
