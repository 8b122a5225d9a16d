"""One training loop for every stage: step, clip, average, log, evaluate, checkpoint, resume.

A stage says what is trained, what a batch is and what its losses are. Batches and all that is random within a step are
functions of the seed and the step's number, so a run that was killed at any instruction goes on from its newest
checkpoint as if nothing had happened.
"""

from __future__ import annotations

import json
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from chelys.errors import ConfigError, UserError
from chelys.train.checkpoint import drop_checkpoints, newest_checkpoint, read_checkpoint, write_checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train.

    Attributes:
        steps: Optimiser steps in all.
        learning_rate: Peak.
        betas: Of AdamW.
        weight_decay: On matrices; vectors (gains, biases) are free of it.
        warmup: Steps of linear rise to the peak.
        final: Share of the peak left at the end of the cosine; 1 keeps the rate constant.
        clip: Largest gradient norm of a player.
        average: Decay of the moving average of the weights that is evaluated and kept; 0 keeps the weights themselves.
        bfloat16: Run the networks under bfloat16 autocast.
        log_every: Steps between log lines.
        evaluate_every: Steps between evaluations on held-out clips.
        checkpoint_every: Steps between checkpoints.
        seed: Of initial weights, batches and noise.
        threads: CPU threads; results are the same bit for bit only for the same number.
    """

    steps: int = 1000
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.96)
    weight_decay: float = 0.01
    warmup: int = 100
    final: float = 0.05
    clip: float = 1.0
    average: float = 0.999
    bfloat16: bool = True
    log_every: int = 20
    evaluate_every: int = 500
    checkpoint_every: int = 250
    seed: int = 1
    threads: int = 2

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "evaluate_every", "checkpoint_every", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not 0 <= self.average < 1:
            raise ConfigError(f"average is {self.average}; it must be 0 or more and below 1")

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then half a cosine down to ``final`` of the peak."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress)))


class Stage(ABC):
    """What a stage tells the loop.

    Attributes:
        name: Of the stage and of the network's file.
        players: Modules trained in turn within a step, each with an optimiser of its own; the first is the network that
            the stage is about, the others (discriminators) serve it.
    """

    name: str
    players: dict[str, nn.Module]

    @property
    def network(self) -> nn.Module:
        """The network that the stage is about."""
        return next(iter(self.players.values()))

    @abstractmethod
    def batch(self, step: int) -> Any:
        """The batch of a step, a function of the seed and the step alone."""

    @abstractmethod
    def losses(self, player: str, batch: Any, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Named losses of one player on a batch, already weighted; their sum is minimised. None at all: it sits out."""

    def after_step(self, step: int, batch: Any, generator: torch.Generator) -> dict[str, float]:
        """What moves outside of gradients (code books); returns figures for the log."""
        return {}

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Figures on held-out clips, with the averaged weights in place."""


@dataclass
class Trainer:
    """Drives a stage through its steps.

    Attributes:
        stage: What to train.
        config: How.
        folder: Run folder: ``log.jsonl``, ``checkpoints/``.
        progress: Called with (step, steps, figures) at each log line.
    """

    stage: Stage
    config: LoopConfig
    folder: Path
    progress: Callable[[int, int, dict[str, float]], None] | None = None
    step: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        torch.set_num_threads(self.config.threads)
        self.optimizers = {name: self._optimizer(module) for name, module in self.stage.players.items()}
        self.averaged = {k: v.detach().clone() for k, v in self.stage.network.state_dict().items()}

    def _optimizer(self, module: nn.Module) -> torch.optim.AdamW:
        trained = [p for p in module.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.config.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.config.learning_rate, betas=self.config.betas)

    def run(self, *, resume: bool = True) -> None:
        """Train to the last step, from the newest checkpoint if there is one.

        Raises:
            UserError: If a loss is not finite; the log names it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume:
            self._resume()
        else:
            drop_checkpoints(self.folder / "checkpoints")
        self._cut_log()
        start, first = time.monotonic(), self.step
        figures: dict[str, float] = {}
        while self.step < self.config.steps:
            figures = self._train_step()
            self.step += 1
            done = self.step == self.config.steps
            if self.step % self.config.log_every == 0 or done:
                figures["seconds_per_step"] = (time.monotonic() - start) / (self.step - first)
                self._write_log(figures)
                if self.progress:
                    self.progress(self.step, self.config.steps, figures)
            if self.step % self.config.evaluate_every == 0 or done:
                self._write_log(self.evaluate())
            if self.step % self.config.checkpoint_every == 0 or done:
                self._checkpoint()

    def _train_step(self) -> dict[str, float]:
        stage, config = self.stage, self.config
        seed = (config.seed << 32) + self.step
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout knows the global generator alone
        batch = stage.batch(self.step)
        rate = config.rate(self.step)
        figures: dict[str, float] = {"rate": rate}
        for module in stage.players.values():
            module.train()
        for player, module in stage.players.items():
            optimizer = self.optimizers[player]
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.bfloat16):
                losses = stage.losses(player, batch, generator)
            if not losses:
                continue
            total = torch.stack([loss.float() for loss in losses.values()]).sum()
            if not torch.isfinite(total):
                broken = ", ".join(f"{k}={float(v.detach())}" for k, v in losses.items())
                raise UserError(
                    f"{stage.name}: step {self.step}: the loss is not finite ({broken}); lower loop.learning_rate"
                )
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            norm = nn.utils.clip_grad_norm_(module.parameters(), config.clip)
            if not torch.isfinite(norm):  # else the weights would be lost, and the next checkpoint with them
                raise UserError(f"{stage.name}: step {self.step}: the gradient is not finite; lower loop.learning_rate")
            optimizer.step()
            figures |= {name: float(loss.detach()) for name, loss in losses.items()}
            figures[f"{player}_gradient"] = float(norm)
        figures |= stage.after_step(self.step, batch, generator)
        self._average()
        return figures

    @torch.no_grad()
    def _average(self) -> None:
        # the early steps count for less: an average over the first hundred steps has no memory of the start
        decay = min(self.config.average, (1 + self.step) / (10 + self.step)) if self.config.average else 0.0
        for key, value in self.stage.network.state_dict().items():
            if value.is_floating_point() and decay:
                self.averaged[key].lerp_(value, 1 - decay)
            else:
                self.averaged[key].copy_(value)

    def evaluate(self) -> dict[str, float]:
        """Held-out figures with the averaged weights; the weights in training come back afterwards."""
        network = self.stage.network
        current = {k: v.detach().clone() for k, v in network.state_dict().items()}
        network.load_state_dict(self.averaged)
        network.eval()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.bfloat16):
            figures = self.stage.evaluate()
        network.load_state_dict(current)
        return {f"held_out/{name}": value for name, value in figures.items()}

    def _write_log(self, figures: dict[str, float]) -> None:
        if not figures:
            return
        with (self.folder / "log.jsonl").open("a", encoding="utf8") as lines:
            lines.write(json.dumps({"step": self.step, **{k: round(v, 7) for k, v in figures.items()}}) + "\n")

    def _cut_log(self) -> None:
        """Drop lines written after the checkpoint that the run goes on from; they are about to be written again."""
        path = self.folder / "log.jsonl"
        if path.exists():
            kept = [
                ln
                for ln in path.read_text(encoding="utf8").splitlines()
                if ln.endswith("}") and json.loads(ln)["step"] <= self.step
            ]
            partial = path.with_suffix(".part")
            partial.write_text("".join(ln + "\n" for ln in kept), encoding="utf8")
            partial.replace(path)  # killed here, too, the log is whole

    def _checkpoint(self) -> None:
        tensors: dict[str, Tensor] = {f"averaged.{k}": v for k, v in self.averaged.items()}
        for player, module in self.stage.players.items():
            tensors |= {f"player.{player}.{k}": v for k, v in module.state_dict().items()}
            for index, state in self.optimizers[player].state_dict()["state"].items():
                tensors |= {f"optimizer.{player}.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        write_checkpoint(self.folder / "checkpoints", self.step, tensors)

    def _resume(self) -> None:
        path = newest_checkpoint(self.folder / "checkpoints")
        if path is None:
            return
        self.step, tensors = read_checkpoint(path)
        log.info("%s goes on from step %d (%s)", self.stage.name, self.step, path.name)
        self.averaged = _under(tensors, "averaged.")
        for player, module in self.stage.players.items():
            load_strictly(module, _under(tensors, f"player.{player}."), f"{path} (--no-resume starts anew)")
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _under(tensors, f"optimizer.{player}.").items():
                index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
            optimizer = self.optimizers[player]
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Put weights into a network that must have these and no others.

    Raises:
        ConfigError: If names or shapes differ; ``what`` says whose weights they are.
    """
    own = {k: v.shape for k, v in module.state_dict().items()}
    given = {k: v.shape for k, v in tensors.items()}
    odd = sorted(k for k in own | given if own.get(k) != given.get(k))
    if odd:
        raise ConfigError(f"{what} does not fit the configured network: {len(odd)} tensors differ, {odd[0]} among them")
    module.load_state_dict(tensors)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
