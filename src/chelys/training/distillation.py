"""Distillation of the diffusion decoder: in a few steps of one pass each what guided it gives in many.

The student, the network with low-rank adapters, learns from trajectories of its own guided self
(`chelys.inference.trajectories`) to go from one kept mel to the next in one step of first order: progressive
distillation (Salimans & Ho 2022) with the guidance inside (Meng et al. 2022, arXiv 2210.03142), as a difference of low
rank (Luo et al. 2023, arXiv 2311.05556). It mostly starts from where its own steps have led it, so that it learns to
make good for them. The last step is the network's own, without adapters.

The result is a model folder with ``distilled.safetensors`` beside its other networks.

f bands, s mel frames, d width, p positions, k steps of the student.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from chelys.config import to_mapping
from chelys.errors import ConfigError, OutputError, UserError, first_line
from chelys.models.diffusion import STEP_PARTS, Diffusion
from chelys.models.diffusion_schedule import DiffusionSchedule, packed_timesteps, predict_x0
from chelys.nn.lora import adapter_state, add_adapters
from chelys.training.config import LoopConfig, require
from chelys.training.run_stage import execute
from chelys.training.task import Task, TaskData, rand
from chelys.training.trainer import Progress
from chelys.weights.folder import DISTILLED_FILE, Distillation, Model, ModelConfig, write_config
from chelys.weights.tensor_file import write_tensors

#: One trajectory in so many is held out.
HELD_OUT = 32


@dataclass(frozen=True)
class DistillationConfig:
    """How a diffusion decoder is distilled."""

    steps: int = 5  # steps of the student, k
    teacher_steps: int = 20  # steps of the teacher, a multiple of those
    guidance: float = 3.5  # weight w of the teacher's classifier-free guidance
    rank: int = 16  # of the adapters
    sentences: int = 2000  # trajectories that are made to learn from
    train_steps: int = 2000  # optimizer steps
    rows: int = 4  # trajectories in a batch
    learning_rate: float = 1e-3  # peak
    own_share: float = 0.7  # of the rows in which the student goes on from its own steps
    #: what the networks compute in; ``auto`` is bfloat16 where the hardware multiplies it, else float32
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"  # ``auto`` (a GPU where there is one), ``cpu``, ``mps``, ``cuda`` or ``cuda:N``
    threads: int = 0  # CPU threads of ``chelys distill``; 0 is the cores that the process may use
    seed: int = 1  # of all that is random

    def __post_init__(self) -> None:
        require(self.steps >= 2, "steps", self.steps, "2 or more")
        for name in ("rank", "train_steps", "rows"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        whole = 0 < self.teacher_steps <= 1000 and self.teacher_steps % self.steps == 0
        require(whole, "teacher_steps", self.teacher_steps, f"a multiple of {self.steps}, 1000 at most")
        require(0 <= self.guidance <= 20, "guidance", self.guidance, "0 to 20")
        require(0 <= self.own_share <= 1, "own_share", self.own_share, "0 to 1")
        require(self.sentences >= HELD_OUT, "sentences", self.sentences, f"{HELD_OUT} or more, some of them held out")
        self.loop()  # refuse a device that is none

    def loop(self) -> LoopConfig:
        """The training loop's settings."""
        return LoopConfig(
            steps=self.train_steps, learning_rate=self.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, warmup=20,
            ema_decay=0.98, precision=self.precision, device=self.device, log_every=10, evaluate_every=100,
            checkpoint_every=50, save_total_limit=1, seed=self.seed, threads=self.threads, data_workers=0,
        )  # fmt: skip


class Trajectory(NamedTuple):
    """What the teacher made of the noise of one sentence, as `chelys.inference.trajectories` writes it."""

    conditioning: Tensor  # ``(1, d, p)``
    mels: Tensor  # ``(k, f, s)``: the noise, then the mel after each of the student's steps but the last


# ---- what the student learns ----------------------------------------------------------------------------------------


class DistillationData(TaskData):
    """Batches of trajectories, each of its own length."""

    def __init__(self, paths: Sequence[Path], config: DistillationConfig) -> None:
        self.held_out, self.paths = paths[::HELD_OUT], [p for i, p in enumerate(paths) if i % HELD_OUT]
        self.config = config

    def rows(self, step: int) -> int:
        return self.config.rows

    def clip_ids(self, step: int) -> list[str]:
        return [self._path(step, row).stem for row in range(self.config.rows)]

    def _path(self, step: int, row: int) -> Path:
        """Each trajectory once in an epoch, in an order of its own."""
        epoch, place = divmod(step * self.config.rows + row, len(self.paths))
        return self.paths[np.random.default_rng([self.config.seed, epoch]).permutation(len(self.paths))[place]]

    def load(self, step: int, rows: range) -> list[Trajectory]:
        return [self.read(self._path(step, row)) for row in rows]

    @staticmethod
    def read(path: Path) -> Trajectory:
        """A trajectory in float32. Raises UserError if the file is damaged."""
        try:
            found = {name: tensor.float() for name, tensor in load_file(path).items()}
            return Trajectory(**found)
        except (SafetensorError, OSError, TypeError) as error:
            raise UserError(f"{path} is damaged ({first_line(error)}): remove it and the .done files there") from error


