"""Measurements of every clip, the rules that drop clips by them, and the clips that sound alike."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import ClassVar

import numpy as np

from chelys.config import from_mapping, read_yaml
from chelys.data.prepare import acoustics
from chelys.data.prepare.metadata import ClipMetadata
from chelys.data.prepare.work import ClipRecord, ClipStage, Item, Row, Store, find_object, read_block
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
        """See ``PrepareStage``."""
        self._tools()

    def wants(self, record: ClipRecord) -> bool:
        """Every clip."""
        return True

    def work(self, item: Item, store: Store) -> list[Row]:
        """Measure a block."""
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
        """See ``ClipStage``."""
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
    """Rules of a YAML file; by default ``rules.yaml`` of this folder.

    Raises ConfigError if the file is missing or malformed.
    """
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
    """For each clip, others of the same speaker that sound like it: what conditions a model in training.

    The paper's programs took the three most similar files of a folder. Here they are of the same speaker or, if the
    speaker is unknown, of the same recording.

    Returns:
        Id of each clip -> ids of similar clips, most similar first.
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
