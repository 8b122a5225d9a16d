"""Batches of training steps, made ahead of time by worker processes: `torch.utils.data.DataLoader` over step numbers.

The dataset is map-style. Its items are whole batches: item ``step`` is what this rank computes in that step, a function
of the seed, the step and the rank alone. So the order of workers, their number and where a run was interrupted change
nothing, and the step's number is all the state that a resumed loader needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from chelys.data.prepare.engine import available_cores
from chelys.errors import UserError

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
            return _Failure(error)


class _Failure:
    """A user's error on its way out of a worker; some cannot be pickled as they are."""

    def __init__(self, error: UserError) -> None:
        self.kind, self.text = type(error), str(error)

    def raise_(self) -> None:
        error = self.kind.__new__(self.kind)
        error.args = (self.text,)
        raise error


class StepLoader(Generic[T]):
    """Iterates over the batches of steps ``start`` to ``stop - 1``.

    Args:
        load: Makes the batch of a step.
        start: First step: 0, or where a run is resumed.
        stop: Step to stop before.
        workers: Processes that load; 0 loads in this one.
        prefetch: Batches that each worker keeps ready.
        pin_memory: Put batches into page-locked memory, from which copies to a GPU are asynchronous.

    Raises:
        UserError: From the iterator, what ``load`` raised in a worker; a ``DataWorkerError`` if a worker died.
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
                batch.raise_()
            yield batch


def default_workers(device: torch.device, processes: int = 1) -> int:
    """Data workers of each of the training processes on this machine.

    On a GPU the cores are free for them. On a processor they would take cores from the step, which there takes far
    longer than its batch: none.
    """
    if device.type == "cpu":
        return 0
    return max(1, min(MAX_DEFAULT_WORKERS, available_cores() // max(1, processes) - 1))