class DistillationTask(Task):
    """A diffusion decoder with adapters that learns to make each of its few steps as the teacher made several."""

    name = "distillation"

    def __init__(
        self, network: Diffusion, data: DistillationData, bounds: tuple[float, float], config: DistillationConfig
    ) -> None:
        self.modules = {"diffusion": network}
        self.student, self.bounds, self.config = network, bounds, config
        self.data: DistillationData = data
        self.schedule = DiffusionSchedule(packed_timesteps(config.steps))
        self.moves = step_weights(self.schedule)

    def training_step(
        self, module: str, batch: Sequence[Trajectory], generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        own = rand((len(batch), 1), generator)[:, 0] < self.config.own_share
        errors = [self._errors(row, bool(goes_on)) for row, goes_on in zip(batch, own, strict=True)]
        mean = torch.stack(errors).mean(0) / (self.config.steps - 1)
        return {f"step_{number}": error for number, error in enumerate(mean, 1)}

    def _errors(self, row: Trajectory, own: bool) -> Tensor:
        """Mean squared error of the mel after each step ``(k - 1,)``, from the student's own mels or the teacher's."""
        errors, x = [], row.mels[:1]
        for number, index in enumerate(reversed(range(1, self.config.steps))):
            start = x if own else row.mels[number : number + 1]
            x0 = self._x0(start, index, row.conditioning)
            errors.append((self._moved(start, x0, index) - row.mels[number + 1]).square().mean())
            x = self._moved(start, x0.detach().clamp(*self.bounds), index)
        return torch.stack(errors)

    def _moved(self, x: Tensor, x0: Tensor, index: int) -> Tensor:
        """The mel after a step from x, with an estimate of the clean one."""
        kept, moved = self.moves[index]
        return kept * x + moved * x0

    def _x0(self, x: Tensor, index: int, conditioning: Tensor) -> Tensor:
        time = torch.tensor([self.schedule.timesteps[index]], device=x.device)
        estimate = self.student(x, time, conditioning)[:, : x.shape[1]].float()
        clean = self.student.config.prediction == "clean"
        return estimate if clean else predict_x0(self.schedule, index, x, estimate)

    def evaluate(self) -> dict[str, float]:
        """Mean absolute difference of the student's mels from the teacher's before the last step; held-out ones."""
        found = []
        for path in self.data.held_out:
            row: Trajectory = self.to_device(self.data.read(path))
            x = row.mels[:1]
            for index in reversed(range(1, self.config.steps)):
                x = self._moved(x, self._x0(x, index, row.conditioning).clamp(*self.bounds), index)
            found.append(float((x - row.mels[-1:]).abs().mean()))
        return {"mel_l1": float(np.mean(found))}


def step_weights(schedule: DiffusionSchedule) -> list[tuple[float, float]]:
    """Weights of x and of x0 in each step of first order, as the sampler ``distilled`` takes it."""
    alpha, target = schedule.alphas_cumprod, schedule.alphas_cumprod_prev
    kept = ((1 - target) / (1 - alpha)).sqrt()
    return list(zip(kept.tolist(), (target.sqrt() - kept * alpha.sqrt()).tolist(), strict=True))


# ---- from a model to a model ----------------------------------------------------------------------------------------


def distill(
    model: Model, trajectories: Sequence[Path], work: Path, config: DistillationConfig,
    progress: Progress | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """The weights of the adapters by name; a run that was stopped goes on.

    ``model``: its diffusion decoder is changed; ``work``: the run folder. Raises ConfigError if there are too few
    trajectories.
    """
    if len(trajectories) < HELD_OUT:
        raise ConfigError(f"{len(trajectories)} sentences came to their end, {HELD_OUT} are needed: make more")
    network, data = model.diffusion.cpu().float(), DistillationData(trajectories, config)

    def build() -> DistillationTask:
        generator = torch.Generator().manual_seed(config.seed)
        add_adapters(network, config.rank, generator, wanted=lambda name: name.partition(".")[0] in STEP_PARTS)
        return DistillationTask(network, data, network.bounds(model.config.mel_range.bounds), config)

    best = load_file(execute("distillation", build, config.loop(), work, to_mapping(config), progress=progress))
    return {name: best[name] for name in adapter_state(network)}


def write_distilled(
    model: Model, adapters: Mapping[str, Tensor], config: DistillationConfig, folder: Path
) -> ModelConfig:
    """Write the model with its distilled decoder. Raises OutputError if the folder is there, or cannot be written."""
    try:
        shutil.copytree(model.folder, folder)
        digest = write_tensors(folder / DISTILLED_FILE, adapters, network="distilled", dtype=torch.float16)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    made = Distillation(config.steps, config.guidance, config.rank)
    hashes = {name: value for name, value in model.config.hashes.items() if name.endswith(".safetensors")}
    described = replace(model.config, distillation=made, hashes={})
    return write_config(folder, described, hashes | {DISTILLED_FILE: digest})
