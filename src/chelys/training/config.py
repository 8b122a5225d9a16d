"""The keys of a training run: the loop's, early stopping's, and those that runs of several tasks share.

The run of each network adds its own keys and stands with its task in `chelys.training.tasks`.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BeforeValidator

from chelys.audio.mel import MelRange
from chelys.audio.rates import MEL_22K, MEL_24K
from chelys.data.dataset import ClipDataset, MelSpecName
from chelys.data.pairs import PairConfig, Pairs, load_pairs
from chelys.data.shards import open_features
from chelys.errors import ConfigError
from chelys.text.tokenizer import Cleaner
from chelys.training.checkpoint import load_strictly, read_weights

if TYPE_CHECKING:
    from chelys.training.task import Task


def require(holds: bool, name: str, value: object, must: str) -> None:
    """Refuse a setting that is not what it must be. Raises ConfigError."""
    if not holds:
        raise ConfigError(f"{name} is {value}; it must be {must}")


@dataclass(frozen=True)
class LoopConfig:
    """Steps, rates, precision, processes."""

    RENAMED: ClassVar[dict[str, str | None]] = {
        "final": "min_lr_ratio", "clip": "max_grad_norm", "average": "ema_decay", "accumulate": "grad_accum_steps",
        "recompute": "activation_checkpointing", "keep": "save_total_limit",
    }  # fmt: skip

    steps: int = 1000  # optimizer steps in all
    learning_rate: float = 1e-3  # peak
    betas: tuple[float, float] = (0.9, 0.96)  # of AdamW
    weight_decay: float = 0.01  # on matrices; vectors (gains, biases) are free of it
    warmup: int = 100  # steps of linear rise to the peak
    #: what follows: half a ``cosine``, a ``constant`` rate, or a fall at each of the ``milestones``
    schedule: Literal["cosine", "constant", "milestones"] = "cosine"
    min_lr_ratio: float = 0.05  # share of the peak left at the end of the cosine; 1 keeps the rate constant
    milestones: tuple[int, ...] = ()  # steps at which the rate is multiplied by ``gamma``
    gamma: float = 0.5  # see ``milestones``
    max_grad_norm: float = 1.0  # gradients are clipped to this norm, those of each trained module together
    #: decay of the exponential moving average of the weights, which is evaluated and kept; 0 keeps the weights
    #: themselves
    ema_decay: float = 0.999
    #: What the networks compute in; weights, losses and optimizers are float32 always. ``auto`` is bfloat16 where the
    #: hardware multiplies it, else float32. ``float16`` scales the loss so that small gradients survive.
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    grad_accum_steps: int = 1  # micro-batches that a step's batch is computed in: less memory, the same batch
    #: compute blocks again in the backward pass rather than keep their activations: less memory, a third more time
    activation_checkpointing: bool = False
    #: Where ``torchrun`` starts several processes: a copy of the network in each (``ddp``) or a shard of it
    #: (``fsdp``). ``single`` refuses to run in more than one.
    strategy: Literal["single", "ddp", "fsdp"] = "ddp"
    device: str = "auto"  # ``auto`` (a GPU where there is one), ``cpu``, ``mps``, ``cuda`` or ``cuda:N``
    log_every: int = 20  # steps between log lines
    evaluate_every: int = 500  # steps between evaluations on held-out clips
    checkpoint_every: int = 250  # steps between checkpoints
    save_total_limit: int = 2  # checkpoints kept
    pictures: bool = True  # draw pictures at each evaluation and the losses at the end, where matplotlib is installed
    #: Measures of `chelys eval` that hear the samples of an evaluation, of stages that have some (`vocoder`): `words`,
    #: `voice`, `naturalness`, `noise`, `clvp`, `copy`.
    listen: tuple[str, ...] = ()
    tensorboard: bool = True  # log to ``RUN/tensorboard`` too, where tensorboard is installed
    seed: int = 1  # of initial weights, batches and noise
    #: CPU threads of ``chelys train``; 0 is the cores that the process may use. Results are the same to the bit only
    #: for the same number.
    threads: int = 0
    #: Processes that load batches ahead of the step; by default none on a CPU, and up to 8 on a GPU. Batches are the
    #: same for any number.
    data_workers: int | None = None
    prefetch: int = 2  # batches that each of them keeps ready

    def __post_init__(self) -> None:
        whole = ("steps", "grad_accum_steps", "log_every", "evaluate_every", "checkpoint_every", "save_total_limit")
        for name in (*whole, "prefetch"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("learning_rate", "max_grad_norm", "gamma"):
            require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "above 0")
        for name in ("warmup", "weight_decay", "seed", "threads", "data_workers"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas is {list(self.betas)}; both must be 0 or more and below 1")
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "0 or more and below 1")
        require(0 <= self.min_lr_ratio <= 1, "min_lr_ratio", self.min_lr_ratio, "0 to 1")
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ConfigError(f"device is {self.device!r}; it must be auto, cpu, mps, cuda or cuda:N")
        if bool(self.milestones) != (self.schedule == "milestones"):
            raise ConfigError(
                f"schedule is {self.schedule} and milestones is {list(self.milestones)}: "
                "give both schedule=milestones and some milestones, or neither"
            )

    def lr(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then the schedule."""
        if step >= self.warmup and self.schedule == "constant":
            return self.learning_rate
        if step >= self.warmup and self.schedule == "milestones":
            return self.learning_rate * self.gamma ** sum(step >= milestone for milestone in self.milestones)
        return self.cosine_lr(step, (step - self.warmup) / max(1, self.steps - self.warmup))

    def cosine_lr(self, step: int, progress: float) -> float:
        """Linear warm-up by steps, then half a cosine from 0 to 1 of a progress that may be of time."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self.learning_rate * (self.min_lr_ratio + (1 - self.min_lr_ratio) * cosine)


# ---- early stopping -------------------------------------------------------------------------------------------------

#: An evaluation: after how many steps, and its metrics.
Evaluation = tuple[int, Mapping[str, float]]


@dataclass(frozen=True)
class EarlyStopping:
    """When a run stops early, and which weights are the best: a function of the evaluations so far alone.

    A checkpoint carries the evaluations, so that a run that is killed and resumed stops where it would have stopped.
    """

    monitor: str  # held-out metric that is to fall
    patience: int  # evaluations without a new best that end the run
    #: metrics that must not rise by more than this share of their value in the first evaluation, that of step 0;
    #: weights that break one are never the best
    limits: Mapping[str, float] = field(default_factory=dict)

    def best(self, evaluations: Sequence[Evaluation]) -> int:
        """Index of the best evaluation; the first one, before any step, is always allowed."""
        allowed = [i for i in range(len(evaluations)) if not self._broken_limit(evaluations, i)]
        return min(allowed, key=lambda i: self._monitored(evaluations[i]))

    def reason(self, evaluations: Sequence[Evaluation]) -> str:
        """Why to stop now, in a few words; empty to go on."""
        if broken := self._broken_limit(evaluations, len(evaluations) - 1):
            first, last = evaluations[0][1][broken], evaluations[-1][1][broken]
            return f"{broken} rose from {first:.4g} to {last:.4g}, by more than {self.limits[broken]:.3g} of it"
        if not math.isfinite(self._monitored(evaluations[-1])):
            return f"{self.monitor} is not finite"
        since = len(evaluations) - 1 - self.best(evaluations)
        return f"{self.monitor} has not fallen for {since} evaluations" if since >= self.patience else ""

    def _monitored(self, evaluation: Evaluation) -> float:
        value = evaluation[1][self.monitor]
        return value if not math.isnan(value) else math.inf

    def _broken_limit(self, evaluations: Sequence[Evaluation], index: int) -> str:
        """The first limit that an evaluation breaks, or nothing."""
        first, metrics = evaluations[0][1], evaluations[index][1]
        broken = (k for k, share in self.limits.items() if not metrics[k] <= first[k] * (1 + share))
        return next(broken, "") if index else ""


# ---- runs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Run(ABC):
    """Keys of every run; each task adds its network's sizes, its data and its losses' weights."""

    run: Path  # run folder
    start: Path | None = None  # weights to begin from, those of an earlier run of the task
    loop: LoopConfig = field(default_factory=LoopConfig)  # steps and rates

    @abstractmethod
    def build(self) -> Task:
        """The task, its network with fresh weights."""

    def build_or_load(self) -> Task:
        """The task as the run begins: with fresh weights, or with those of ``start``."""
        task = self.build()
        if self.start:
            load_strictly(task.network, read_weights(self.start), str(self.start))
        return task


@dataclass(frozen=True, kw_only=True)
class FeatureRun(Run):
    """A run on mels extracted beforehand, or made of the audio in shards."""

    features: Path  # feature folder, or shards
    mel_range: MelRange  # log-mels that become -1 and 1

    def open_features(self, bands: int = MEL_24K.bands) -> ClipDataset:
        """The features; of shards, those of the mel spec that has so many bands."""
        mel_spec: MelSpecName = "codes" if bands == MEL_22K.bands else "shared"
        return open_features(self.features, mel_spec)


@dataclass(frozen=True, kw_only=True)
class PairedRun(FeatureRun):
    """A run on pairs of text and codes."""

    codes: Path  # codes of the features, ``codes.npy``, or the shards
    text: Path  # folder of the tokenizer
    cleaner: Cleaner = "chelys"  # what normalizes a text before the tokenizer reads it
    pairs: PairConfig = field(default_factory=PairConfig)  # what makes a batch

    @property
    def reference_range(self) -> MelRange:
        """Range of the reference clips' mels: of the codes' mel spec where that is not the targets'."""
        return self.mel_range

    def load_pairs(self) -> Pairs:
        """The batches of the run."""
        pairs = load_pairs(
            self.features, self.codes, self.text, self.reference_range, self.pairs, self.loop.seed,
            cleaner=self.cleaner,
        )  # fmt: skip
        check_sizes("network", getattr(self, "network", None), pairs)
        if getattr(self, "decoder", None) is not None:  # else its sizes are not used
            check_sizes("decoder_network", getattr(self, "decoder_network", None), pairs)
        return pairs


