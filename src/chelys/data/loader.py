"""Which clips are held out, which make the batch of a step, and the worker processes that make batches ahead of time.

Batches hold clips of like length, up to a budget in all; the order is a function of the seed and the step. A step's
batch is one batch for all ranks: each computes its own rows of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from chelys.errors import ManifestError, UserError
from chelys.machine import available_cores

#: One clip in so many is held out ...
ONE_IN = 100
#: ... but no fewer than this, unless they are more than a tenth of the corpus.
MIN_HELD_OUT = 8


def is_held_out(name: str) -> bool:
    """Whether a clip of a large corpus is held out for evaluation: a matter of its name alone."""
    return zlib.crc32(name.encode(errors="surrogatepass")) % ONE_IN == 0


def held_out(names: Iterable[str], *, least: int = MIN_HELD_OUT) -> np.ndarray:
    """Which clips of a corpus are held out for evaluation, True for each: max(least, 1 %) by the rank of a hash.

    Those of `is_held_out`; where they are too few, the next ones by the same hash, in a small corpus up to a tenth. So
    a corpus that grows keeps nearly all of its held-out clips, and another order of the clips changes nothing.
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

    A batch has ``items x longest item`` up to ``budget``. ``weights`` say how often an item comes in an epoch, on
    average; default once. Raises ManifestError if there is no item, or none that ever comes.
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


# ---- loader ---------------------------------------------------------------------------------------------------------
# `torch.utils.data.DataLoader` over step numbers: item ``step`` is what this rank computes in that step, a function of
# the seed, the step and the rank alone. So the order of workers, their number and where a run was interrupted change
# nothing, and the step's number is all the state that a resumed loader needs.

T = TypeVar("T")
#: Workers by default on a GPU: more seldom help, and each holds some hundred megabytes.
MAX_DEFAULT_WORKERS = 8


class DataWorkerError(UserError):
    """A worker process of the loader ended without a word: the system killed it, or it crashed."""


class StepDataset(Dataset[Any]):
    """Item ``step`` is ``load(step)``; ``load`` must be picklable where processes are not forked."""

    def __init__(self, load: Callable[[int], Any], stop: int) -> None:
        self.load, self.stop = load, stop

    def __len__(self) -> int:
        return self.stop

    def __getitem__(self, step: int) -> Any:
        try:
            return self.load(step)
        except UserError as error:  # DataLoader would wrap it in a traceback
            return _Failure(type(error), str(error))


@dataclass(frozen=True)
class _Failure:
    """A user's error on its way out of a worker; some cannot be pickled as they are."""

    kind: type[UserError]
    text: str


class StepLoader(Generic[T]):
    """Iterates over the batches ``load(step)`` of steps ``start`` to ``stop - 1``.

    ``workers`` processes load, each keeps ``prefetch`` batches ready; 0 loads in this one. Pinned memory makes copies
    to a GPU asynchronous. The iterator raises what ``load`` raised in a worker; a ``DataWorkerError`` if a worker died.
    """

    def __init__(
        self,
        load: Callable[[int], T],
        start: int,
        stop: int,
        *,
        workers: int = 0,
        prefetch: int = 2,
        pin_memory: bool = False,
    ) -> None:
        self.workers = workers
        self._loader: DataLoader[Any] = DataLoader(
            StepDataset(load, stop),
            sampler=range(start, stop),
            batch_size=None,  # an item is a batch already
            num_workers=workers,
            prefetch_factor=prefetch if workers else None,
            pin_memory=pin_memory,
        )

    def __iter__(self) -> Iterator[T]:
        batches = iter(self._loader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if self.workers and "DataLoader worker" in str(error):
                    raise DataWorkerError(
                        f"a data worker died ({' '.join(str(error).split())}): it may have run out of memory; lower "
                        "loop.data_workers"
                    ) from error
                raise
            if isinstance(batch, _Failure):
                failure = batch.kind.__new__(batch.kind)
                failure.args = (batch.text,)
                raise failure
            yield batch


def default_workers(device: torch.device, processes: int = 1) -> int:
    """Data workers of each training process: none on a CPU, where they would take cores from the longer steps."""
    if device.type == "cpu":
        return 0
    return max(1, min(MAX_DEFAULT_WORKERS, available_cores() // max(1, processes) - 1))
