"""What a network brings to the trainer: its batches, its losses, its evaluation.

A batch is sampled for all processes and micro-batches together; each loads its own rows of it. Whatever is random about
a row is a function of the seed, the step and the row's number, so that it is the same row wherever it is computed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chelys.data.dataset import Clip, ClipDataset
from chelys.data.manifest import BadClips
from chelys.data.pairs import Pairs
from chelys.errors import ManifestError
from chelys.training.distributed import DistributedContext
from chelys.training.logging import Picture, Preview


class TaskData(ABC):
    """Batches by step number. Worker processes load them, so this holds no network and can be pickled."""

    @abstractmethod
    def rows(self, step: int) -> int:
        """Rows of a step's batch."""

    @abstractmethod
    def load(self, step: int, rows: range) -> Any:
        """Some rows of a step's batch: a (named) tuple, dictionary or list of tensors, a function of the seed."""

    def batch(self, step: int) -> Any:
        """The whole batch of a step."""
        return self.load(step, range(self.rows(step)))

    def clip_ids(self, step: int) -> list[str]:
        """Ids of the clips in a step's batch, for the record of a broken one."""
        return []

    @property
    def bad_clips(self) -> BadClips:
        """Clips that are left out."""
        return BadClips()


class FeatureData(TaskData):
    """Batches of ``config.rows`` rows from a feature folder; the clips to train on are ``train_clips``."""

    features: ClipDataset
    config: Any
    train_clips: Sequence[Clip]

    def rows(self, step: int) -> int:
        return self.config.rows

    def clip_ids(self, step: int) -> list[str]:
        return [clip.id for clip, _ in self.places(step)]

    @abstractmethod
    def places(self, step: int) -> list[tuple[Clip, int]]:
        """Clip of each row, and the first mel frame of it."""

    def require_clips(self) -> None:
        """Refuse features without a clip of ``config.frames`` frames to train on. Raises ManifestError."""
        if not self.train_clips:
            frames = self.config.frames
            raise ManifestError(f"no clip to train on has stage.frames={frames} mel frames; use a larger corpus")

    @property
    def bad_clips(self) -> BadClips:
        return self.features.bad_clips


