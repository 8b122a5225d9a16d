"""Recordings to clips: speech is found, cut at pauses and kept as one FLAC file for each recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile as sf

from chelys.data.prepare.cutting import Cut, CutSettings, Cutter
from chelys.data.prepare.stream import Resampler, Stream, open_stream
from chelys.data.prepare.voice_activity import FRAME, RATE, VoiceActivity, detector
from chelys.data.prepare.work import Item, Row, Store, key
from chelys.errors import AudioError, MissingExtra

_AT_ONCE = 64 * FRAME  # samples that the detector hears at once, 2 s


@dataclass(frozen=True)
class SegmentSettings:
    """How recordings are cut.

    Attributes:
        rate: Of the clips (Hz).
        detector: ``silero``, or ``energy`` where there is no noise; see ``voice_activity``.
        cut: Where to cut.
    """

    rate: int = 24_000
    detector: str = "silero"
    cut: CutSettings = field(default_factory=CutSettings)


@dataclass(frozen=True)
class Segment:
    """The stage. Its first row tells of the recording, the others of its clips."""

    settings: SegmentSettings = SegmentSettings()
    name: str = "segment"
    version: int = 1

    def item(self, raw: Path, source: str, sha256: str) -> Item:
        """Of one recording."""
        # The suffix tells some formats; another name for the same content is no reason to do it again.
        return Item({"sha256": sha256, "suffix": Path(source).suffix.lower()}, {"raw": str(raw), "source": source})

    def audio(self, name: str) -> str:
        """Where the clips of an item lie, relative to OUT."""
        return f"audio/{name[:2]}/{name}.flac"

    def check(self) -> None:
        """See ``Stage``."""
        detector(self.settings.detector)

    def work(self, item: Item, store: Store) -> list[Row]:
        """Cut one recording."""
        path = Path(item.place["raw"], item.place["source"])
        audio = self.audio(key(self, item))
        try:
            with open_stream(path) as stream, store.growing(store.out / audio) as partial:
                run = _Run(self.settings, stream)
                with sf.SoundFile(partial, "w", self.settings.rate, 1, "PCM_16", format="FLAC") as file:
                    rows = list(run.clips(file))
            if not run.read:
                return [_unreadable(stream.damage or "holds no samples")]
        except MissingExtra:
            raise  # may be installed by the next time
        except AudioError as error:
            return [_unreadable(str(error))]
        head: Row = {"status": "read", "reason": stream.damage, "seconds": run.read / stream.rate, "audio": audio}
        return [head, *rows]


def _unreadable(reason: str) -> Row:
    return {"status": "unreadable", "reason": reason, "seconds": 0.0, "audio": None}


class _Run:
    """One recording on its way: what is heard goes to the detector at 16 kHz, and to the clips at their rate."""

    def __init__(self, settings: SegmentSettings, stream: Stream) -> None:
        self.settings, self.stream = settings, stream
        self.read = 0  # samples of the recording
        self.detector: VoiceActivity = detector(settings.detector)
        self.cutter = Cutter(settings.cut)
        self._to_detector = Resampler(stream.rate, RATE)
        self._to_clips = Resampler(stream.rate, settings.rate)
        self._unheard = np.zeros(0, np.float32)
        self._kept = np.zeros(0, np.float32)
        self._kept_from = 0  # where that begins in the recording, samples at the clips' rate
        self._written = 0  # samples

    def clips(self, file: sf.SoundFile) -> Iterator[Row]:
        """Write all clips, one after another; gives their rows."""
        for block in self.stream.blocks():
            self.read += len(block)
            heard = self._hear(self._to_detector(block), self._to_clips(block))
            yield from self._write(heard, file)
        empty = np.zeros(0, np.float32)
        rest = np.concatenate([self._unheard, self._to_detector(empty, last=True)])
        self._unheard = np.zeros(0, np.float32)
        padded = np.pad(rest, (0, -len(rest) % FRAME))
        yield from self._write(self._hear(padded, self._to_clips(empty, last=True), everything=True), file)
        yield from self._write(self.cutter.end(damaged=self.stream.damage is not None), file)

    def _hear(self, coarse: np.ndarray, fine: np.ndarray, *, everything: bool = False) -> Iterator[Cut]:
        self._kept = np.concatenate([self._kept, fine])
        self._unheard = np.concatenate([self._unheard, coarse])
        whole = len(self._unheard) - len(self._unheard) % (FRAME if everything else _AT_ONCE)
        for first in range(0, whole, _AT_ONCE):
            yield from self.cutter.hear(self.detector(self._unheard[first : min(first + _AT_ONCE, whole)]).tolist())
        self._unheard = self._unheard[whole:]

    def _write(self, cuts: Iterator[Cut], file: sf.SoundFile) -> Iterator[Row]:
        rate = self.settings.rate
        for cut in cuts:
            row: Row = {"start": round(cut.start, 3), "end": round(cut.end, 3), "reason": cut.reason}
            if cut.reason is None:
                first = round(cut.start * rate) - self._kept_from
                assert first >= 0, "the beginning of a clip was forgotten"
                samples = np.clip(self._kept[first : round(cut.end * rate) - self._kept_from], -1.0, 1.0)
                file.write(samples)
                row["end"] = round(cut.start + len(samples) / rate, 3)  # the last frame may reach beyond the recording
                row["audio_start"], row["audio_end"] = self._written, self._written + len(samples)
                self._written += len(samples)
            yield row
        # Speech of which nobody knows yet where it ends is kept, but never more than could become a clip.
        since = round((self.cutter.open_since - 0.1) * rate)
        most = len(self._kept) + self._kept_from - round((self.settings.cut.most + 30) * rate)
        forget = max(since, most) - self._kept_from
        if forget > rate:
            self._kept = self._kept[forget:].copy()
            self._kept_from += forget
