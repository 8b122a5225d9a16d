"""How long, how fast and on what a stage trains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from chelys.errors import ConfigError


@dataclass(frozen=True)
class LoopConfig:
    """Steps, rates, precision, processes.

    Attributes:
        steps: Optimiser steps in all.
        learning_rate: Peak.
        betas: Of AdamW.
        weight_decay: On matrices; vectors (gains, biases) are free of it.
        warmup: Steps of linear rise to the peak.
        schedule: What follows: half a ``cosine``, a ``constant`` rate, or a fall at each of the ``milestones``.
        final: Share of the peak left at the end of the cosine; 1 keeps the rate constant.
        milestones: Steps at which the rate is multiplied by ``gamma``.
        gamma: See there.
        clip: Largest gradient norm of a player.
        average: Decay of the moving average of the weights that is evaluated and kept; 0 keeps the weights themselves.
        precision: What the networks compute in; weights, losses and optimisers are float32 always. ``float16`` scales
            the loss so that small gradients survive.
        accumulate: Parts that a step's batch is computed in, one after another: less memory, the same batch.
        recompute: Compute blocks again in the backward pass rather than keep what they computed (gradient
            checkpointing): less memory, a third more time.
        strategy: Where ``torchrun`` starts several processes: a copy of the network in each (``ddp``) or a piece of it
            (``fsdp``). ``single`` refuses to run in more than one.
        device: ``auto`` takes a GPU where there is one.
        log_every: Steps between log lines.
        evaluate_every: Steps between evaluations on held-out clips.
        checkpoint_every: Steps between checkpoints.
        keep: Checkpoints kept.
        pictures: Draw pictures at each evaluation and the losses at the end, where matplotlib is installed.
        tensorboard: Log to ``RUN/tensorboard`` too, where tensorboard is installed.
        seed: Of initial weights, batches and noise.
        threads: CPU threads; results are the same bit for bit only for the same number.
        data_workers: Processes that prepare batches ahead of the step; default none on a processor, and up to 8 on a
            GPU. Batches are the same for any number.
        prefetch: Batches that each of them keeps ready.
    """

    steps: int = 1000
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.96)
    weight_decay: float = 0.01
    warmup: int = 100
    schedule: Literal["cosine", "constant", "milestones"] = "cosine"
    final: float = 0.05
    milestones: tuple[int, ...] = ()
    gamma: float = 0.5
    clip: float = 1.0
    average: float = 0.999
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    accumulate: int = 1
    recompute: bool = False
    strategy: Literal["single", "ddp", "fsdp"] = "ddp"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    log_every: int = 20
    evaluate_every: int = 500
    checkpoint_every: int = 250
    keep: int = 2
    pictures: bool = True
    tensorboard: bool = True
    seed: int = 1
    threads: int = 2
    data_workers: int | None = None
    prefetch: int = 2

    def __post_init__(self) -> None:
        whole = ("steps", "accumulate", "log_every", "evaluate_every", "checkpoint_every", "keep", "threads", "prefetch")
        for name in whole:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.data_workers is not None and self.data_workers < 0:
            raise ConfigError(f"data_workers is {self.data_workers}; it must be 0 or more")
        for name in ("learning_rate", "clip", "gamma"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("warmup", "weight_decay", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas is {list(self.betas)}; both must be 0 or more and below 1")
        if not 0 <= self.average < 1:
            raise ConfigError(f"average is {self.average}; it must be 0 or more and below 1")
        if not 0 <= self.final <= 1:
            raise ConfigError(f"final is {self.final}; it must be 0 to 1")
        if bool(self.milestones) != (self.schedule == "milestones"):
            raise ConfigError(
                f"schedule is {self.schedule} and milestones is {list(self.milestones)}: "
                "give both schedule=milestones and some milestones, or neither"
            )

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then the schedule."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "milestones":
            return self.learning_rate * self.gamma ** sum(step >= milestone for milestone in self.milestones)
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress)))
