"""Which clips are held out, and which make the batch of a step.

Batches hold clips of like length, up to a budget in all; the order is a function of the seed and the step. A step's
batch is one batch for all ranks: each computes its own rows of it (`chelys.data.loader`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from chelys.errors import ManifestError

#: One clip in so many is held out ...
ONE_IN = 100
#: ... but no fewer than this, unless they are more than a tenth of the corpus.
MIN_HELD_OUT = 8


def is_held_out(name: str) -> bool:
    """Whether a clip of a large corpus is held out for evaluation: a matter of its name alone."""
    return zlib.crc32(name.encode(errors="surrogatepass")) % ONE_IN == 0


def held_out(names: Iterable[str], *, least: int = MIN_HELD_OUT) -> np.ndarray:
    """Which clips of a corpus are held out for evaluation, True for each: max(least, 1 %) by the rank of a hash.

    Those of `is_held_out`; where they are too few, the next ones by the same hash. So a corpus that grows keeps
    nearly all of its held-out clips, and another order of the clips changes nothing.

    Args:
        names: Ids of all clips.
        least: Clips to hold out at least; of a small corpus no more than a tenth.
    """
    hashes = np.array([zlib.crc32(name.encode(errors="surrogatepass")) for name in names], np.int64)
    count = len(hashes)
    wanted = min(least, count // 10)
    chosen = hashes % ONE_IN == 0
    if chosen.sum() < wanted:
        chosen[np.lexsort((hashes, hashes % ONE_IN))[:wanted]] = True
    return chosen


class LengthBucketSampler:
    """Length-bucketed batches, found by the number of a step.

    Raises ManifestError if there is no item, or none that ever comes.

    Args:
        lengths: Length of each item, in whatever the budget counts.
        budget: Largest ``items x longest item`` of a batch.
        seed: Of the order.
        weights: How often an item comes in an epoch, on average; default once.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        budget: int,
        seed: int,
        weights: Sequence[float] | np.ndarray | None = None,
    ) -> None:
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
        jitter = rng.uniform(0.93, 1.07, len(items))  # so that batches differ from epoch to epoch
        items = items[np.argsort(self.lengths[items] * jitter, kind="stable")]
        bounds, first, longest = [0], 0, 0
        for index, length in enumerate(self.lengths[items].tolist()):
            longest = max(longest, length)
            if index > first and longest * (index - first + 1) > self.budget:
                bounds.append(index)
                first, longest = index, length
        batches = np.split(items, bounds[1:]) if len(items) else []
        return [batches[i] for i in rng.permutation(len(batches))]
