"""Which clips make the batch of a step.

Batches hold clips of like length, up to a budget of frames in all; the order is a function of the seed and the step.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from chelys.data.dataset import Clip
from chelys.errors import ManifestError


def is_held_out(clip: Clip, one_in: int = 100) -> bool:
    """Whether a clip is kept for evaluation: a matter of its name alone, so that every stage agrees."""
    return zlib.crc32(clip.id.encode()) % one_in == 0


class LengthBucketSampler:
    """Length-bucketed batches.

    Args:
        lengths: Length of each item, in whatever the budget counts.
        budget: Largest ``items x longest item`` of a batch.
        seed: Of the order.
        weights: How often an item comes in an epoch, on average; default once.

    Raises:
        ManifestError: If there is no item, or none that ever comes.
    """

    def __init__(self, lengths: Sequence[int], budget: int, seed: int, weights: Sequence[float] | None = None) -> None:
        self.lengths = np.asarray(lengths)
        self.budget, self.seed = budget, seed
        self.weights = np.ones(len(self.lengths)) if weights is None else np.asarray(weights, dtype=float)
        if not self.weights.sum() > 0:
            raise ManifestError("no clip to train on: all are held out, too long or of weight 0; use a larger corpus")
        self._epoch = -1
        self._first = 0
        self._batches: list[np.ndarray] = []

    def at(self, step: int) -> np.ndarray:
        """Indices of the items of a step's batch."""
        if step < self._first:
            self._epoch, self._first, self._batches = -1, 0, []
        while step >= self._first + len(self._batches):
            self._first += len(self._batches)
            self._epoch += 1
            self._batches = self._deal(self._epoch)
        return self._batches[step - self._first]

    def _deal(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, epoch])
        repeats = np.floor(self.weights + rng.random(len(self.weights))).astype(int)
        items = np.repeat(np.arange(len(self.lengths)), repeats)
        jitter = rng.uniform(0.93, 1.07, len(items))  # the same clips shall not meet in every epoch
        items = items[np.argsort(self.lengths[items] * jitter, kind="stable")]
        batches: list[np.ndarray] = []
        current: list[int] = []
        longest = 0
        for item in items:
            longest_then = max(longest, int(self.lengths[item]))
            if current and longest_then * (len(current) + 1) > self.budget:
                batches.append(np.array(current))
                current, longest_then = [], int(self.lengths[item])
            current.append(int(item))
            longest = longest_then
        if current:
            batches.append(np.array(current))
        return [batches[i] for i in rng.permutation(len(batches))]