class PairedData(TaskData):
    """Batches of `Pairs`; tasks that need more of a row add it in ``load``."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def rows(self, step: int) -> int:
        return len(self.pairs.clips(step))

    def load(self, step: int, rows: range) -> Any:
        return self.pairs.batch(step, slice(rows.start, rows.stop))

    def clip_ids(self, step: int) -> list[str]:
        return [clip.id for clip in self.pairs.clips(step)]

    @property
    def bad_clips(self) -> BadClips:
        return self.pairs.bad_clips


class CroppedData(PairedData):
    """Crops of the clips of `Pairs`, all of a batch of one length."""

    stream: int  # sets a row's random numbers apart from those of other tasks

    @abstractmethod
    def length(self, clips: Sequence[Clip]) -> int:
        """Length of the crops of some clips."""

    @abstractmethod
    def crop(self, clips: Sequence[Clip], batch: Any, rngs: list[np.random.Generator], length: int, step: int) -> Any:
        """A batch of crops, of a batch of whole clips; a generator for each row draws whatever is random."""

    def load(self, step: int, rows: range) -> Any:
        clips, seed = self.pairs.clips(step), self.pairs.seed
        rngs = [np.random.default_rng([seed, step, row, self.stream]) for row in rows]
        length = self.length(clips)  # of the whole batch, whichever rows of it are loaded
        return self.crop([clips[row] for row in rows], super().load(step, rows), rngs, length, step)

    def held_out(self, clips: Sequence[Clip], *seed: int) -> Any:
        """A batch of held-out clips, the same for a seed."""
        rng = np.random.default_rng([7, *seed])
        return self.crop(clips, self.pairs.collate(clips, rng), [rng] * len(clips), self.length(clips), 0)


class Task(ABC):
    """One network's training."""

    name: str  # of the task, of the network's module and of its weights' file
    #: trained in turn within a step, each by an optimizer of its own; the first is the network that the task is about,
    #: the others (discriminators) serve it
    modules: dict[str, nn.Module]
    #: networks that are used and not trained; the trainer puts them on the same device
    frozen: Mapping[str, nn.Module] = MappingProxyType({})
    data: TaskData  # the batches
    #: whether a batch can be computed in micro-batches; not where each row is compared with all others
    supports_grad_accum: bool = True
    #: the processes that train together; the trainer sets it for each step
    context: DistributedContext = DistributedContext()

    @property
    def network(self) -> nn.Module:
        return next(iter(self.modules.values()))

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @abstractmethod
    def training_step(self, module: str, batch: Any, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Named losses of one module on some rows, already weighted; their sum is minimised. None: it sits out.

        Noise is drawn with `rand` of this module, so that a row's noise is its own.
        """

    def element_counts(self, module: str, batch: Any) -> Mapping[str, float]:
        """How many elements each loss is a mean over; a loss that is not named is a mean over rows.

        Micro-batches are weighted by it, so that their sum is the mean over the whole batch.
        """
        return {}

    def after_step(self, step: int, batch: Any, generator: torch.Generator) -> dict[str, float]:
        """Updates without gradients (codebooks); returns metrics for the log.

        ``step``: number of the step; ``batch``: the last micro-batch that this process computed; ``generator``: the
        same in all processes.
        """
        return {}

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Metrics on held-out clips, with the averaged weights in place."""

    def pictures(self) -> Mapping[str, Picture]:
        """Pictures of what the network does with held-out clips, with the averaged weights in place."""
        return {}

    def samples(self) -> Mapping[str, Preview]:
        """Something to listen to, with the averaged weights in place."""
        return {}

    def to_device(self, batch: Any) -> Any:
        """A batch on the network's device."""
        return map_tensors(batch, lambda tensor: tensor.to(self.device))


def mean_metrics(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each metric over clips; none if there are no clips."""
    return {name: float(np.mean([clip[name] for clip in metrics])) for name in metrics[0]} if metrics else {}


def map_tensors(batch: Any, function: Callable[[Tensor], Tensor]) -> Any:
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


# ---- noise, row by row ----------------------------------------------------------------------------------------------


class RowGenerator(torch.Generator):
    """Generator of some rows of a step's batch.

    However a batch is split into micro-batches and over processes, a row gets the same noise from the functions below:
    it comes from a generator of its own, a function of the seed, the step, the row's number and how many draws came
    before. Functions of torch can draw from it too; what they draw depends on the split.

    ``rows``: numbers of the rows within the step's batch.
    """

    def __new__(cls, *_: Any) -> RowGenerator:
        return super().__new__(cls)

    def __init__(self, seed: int, step: int, rows: Sequence[int]) -> None:
        self.rows = rows
        self._origin = (seed, step)
        self._draws = 0
        self.manual_seed(mix_seed(seed, step, rows[0]))

    def draw(self, function: Callable[[torch.Generator], Tensor]) -> Tensor:
        """Stack what a function draws for each row."""
        self._draws += 1
        one = torch.Generator()
        return torch.stack([function(one.manual_seed(mix_seed(*self._origin, row, self._draws))) for row in self.rows])


def rand(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform noise in [0, 1), ``shape``, rows first; a row's first values do not depend on how many follow."""
    if isinstance(generator, RowGenerator):
        return generator.draw(lambda one: torch.rand(tuple(shape[1:]), generator=one))
    return torch.rand(tuple(shape), generator=generator, device=generator.device)


def corrupt(codes: Tensor, share: float, count: int, generator: torch.Generator) -> Tensor:
    """Codes ``(b, m)``, a share of them replaced by any others of ``count``."""
    chance, other = (rand(codes.shape, generator).to(codes.device) for _ in range(2))
    return torch.where(chance < share, (other * count).long(), codes)


def mix_seed(*numbers: int) -> int:
    """A seed made of several numbers, 0 or more each."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
