"""Figures of every clip: what the rules sort by and the report shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
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


@dataclass(frozen=True)
class MeasureSettings:
    """What measures, beside the signal processing of ``acoustics``.

    Attributes:
        classifier: ``package.module:function`` that makes a ``Classifier``, called with ``model``. What it says of
            music and overlap takes the place of the rough measures; its other classes are added.
        model: File or folder of the classifier's weights.
        embedder: ``package.module:function`` that is an ``Embedder``.
    """

    classifier: str | None = None
    model: str | None = None
    embedder: str = "chelys.data.prepare.acoustics:embed"


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
