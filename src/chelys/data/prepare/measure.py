"""Figures of every clip: what the rules sort by and the report shows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from chelys.data.prepare import acoustics
from chelys.data.prepare.blocks import Draft, sounds
from chelys.data.prepare.named import named
from chelys.data.prepare.work import Item, Row, Store

#: Sound ``(n,)`` and its rate -> name of a measurement -> value, 0 to 1.
Classifier = Callable[[np.ndarray, int], dict[str, float]]
#: Sound ``(n,)`` and its rate -> a vector; alike voices have alike vectors.
Embedder = Callable[[np.ndarray, int], np.ndarray]

OWN_CLASSIFIER = "chelys.data.prepare.classifier:load_classifier"


@dataclass(frozen=True)
class MeasureSettings:
    """What measures, beside the signal processing of ``acoustics``.

    Attributes:
        classifier: ``package.module:function`` that makes a ``Classifier``, called with ``model``; default chelys' own,
            None does without. What it says of music takes the place of the rough measure, the others are added.
        model: File or folder of the classifier's weights; None: those that come with it.
        embedder: ``package.module:function`` that is an ``Embedder``.
        digest: Of the weights, so that other weights in the same place are other work; found by itself.
    """

    classifier: str | None = OWN_CLASSIFIER
    model: str | None = None
    embedder: str = "chelys.data.prepare.acoustics:embed"
    digest: str = ""


@dataclass(frozen=True)
class Measure:
    """The stage."""

    settings: MeasureSettings = MeasureSettings()
    name: str = "measure"
    version: int = 1

    def check(self) -> None:
        """See ``Stage``."""
        self._tools()

    def wants(self, draft: Draft) -> bool:
        """Every clip."""
        return True

    def asks(self, draft: Draft) -> Any:
        """Nothing but the sound."""
        return None

    def work(self, item: Item, store: Store) -> list[Row]:
        """Measure a block."""
        classifier, embedder = self._tools()
        rows = []
        for audio, rate in sounds(item, store):
            measured = {"overlap": None, **acoustics.measure(audio, rate)}
            if classifier is not None:
                measured.update(classifier(audio, rate))
            rounded = {name: None if value is None else round(value, 4) for name, value in measured.items()}
            rows.append({"measured": rounded, "embedding": [round(float(x), 4) for x in embedder(audio, rate)]})
        return rows

    def merge(self, draft: Draft) -> None:
        """See ``BlockStage``."""
        row = draft.rows[self.name]
        draft.clip.measured.update(row["measured"])
        row["embedding"] = np.asarray(row["embedding"], np.float32)  # a tenth of the list's size

    def _tools(self) -> tuple[Classifier | None, Embedder]:
        name = self.settings.classifier
        return _classifier(name, self.settings.model) if name else None, named(self.settings.embedder)


@lru_cache(1)
def _classifier(name: str, model: str | None) -> Classifier:
    return named(name)(Path(model)) if model else named(name)()


def digest_of(settings: MeasureSettings) -> str:
    """SHA-256 of the classifier's weights; empty where there are none, or none that can be seen from here."""
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
