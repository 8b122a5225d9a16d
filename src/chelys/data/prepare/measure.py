"""Measurements of every clip, the rules that drop clips by them, and the clips that sound alike."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import ClassVar

import numpy as np

from chelys.audio.io import resample
from chelys.config import from_mapping
from chelys.configs import read_yaml
from chelys.data.prepare import acoustics
from chelys.data.prepare.metadata import ClipMetadata
from chelys.data.prepare.work import (
    ClipRecord,
    ClipStage,
    Item,
    NoSettings,
    Row,
    Store,
    find_object,
    read_block,
)
from chelys.errors import ConfigError

#: Sound ``(n,)`` and its rate -> measurement -> value, 0 to 1.
Classifier = Callable[[np.ndarray, int], dict[str, float]]
#: Sound ``(n,)`` and its rate -> a vector; similar voices have similar vectors.
Embedder = Callable[[np.ndarray, int], np.ndarray]

OWN_CLASSIFIER = "chelys.data.prepare.classifier:load_classifier"
NO_WORDS = "no words"
_GROUP = 4096  # clips of a speaker that are compared with each other; more are split into groups
_ROWS = 64  # clips compared with their group at a time


@dataclass(frozen=True)
class MeasureSettings:
    """What measures, besides the signal processing in ``acoustics``."""

    #: ``package.module:function`` that makes a ``Classifier``, called with ``model``; by default chelys' own, None for
    #: none. Its value for music replaces the rough one, the others are added.
    classifier: str | None = OWN_CLASSIFIER
    model: str | None = None  # file or folder of the classifier's weights; None for its own default
    #: ``package.module:function`` that is an ``Embedder``
    embedder: str = "chelys.data.prepare.acoustics:speaker_embedding"
    digest: str = ""  # of the weights, so that other weights in the same place give other work; found automatically


@dataclass(frozen=True)
class Measure(ClipStage):
    """The stage."""

    settings: MeasureSettings = MeasureSettings()
    name: str = "measure"
    version: int = 1

    def check(self) -> None:
        self._tools()

    def wants(self, record: ClipRecord) -> bool:
        return True

    def work(self, item: Item, store: Store) -> list[Row]:
        classifier, embedder = self._tools()
        rows = []
        for audio, rate in read_block(item, store):
            measured = {"overlap": None, **acoustics.measure(audio, rate)}
            if classifier is not None:
                measured.update(classifier(audio, rate))
            rounded = {name: None if value is None else round(value, 4) for name, value in measured.items()}
            rows.append({"measured": rounded, "embedding": [round(float(x), 4) for x in embedder(audio, rate)]})
        return rows

    def merge(self, record: ClipRecord) -> None:
        row = record.rows[self.name]
        record.clip.measured.update(row["measured"])
        row["embedding"] = np.asarray(row["embedding"], np.float32)  # a tenth of the list's size

    def _tools(self) -> tuple[Classifier | None, Embedder]:
        name = self.settings.classifier
        return _classifier(name, self.settings.model) if name else None, find_object(self.settings.embedder)


@lru_cache(1)
def _classifier(name: str, model: str | None) -> Classifier:
    return find_object(name)(Path(model)) if model else find_object(name)()


def classifier_digest(settings: MeasureSettings) -> str:
    """SHA-256 of the classifier's weights; empty if there are none, or none that can be found from here."""
    path = Path(settings.model) if settings.model else None
    if path is None and settings.classifier == OWN_CLASSIFIER:
        path = Path(str(resources.files("chelys") / "assets" / "classifier"))
    if settings.classifier is None or path is None or not path.exists():
        return ""
    found = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.suffix != ".md" and file.is_file():
            found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


# ---- rules ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bounds:
    """Smallest and largest allowed value of a measurement; None for no bound."""

    RENAMED: ClassVar[dict[str, str | None]] = {"least": "min", "most": "max"}

    min: float | None = None
    max: float | None = None


Rules = Mapping[str, Bounds]


def read_rules(path: Path | None = None) -> Rules:
    """Rules of a YAML file, by default the own ``rules.yaml``. Raises ConfigError if it is missing or malformed."""
    if path is None:
        with resources.as_file(resources.files("chelys.data.prepare") / "rules.yaml") as own:
            values = read_yaml(own)
    else:
        values = read_yaml(path)
    rules = {}
    for name, bounds in values.items():
        where = f"{path or 'rules.yaml'}: {name}"
        if not isinstance(bounds, dict):
            raise ConfigError(f"{where}: write {{min: NUMBER, max: NUMBER}}, or one of the two")
        rules[str(name)] = from_mapping(Bounds, bounds, where=where)
    return rules


def apply_rules(clip: ClipMetadata, rules: Rules) -> list[str]:
    """Reasons to drop a clip, one for each rule that it breaks; none if it breaks none."""
    values = {"seconds": clip.seconds, "confidence": clip.confidence, **clip.measured}
    reasons = []
    if clip.text is not None:
        values["characters_per_second"] = len(clip.text) / max(clip.seconds, 0.01)
        if not any(character.isalnum() for character in clip.text):
            reasons.append(NO_WORDS)
    for name, bounds in rules.items():
        value = values.get(name)
        if value is None:
            continue
        if bounds.min is not None and value < bounds.min:
            reasons.append(f"{name} below {bounds.min:g}")
        if bounds.max is not None and value > bounds.max:
            reasons.append(f"{name} above {bounds.max:g}")
    return reasons


# ---- similar clips --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SimilarSettings:
    """How many similar clips to name for each."""

    count: int = 3


def find_similar(records: Iterable[ClipRecord], settings: SimilarSettings) -> dict[str, list[str]]:
    """For each clip, the ids of others of the same speaker that sound like it, most similar first, to condition a
    model.

    The paper's programs took the three most similar files of a folder. Here they are of the same speaker or, if the
    speaker is unknown, of the same recording.
    """
    groups: dict[str, list[tuple[str, np.ndarray]]] = defaultdict(list)
    for record in records:
        clip, row = record.clip, record.rows.get("measure")
        if row is not None:
            groups[clip.speaker or f"/{clip.source}"].append((clip.id, np.asarray(row["embedding"], np.float32)))
    found = {}
    for group in groups.values():
        for first in range(0, len(group), _GROUP):
            found.update(_nearest(group[first : first + _GROUP], settings.count))
    return found


def _nearest(group: list[tuple[str, np.ndarray]], count: int) -> dict[str, list[str]]:
    names = [name for name, _ in group]
    vectors = np.stack([vector for _, vector in group])
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    found = {}
    for first in range(0, len(names), _ROWS):
        similarity = vectors[first : first + _ROWS] @ vectors.T
        similarity[np.arange(len(similarity)), first + np.arange(len(similarity))] = -np.inf  # not itself
        order = np.argsort(-similarity, axis=1, kind="stable")[:, : min(count, len(names) - 1)]
        for name, nearest in zip(names[first:], order, strict=False):
            found[name] = [names[i] for i in nearest]
    return found


# ---- repeats --------------------------------------------------------------------------------------------------------
# The same recording again, in whatever file format, or the same words again. The fingerprint is that of Haitsma and
# Kalker ("A highly robust audio fingerprinting system", ISMIR 2002): for every 12.5 ms, 32 bits that say whether the
# energy differences between neighbouring bands rise or fall. Copies through codecs differ in up to a tenth of the bits,
# other recordings in a quarter to a half of them. w words of a fingerprint, 32 bits each.

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
            (sound,) = read_block(Item({"audio": audio, "spans": [span]}), self.store)
            other = fingerprint(*sound)
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
