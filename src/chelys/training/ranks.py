"""The processes that train together, as a stage sees them: one alone, unless `chelys.training.distributed` says so."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
#: Runs a piece of work that uses a network, so that whoever spread the network over processes can see it.
Inside = Callable[[Callable[[], Any]], Any]


class Ranks:
    """One process alone: sums and collections are what it has itself.

    Attributes:
        rank: Number of this process.
        world: How many there are.
        local_world: How many of them run on this machine.
        device: Where this process computes.
        sharded: Whether each process holds a piece of the network only.
    """

    rank = 0
    world = 1
    local_world = 1
    sharded = False

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def sum(self, x: Tensor) -> Tensor:
        """Sum over the processes of a tensor that all have, in all of them; without gradient."""
        return x

    def gather(self, x: Tensor) -> Tensor:
        """Rows of all processes, in their order, ``(sum of b, ...)``; the gradient finds its way back to each."""
        return x

    def collect(self, items: list[T]) -> list[T]:
        """Lists of all processes, one after another."""
        return items

    def agree(self, value: T) -> T:
        """What the first process says."""
        return value

    def wait(self) -> None:
        """Wait for all others."""

    def prepare(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> Inside:
        """Spread a network over the processes."""
        return lambda work: work()

    def without_sync(self, inside: Inside, last: bool) -> AbstractContextManager[Any]:
        """While gradients of a part that is not the ``last`` are added up, processes need not exchange them."""
        return nullcontext()


class Share(NamedTuple):
    """Which rows of a step's batch a process computes.

    Attributes:
        parts: Rows of each part.
        split: Whether the processes share the batch; otherwise each computes all of it, because it has fewer rows than
            there are processes.
    """

    parts: list[range]
    split: bool

    @classmethod
    def of(cls, rows: int, rank: int, world: int, accumulate: int) -> Share:
        """Deal the rows of a batch: whole processes first, then parts; all processes have as many parts."""
        split = world > 1 and rows >= world
        rank, world = (rank, world) if split else (0, 1)
        first, past = rows * rank // world, rows * (rank + 1) // world
        parts = max(1, min(accumulate, rows // world))
        edges = [first + (past - first) * part // parts for part in range(parts + 1)]
        return cls([range(a, b) for a, b in zip(edges, edges[1:], strict=False)], split)
