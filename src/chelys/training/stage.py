"""What a stage tells the loop: what is trained, what a batch is, what its losses are.

A batch is drawn for all processes and parts together: each loads its own rows of it. Whatever is random about a row
is a function of the seed, the step and the row's number, so that it is the same row wherever it is computed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from chelys.data.bad_clips import BadClips
from chelys.training.pictures import Picture
from chelys.training.ranks import Ranks


class Stage(ABC):
    """One network's training.

    Attributes:
        name: Of the stage and of the network's file.
        players: Modules trained in turn within a step, each with an optimiser of its own; the first is the network that
            the stage is about, the others (discriminators) serve it.
        frozen: Modules that are asked, not trained; the loop puts them on the players' device.
        splits: Whether a step's rows can be computed in parts one after another (``loop.accumulate``); not where each
            row is compared with all others.
        ranks: The processes that train together; the loop sets it anew for each step.
    """

    name: str
    players: dict[str, nn.Module]
    frozen: Mapping[str, nn.Module] = MappingProxyType({})
    splits: bool = True
    ranks: Ranks = Ranks()

    @property
    def network(self) -> nn.Module:
        """The network that the stage is about."""
        return next(iter(self.players.values()))

    @abstractmethod
    def batch(self, step: int) -> Any:
        """The whole batch of a step, a function of the seed and the step alone."""

    def rows(self, step: int) -> int:
        """Rows of a step's batch."""
        return row_count(self.batch(step))

    def part(self, step: int, rows: slice) -> Any:
        """Some rows of a step's batch; stages that can load them without the others do."""
        return take_rows(self.batch(step), rows)

    def clips(self, step: int) -> list[str]:
        """Ids of the clips in a step's batch, for the record of a broken one."""
        return []

    @abstractmethod
    def losses(self, player: str, batch: Any, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Named losses of one player on some rows, already weighted; their sum is minimised. None at all: it sits out.

        Noise is drawn with the functions of `chelys.training.noise`, so that a row's is its own.
        """

    def counts(self, player: str, batch: Any) -> Mapping[str, float]:
        """How many elements each loss is a mean over; a loss that is not named is a mean over rows.

        Parts of a batch weigh by it, so that their sum is the mean over the whole batch.
        """
        return {}

    def after_step(self, step: int, batch: Any, generator: torch.Generator) -> dict[str, float]:
        """What moves outside of gradients (code books); returns figures for the log.

        Args:
            step: Number of the step.
            batch: The last part that this process computed.
            generator: The same in all processes.
        """
        return {}

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Figures on held-out clips, with the averaged weights in place."""

    def pictures(self) -> Mapping[str, Picture]:
        """Pictures of what the network does with held-out clips, with the averaged weights in place."""
        return {}

    def samples(self) -> Mapping[str, tuple[Tensor, int]]:
        """Waves ``(n,)`` and their sample rate (Hz), with the averaged weights in place."""
        return {}

    @property
    def bad_clips(self) -> BadClips:
        """Clips that were left out; those of the stage's ``pairs`` or ``features``."""
        source = getattr(self, "pairs", None) or getattr(self, "features", None)
        return getattr(source, "bad_clips", None) or BadClips()


def row_count(batch: Any) -> int:
    """Rows of a batch: the length of its first tensor."""
    for tensor in tensors_of(batch).values():
        return len(tensor)
    raise TypeError(f"no tensor in {type(batch).__name__}: the stage must say how many rows a batch has")


def take_rows(batch: Any, rows: slice) -> Any:
    """Rows of every tensor in a batch; all else is handed on."""
    return map_tensors(batch, lambda tensor: tensor[rows])


def map_tensors(batch: Any, function: Any) -> Any:
    """A batch whose tensors went through a function; tuples (named or not), lists and dictionaries are kept."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_tensors(item, function) for item in batch))
    if isinstance(batch, tuple | list):
        return type(batch)(map_tensors(item, function) for item in batch)
    if isinstance(batch, dict):
        return {key: map_tensors(item, function) for key, item in batch.items()}
    return batch


def tensors_of(batch: Any, name: str = "batch") -> dict[str, Tensor]:
    """Tensors of a batch by name, for example ``batch.mel``."""
    if isinstance(batch, Tensor):
        return {name: batch}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        items = dict(zip(batch._fields, batch, strict=True))
    elif isinstance(batch, dict):
        items = batch
    elif isinstance(batch, tuple | list):
        items = {str(index): item for index, item in enumerate(batch)}
    else:
        return {}
    return {key: value for inner, item in items.items() for key, value in tensors_of(item, f"{name}.{inner}").items()}
