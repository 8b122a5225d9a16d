"""A stage on one accelerator: its network and task, and its training until a share of the time is over."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from chelys.data.clip_pack import MIB
from chelys.files import json_line
from chelys.models.autoregressive import Autoregressive
from chelys.models.clvp import CLVP
from chelys.models.diffusion import Diffusion
from chelys.models.dvae import DVAE
from chelys.models.vocos import Vocos
from chelys.training.accelerated.batches import Batches
from chelys.training.accelerated.config import AcceleratedConfig
from chelys.training.accelerated.corpus import DeviceCorpus
from chelys.training.accelerated.cuda_graph import GraphedPass
from chelys.training.checkpoint import load_trained, write_parts
from chelys.training.distributed import DistributedContext
from chelys.training.optimizer import TrainableModule, averaged, update_ema
from chelys.training.task import Task
from chelys.training.tasks.autoregressive import AutoregressiveTask
from chelys.training.tasks.clvp import CLVPTask
from chelys.training.tasks.diffusion import DiffusionTask
from chelys.training.tasks.dvae import ClipDVAETask
from chelys.training.tasks.vocoder import VocoderTask

LOG_FILE = "log.jsonl"
#: Evaluations of a stage, each of which keeps the weights.
EVALUATIONS = 10
#: Steps before a step is timed, while kernels are chosen and graphs recorded, and steps that are timed.
WARM, TIMED = 12, 8


@dataclass(frozen=True)
class StagePlan:
    """What a stage does in its time, by a trial on the device at hand."""

    stage: str
    seconds: float  # for the stage
    step_seconds: float
    step_flops: float  # floating-point operations of a step

    @property
    def steps(self) -> int:
        """How many fit."""
        return int(self.seconds / self.step_seconds)

    def __str__(self) -> str:
        return (
            f"{self.stage}: {self.step_seconds:.3f} s and {self.step_flops:.3g} FLOP a step; {self.seconds:.0f} s hold "
            f"{self.steps:,} steps, {self.steps * self.step_flops:.3g} FLOP"
        )


def build_network(stage: str, run: Any) -> nn.Module:
    """The network of a stage, with fresh weights."""
    if stage == "vocoder":
        return Vocos(run.network, run.mel_range)
    networks = {"dvae": DVAE, "autoregressive": Autoregressive, "clvp": CLVP, "diffusion": Diffusion}
    made: nn.Module = networks[stage](run.network)
    return made


def build_task(stage: str, run: Any, device: torch.device) -> Task:
    """The task of a stage; the diffusion decoder's has the trained autoregressive decoder."""
    network: Any = build_network(stage, run).to(device)
    data: Any = SimpleNamespace(config=run.stage, pairs=None)  # batches come from elsewhere
    if stage == "dvae":
        return ClipDVAETask(network, data)
    if stage == "autoregressive":
        return AutoregressiveTask(network, data.pairs, run.stage)
    if stage == "clvp":
        return CLVPTask(network, data)
    if stage == "vocoder":
        made = VocoderTask(network, data)
        made.discriminators.to(device)
        return made
    decoder = load_trained(Autoregressive(run.decoder_network), run.decoder).to(device)
    task = DiffusionTask(network, decoder, data)
    if device.type == "cuda":  # graphs copy nothing from the host
        task.noise_schedule.alphas_cumprod = task.noise_schedule.alphas_cumprod.to(device)
    return task


