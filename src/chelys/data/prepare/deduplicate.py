"""Clips that repeat others: the same recording again, in whatever file format, or the same words again.

The fingerprint is that of Haitsma and Kalker ("A highly robust audio fingerprinting system", ISMIR 2002): for every
12.5 ms, 32 bits that say whether the energy differences between neighbouring bands rise or fall. Copies through codecs
differ in up to a tenth of the bits, other recordings in a quarter to a half of them.

w words of a fingerprint, 32 bits each.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from chelys.audio.io import resample
from chelys.data.prepare.work import ClipRecord, ClipStage, Item, NoSettings, Row, Store, read_block, read_span

SAME_AUDIO = "same audio"
SAME_TEXT = "same text"

_RATE = 8_000  # Hz
_FRAME, _HOP = 2_048, 100  # samples: 256 ms every 12.5 ms, so that a shift of half a hop hardly matters
_LOWEST, _HIGHEST = 200.0, 3_000.0  # Hz, within the reach of the narrowest codecs
_SHIFTS = 24  # words to either side that a copy may begin earlier or later, 0.3 s
_SKETCH = 32  # words of a clip's sketch
_SHARED = 2  # of them; copies by MP3, shifted, share as many in 99 of 100 cases, other clips never in 16,000
_COMMON = 1000  # clips that have a word in their sketches; a word of more says nothing


@dataclass(frozen=True)
class DeduplicateSettings:
    """What counts as a repeat."""

    differing_bits: float = 0.18  # share of the bits of two fingerprints; below it they are of the same sound
    longer: float = 0.15  # share by which the longer of two copies may be longer
    same_text: int | None = 1  # how many clips of a speaker may have the same text; None for any number


@dataclass(frozen=True)
class Fingerprint(ClipStage):
    """The stage: the fingerprint of each clip that is kept so far. ``find_repeats`` compares them."""

    settings: NoSettings = NoSettings()
    name: str = "deduplicate"
    version: int = 1

    def work(self, item: Item, store: Store) -> list[Row]:
        """Fingerprint a block."""
        return [{"fingerprint": fingerprint(audio, rate).tobytes().hex()} for audio, rate in read_block(item, store)]


def fingerprint(audio: np.ndarray, rate: int) -> np.ndarray:
    """Words ``(w,)``, uint32."""
    coarse = resample(audio, rate, _RATE)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(coarse, (0, max(0, 2 * _FRAME - len(coarse)))), _FRAME)
    spectrum = np.abs(np.fft.rfft(frames[::_HOP] * np.hanning(_FRAME), axis=1)) ** 2
    edges = np.round(np.geomspace(_LOWEST, _HIGHEST, 34) * _FRAME / _RATE).astype(int)
    energy = np.add.reduceat(spectrum, edges, axis=1)[:, :-1]  # (w + 1, 33)
    rising = np.diff(np.diff(energy, axis=1), axis=0) > 0  # (w, 32)
    return np.packbits(rising, axis=1).view(">u4").astype("<u4").reshape(-1)


def differing(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the bits in which two fingerprints differ at their best shift."""
    best = 1.0
    for shift in range(-_SHIFTS, _SHIFTS + 1):
        a, b = (one[shift:], other) if shift >= 0 else (one, other[-shift:])
        length = min(len(a), len(b))
        if length >= max(1, min(len(one), len(other)) // 2):
            best = min(best, float(np.unpackbits((a[:length] ^ b[:length]).view(np.uint8)).mean()))
    return best


class Repeats:
    """Tells of each clip, in order, whether one before has the same sound or text.

    Fingerprints are looked up by a sketch, the words with the smallest digests, which copies have in common; only
    sketches stay in memory. Two clips that share enough of it are compared in full.
    """

    def __init__(self, settings: DeduplicateSettings, store: Store) -> None:
        self.settings, self.store = settings, store
        self._clips: list[tuple[str, str, tuple[int, int]]] = []  # id, file, span
        self._by_word: dict[int, list[int]] = defaultdict(list)
        self._texts: dict[tuple[str, str], list[str]] = defaultdict(list)

    def of(self, record: ClipRecord) -> tuple[str, str] | None:
        """Id of the clip that this one repeats, and the reason to drop it; None if it is new."""
        clip, row = record.clip, record.rows.get("deduplicate")
        if row is None or clip.audio is None:  # not fingerprinted yet
            return None
        words = np.frombuffer(bytes.fromhex(row["fingerprint"]), "<u4")
        if first := self._same_audio(words):
            return first, SAME_AUDIO
        text = (clip.speaker or clip.source, "".join(c for c in (clip.text or "").casefold() if c.isalnum()))
        before = self._texts[text] if text[1] else []
        if self.settings.same_text is not None and len(before) >= self.settings.same_text:
            return before[0], SAME_TEXT
        for word in _sketch(words):
            if len(self._by_word[word]) < _COMMON:
                self._by_word[word].append(len(self._clips))
        self._clips.append((clip.id, clip.audio, record.span))
        before.append(clip.id)
        return None

    def _same_audio(self, words: np.ndarray) -> str | None:
        shared = Counter(i for word in _sketch(words) for i in self._by_word.get(word, ()))
        for i in sorted(i for i, count in shared.items() if count >= min(_SHARED, len(words))):
            name, audio, span = self._clips[i]
            other = fingerprint(*read_span(self.store, audio, span))
            short, long = sorted((len(words), len(other)))
            if long - short <= max(_SHIFTS, self.settings.longer * long):
                if differing(words, other) < self.settings.differing_bits:
                    return name
        return None


def _sketch(words: np.ndarray) -> list[int]:
    mixed = np.unique(words.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(16))
    return mixed[:_SKETCH].tolist()


def find_repeats(
    records: Iterable[ClipRecord], settings: DeduplicateSettings, store: Store
) -> dict[str, tuple[str, str]]:
    """Id of each clip that repeats another -> the other's id and the reason; takes kept clips in order."""
    repeats = Repeats(settings, store)
    return {record.clip.id: found for record in records if (found := repeats.of(record)) is not None}
