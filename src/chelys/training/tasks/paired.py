"""What the stages on pairs of text and codes share: each process loads its own rows of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chelys.data.dataset import Clip
from chelys.data.pairs import Batch, Pairs
from chelys.training.stage import Stage, map_tensors


class PairedStage(Stage):
    """A stage whose batches are those of its ``pairs``."""

    pairs: Pairs

    def batch(self, step: int) -> Any:
        return self.part(step, slice(0, self.rows(step)))

    def rows(self, step: int) -> int:
        return len(self.pairs.clips(step))

    def part(self, step: int, rows: slice) -> Any:
        """Some rows of a step's batch: a `Batch`, or one of a stage's own that has more."""
        return self.pairs.batch(step, rows)

    def clips(self, step: int) -> list[str]:
        return [clip.id for clip in self.pairs.clips(step)]

    def held_out(self, clips: Sequence[Clip], rng: np.random.Generator) -> Batch:
        """A batch of the given clips on the network's device, for evaluation."""
        device = next(self.network.parameters()).device
        return map_tensors(self.pairs.collate(list(clips), rng), lambda tensor: tensor.to(device))