class StageTrainer:
    """A stage in training: its task, its batches, its optimizers and the moving average of its network."""

    def __init__(
        self, stage: str, config: AcceleratedConfig, corpus: DeviceCorpus, out: Path, *, graphs: bool = True
    ) -> None:
        self.stage, self.config, self.device, self.out = stage, config, corpus.device, out
        run = config.run(stage, out)
        self.loop = run.loop
        torch.manual_seed(config.seed)
        self.task = build_task(stage, run, self.device)
        self.batches = Batches(stage, run, config, corpus)
        if stage == "diffusion" and run.network.clip_mean:
            cast(Diffusion, self.task.modules["diffusion"]).mean_spectrum.copy_(self.batches.mean_spectrum())
        context = DistributedContext(self.device)
        self.modules = {name: TrainableModule(m, run.loop, context) for name, m in self.task.modules.items()}
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        self.ema = {k: v.detach().clone() for k, v in self.task.network.state_dict().items()}
        self.graphed: dict[str, GraphedPass] = {}
        if graphs and config.stages[stage].graphs and self.device.type == "cuda":
            for name, module in self.modules.items():
                self.graphed[name] = GraphedPass(partial(self._loss, name), module.network, self.generator)
        self.steps, self.best = 0, math.inf
        self._stream = self.batches.train(np.random.default_rng(config.seed))

    def _losses(self, name: str, batch: Any) -> dict[str, Tensor]:
        work = lambda: self.task.training_step(name, batch, self.generator)  # noqa: E731
        losses = dict(self.modules[name].forward(work))
        return losses | {"loss": torch.stack([loss.float() for loss in losses.values()]).sum()} if losses else {}

    def _loss(self, name: str, batch: Any) -> Tensor:
        return self._losses(name, batch)["loss"]

    def step(self, progress: float) -> dict[str, Tensor]:
        """One step of all modules at a progress of 0 to 1, by which the learning rate falls."""
        loop, batch = self.loop, next(self._stream)
        found: dict[str, Tensor] = {}
        lr = loop.cosine_lr(self.steps, min(progress, 1.0))
        for name, module in self.modules.items():
            module.zero_grad(lr)
            if name in self.graphed:
                losses = {"loss": self.graphed[name](batch)}
            elif losses := self._losses(name, batch):
                losses["loss"].backward()
            if losses:  # a module that has not joined yet has none
                nn.utils.clip_grad_norm_(module.network.parameters(), loop.max_grad_norm)
                module.optimizer.step()
            found |= {k if k != "loss" else f"{name}_loss": v.detach() for k, v in losses.items()}
        metrics = self.task.after_step(self.steps, batch, torch.Generator().manual_seed(self.steps))
        update_ema(self.ema, self.task.network, loop.ema_decay, self.steps)
        self.steps += 1
        return found | {k: torch.tensor(v, device=self.device) for k, v in metrics.items()}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Held-out losses of the averaged weights, which are kept unless 2 % worse than the best so far."""
        sums: dict[str, list[float]] = {}
        state = self.generator.get_state()
        devices = [self.device] if self.device.type == "cuda" else []
        with averaged(self.task.network, self.ema), torch.random.fork_rng(devices=devices):
            torch.manual_seed(7)
            self.generator.manual_seed(7)
            for batch in self.batches.held_out():
                for name, loss in self._losses(next(iter(self.modules)), batch).items():
                    sums.setdefault(name, []).append(float(loss))
        self.generator.set_state(state)
        self.task.network.train()
        found = {name: float(np.mean(values)) for name, values in sums.items()}
        score = found.get("loss", 0.0)
        # the losses of these change with what joins: a codebook, discriminators
        newest = self.stage in ("dvae", "vocoder")
        if math.isfinite(score) and (newest or score <= self.best * 1.02):
            self.best = min(self.best, score)
            write_parts(
                self.out / self.stage / f"{self.stage}.safetensors", self.ema, int(self.config.max_file_mib * MIB)
            )
        return found

    def measure(self, seconds: float) -> StagePlan:
        """Time some steps and count the operations of one; they train as all others do."""
        for _ in range(WARM):
            self.step(0.0)
        counter, graphed = FlopCounterMode(display=False), self.graphed
        self.graphed = {}  # operations of a graph are not seen
        with counter:
            self.step(0.0)
        self.graphed = graphed
        self._wait()
        begin = time.monotonic()
        for _ in range(TIMED):
            self.step(0.0)
        self._wait()
        return StagePlan(self.stage, seconds, (time.monotonic() - begin) / TIMED, float(counter.get_total_flops()))

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def train(self, seconds: float) -> int:
        """Train for so long, the trial included; returns the steps."""
        begin = time.monotonic()
        write = Log(self.out / LOG_FILE, self.stage)
        write({"step": 0, "held_out": self.evaluate()})
        plan = self.measure(seconds)
        if isinstance(self.task, ClipDVAETask):  # codes must settle at the end
            self.task.config = replace(self.task.config, revive_until=int(0.85 * plan.steps))
        write(
            {"plan": str(plan), "step_seconds": plan.step_seconds, "step_flops": plan.step_flops, "steps": plan.steps}
        )
        every = max(1, min(100, plan.steps // 20))
        sums: dict[str, Tensor] = {}
        evaluated, count = 0.0, 0
        while (progress := (time.monotonic() - begin) / seconds) < 1:
            for name, value in self.step(progress).items():
                sums[name] = sums.get(name, 0) + value.float()
            count += 1
            if self.steps % every == 0:
                write({"step": self.steps, **{name: float(value) / count for name, value in sums.items()}})
                sums, count = {}, 0
            if progress - evaluated > 1 / EVALUATIONS:
                evaluated = progress
                write({"step": self.steps, "held_out": self.evaluate()})
        write({"step": self.steps, "held_out": self.evaluate(), "seconds": time.monotonic() - begin,
               "flops": self.steps * plan.step_flops})  # fmt: skip
        return self.steps

    def finish(self, codes: Path) -> None:
        """After the VQ-VAE: write the codes of the corpus, by the weights that are kept."""
        if self.stage == "dvae":
            dvae: Any = load_trained(self.task.network, self.out / "dvae" / "dvae.safetensors")
            self.batches.corpus.encode(dvae)
            torch.save(self.batches.corpus.codes.cpu(), codes)


class Log:
    """The log of all stages, JSON lines; each is on the disk when it is written."""

    def __init__(self, path: Path, stage: str) -> None:
        self.path, self.stage, self.begin = path, stage, time.monotonic()

    def __call__(self, row: Mapping[str, Any]) -> None:
        line = {"stage": self.stage, "elapsed": round(time.monotonic() - self.begin, 1), **row}
        with self.path.open("a", encoding="utf8") as file:
            file.write(json_line(json.loads(json.dumps(line), parse_float=lambda x: float(f"{float(x):.6g}"))))