def check_sizes(section: str, sizes: Any, pairs: Pairs) -> None:
    """Refuse data with more codes or text ids than a network has embeddings for.

    Raises ConfigError if a code, a text id or a position is beyond the network's tables.
    """
    needs = [("text_tokens", pairs.tokenizer.vocabulary_size, "ids of the tokenizer")]
    if pairs.known_codes is not None:
        largest, what = pairs.codes.largest() + 1, f"codes in {pairs.codes.path}"
        needs = [("codes", largest, what), ("speech_tokens", largest, what), *needs]
    for key, needed, what in needs:
        known = getattr(sizes, key, needed)
        if known < needed:
            raise ConfigError(f"{section}.{key} is {known}, fewer than the {needed} {what}: set it to {needed} or more")
    if getattr(sizes, "positions", None) == "learned":
        for key, limit, most in (
            ("max_codes", pairs.config.max_codes, sizes.code_positions - 1),
            ("max_text_ids", pairs.config.max_text_ids, sizes.text_positions - 2),
        ):
            if limit > most:
                raise ConfigError(
                    f"pairs.{key} is {limit}, but {section} has places for {most}: set it to {most} or less"
                )


def published_sizes(published: Callable[[], Any]) -> BeforeValidator:
    """``network: {like: tortoise-v2, layer_drop: 0}``: the published sizes, but for what follows.

    ``published``: gives them.
    """

    def expand(value: Any) -> Any:
        if not isinstance(value, Mapping) or "like" not in value:
            return value
        if value["like"] != "tortoise-v2":
            raise ValueError(f"like is {value['like']!r}; it must be tortoise-v2, or left out for the sizes of nano")
        return asdict(published()) | {key: entry for key, entry in value.items() if key != "like"}

    return BeforeValidator(expand)
