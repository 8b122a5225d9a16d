"""All of nano on one accelerator within some minutes: every stage in turn, in a process of its own.

The tasks, their networks and their losses are those of ``chelys train``; what differs is where batches come from (a
`DeviceCorpus`), and that a stage lasts for a share of the time rather than for a number of steps. What is kept is the
moving average of the weights, in half precision and in files that may be carried off one by one; a stage that is cut
short leaves what it had at its last evaluation.
"""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from chelys.audio.mel import MelRange
from chelys.audio.rates import FRAMES_PER_CODE, HOP, OUTPUT_RATE
from chelys.config import from_mapping, to_mapping
from chelys.data.clip_pack import MIB, read_packs
from chelys.errors import ConfigError, UserError
from chelys.files import json_line, write_json
from chelys.machine import end_with_parent
from chelys.models.autoregressive import Autoregressive
from chelys.models.clvp import CLVP
from chelys.models.diffusion import Diffusion, clip_spectrum
from chelys.models.diffusion_schedule import TRAIN_STEPS
from chelys.models.dvae import DVAE
from chelys.models.vocos import Vocos
from chelys.training.checkpoint import kept_dtype, load_trained, write_parts
from chelys.training.device_corpus import WIDTHS, DeviceCorpus, rows_of
from chelys.training.distributed import DistributedContext
from chelys.training.task import Task, map_tensors, tensors_of
from chelys.training.tasks import RUNS
from chelys.training.tasks.autoregressive import AutoregressiveTask
from chelys.training.tasks.clvp import CLVPBatch, CLVPTask, Corrupted
from chelys.training.tasks.diffusion import MEAN_CLIPS, DiffusionBatch, DiffusionTask
from chelys.training.tasks.dvae import ClipDVAEBatch, ClipDVAETask
from chelys.training.tasks.vocoder import VocoderBatch, VocoderTask
from chelys.training.trainer import TrainableModule, averaged, update_ema

log = logging.getLogger(__name__)

LOG_FILE = "log.jsonl"
#: In this order: what a stage needs comes before it, and the VQ-VAE, without which nothing is of use, first of all.
STAGES = ("dvae", "autoregressive", "clvp", "diffusion", "vocoder")
#: Evaluations of a stage, each of which keeps the weights; held-out batches of each.
EVALUATIONS, TEST_BATCHES = 10, 8
#: Steps before a step is timed, while kernels are chosen and graphs recorded, and steps that are timed.
WARM, TIMED = 12, 8
#: Seconds after its time that a stage may take to write what it has.
GRACE = 45.0
#: Mel frames of a clip that the mean spectrum is taken of.
MEAN_FRAMES = 256


@dataclass(frozen=True)
class StageConfig:
    """A stage: its share of the time, its batches, and its run as ``chelys train`` reads it."""

    share: float  # of the time that is left for training, against the other stages' shares
    frames: int  # mel frames of a batch
    max_rows: int = 512  # of a batch
    max_frames: int = WIDTHS[-1]  # mel frames of the longest clip
    #: record a CUDA graph of forward and backward pass for each shape; where that fails the stage goes on without
    graphs: bool = False
    run: dict[str, Any] = field(default_factory=dict)  # keys ``network``, ``stage`` and ``loop`` of the run


@dataclass(frozen=True)
class AcceleratedConfig:
    """All stages, and the corpus they share."""

    mel_range: MelRange  # log-mels that become -1 and 1
    stages: dict[str, StageConfig]
    #: source to its share of the clips; ``other`` stands for those that are not named
    sources: dict[str, float] = field(default_factory=lambda: {"other": 1.0})
    sizes: int = 3  # sizes in which each speaker comes, itself among them
    resized: float = 0.35  # share of clips at other sizes
    reference_clips: int = 2  # clips of a voice that condition a row
    reference_frames: int = 256  # mel frames of each
    grapheme_share: float = 0.5  # share of texts in which some words are letters
    max_total_mib: float = 64.0  # what may be carried off together
    max_file_mib: float = 15.5  # and of it, the largest file
    seed: int = 1

    RENAMED: ClassVar[dict[str, str | None]] = {}

    def __post_init__(self) -> None:
        if odd := sorted(set(STAGES) ^ self.stages.keys()):
            raise ConfigError(f"stages {'lacks' if odd[0] in STAGES else 'knows no'} {odd[0]}")

    def run(self, stage: str, out: Path) -> Any:
        """The run of a stage, with its folder. Raises ConfigError if a key of it is wrong."""
        paired = stage in ("autoregressive", "clvp", "diffusion")
        values = {
            "run": out / stage,
            "features": out,
            "mel_range": {"low": self.mel_range.low, "high": self.mel_range.high},
        }
        values |= {"codes": out, "text": out} if paired else {}
        if stage == "diffusion":
            values |= {"decoder": out / "autoregressive" / "autoregressive.safetensors"}
            values["decoder_network"] = self.stages["autoregressive"].run.get("network", {})
        return from_mapping(RUNS[stage], values | self.stages[stage].run, where=f"stages.{stage}.run")


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


# ---- a task and its batches -----------------------------------------------------------------------------------------


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


class Batches:
    """Batches of a stage from a corpus, and the held-out ones that it is evaluated on."""

    def __init__(self, stage: str, run: Any, config: AcceleratedConfig, corpus: DeviceCorpus) -> None:
        self.stage, self.run, self.config, self.corpus = stage, run, config, corpus
        self.plan = config.stages[stage]
        usable = corpus.frames <= self.plan.max_frames
        if stage in ("autoregressive", "clvp"):
            usable = usable & corpus.read
        if stage == "vocoder":
            usable = usable & ~corpus.resized & (corpus.frames >= run.stage.frames)
            if run.network.pitches:
                usable = usable & corpus.pitched
        self.chance = corpus.chances(config.sources, config.resized) * usable
        if not self.chance.any():
            raise ConfigError(f"{stage}: no clip to train on fits")
        self.test = np.flatnonzero(usable & corpus.held_out)

    def train(self, rng: np.random.Generator) -> Iterator[Any]:
        """Batches without end."""
        if self.stage == "vocoder":  # crops, of long clips more
            chance = self.chance * self.corpus.frames
            for step in count():
                yield self._batch(rng.choice(len(chance), self.run.stage.rows, p=chance / chance.sum()), 0, rng, step)
        drawn = self.corpus.batches(self.chance, self.plan.frames, self.plan.max_rows, rng)
        for step, (rows, width) in enumerate(drawn):
            yield self._batch(rows, width, rng, step)

    def held_out(self) -> Iterator[Any]:
        """A few batches of held-out clips, the same every time."""
        rng = np.random.default_rng(7)
        widths = self.corpus.width[self.test]
        for width in np.unique(widths)[:TEST_BATCHES]:
            rows = self.test[widths == width]
            yield self._batch(rows[: rows_of(int(width), self.plan.frames, 32)], int(width), rng, 0)

    def mean_spectrum(self) -> Tensor:
        """Mean over the spectra of training clips, evenly drawn, the start of each: ``(f,)``."""
        frames, drawn = self.corpus.frames, self.chance > 0
        width = min(int(np.median(frames[drawn])), MEAN_FRAMES)
        rows = np.flatnonzero(drawn & (frames >= width))
        mel, _ = self.corpus.mels(rows[:: -(-len(rows) // MEAN_CLIPS)], width)
        return clip_spectrum(mel.float()).mean(0)

    def _batch(self, rows: np.ndarray, width: int, rng: np.random.Generator, step: int) -> Any:
        corpus, config = self.corpus, self.config
        if self.stage == "dvae":
            mel, mask = corpus.mels(rows, width)
            text = corpus.texts(rows, width, np.zeros(len(rows)))
            at = torch.from_numpy(rows).to(corpus.device)
            read = torch.from_numpy(corpus.read[rows]).to(corpus.device)
            return ClipDVAEBatch(mel, mask, corpus.mean[at], *text, read)
        if self.stage == "vocoder":
            frames = self.run.stage.frames
            first = (rng.random(len(rows)) * (corpus.frames[rows] - frames + 1)).astype(int)
            mel, _ = corpus.mels(rows, frames, first)
            waveform, f0_hz = corpus.waveforms(rows, first, frames)
            noise = torch.randn((len(rows), self.run.network.noise_dim, frames), device=corpus.device)
            return VocoderBatch(config.mel_range.denormalize(mel), waveform, noise, f0_hz, step)
        pairs = corpus.pairs(
            rows,
            width,
            rng,
            frames=config.reference_frames,
            clips=config.reference_clips,
            grapheme_share=config.grapheme_share,
        )
        if self.stage == "autoregressive":
            return pairs
        if self.stage == "clvp":
            none = torch.zeros(len(rows), 0, 0, dtype=torch.long, device=corpus.device)
            return CLVPBatch(*pairs, Corrupted(none, none.flatten(1), none, none.flatten(1)))
        # a crop that every clip of the width has
        shortest = max((w for w in WIDTHS if w < width), default=32)
        length = min(self.run.stage.crop, shortest // FRAMES_PER_CODE)
        first = (rng.random(len(rows)) * (corpus.frames[rows] // FRAMES_PER_CODE - length + 1)).astype(int)
        mel, _ = corpus.mels(rows, length * FRAMES_PER_CODE, first * FRAMES_PER_CODE)
        at = torch.from_numpy(first).to(corpus.device)[:, None] + torch.arange(length, device=corpus.device)
        return DiffusionBatch(
            mel, at, *pairs, voice=pairs.reference, noise=torch.randn(mel.shape, device=corpus.device),
            timesteps=torch.randint(TRAIN_STEPS, (len(rows),), device=corpus.device),
            uncond_mask=torch.rand(len(rows), device=corpus.device) < self.run.stage.conditioning_dropout,
        )  # fmt: skip


# ---- a stage --------------------------------------------------------------------------------------------------------


class GraphedPass:
    """Forward and backward pass of a module, recorded as a CUDA graph for each shape of its batch.

    Launching the many small kernels of a small network takes longer than running them; a graph is launched at once.
    """

    def __init__(self, forward: Callable[[Any], Tensor], network: nn.Module, generator: torch.Generator) -> None:
        self.forward, self.generator = forward, generator
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self._recorded: dict[Any, tuple[Any, Any, Tensor, list[Tensor | None]]] = {}
        self._seen: dict[Any, int] = {}
        self._pool: Any = None
        self.enabled = True

    def __call__(self, batch: Any) -> Tensor:
        """Loss of a batch, with gradients in place of those that were there."""
        key = tuple(tuple(tensor.shape) for tensor in tensors_of(batch).values())
        if self.enabled and key not in self._recorded and self._seen.get(key, 0) >= 3:
            try:
                self._recorded[key] = self._record(batch)
            except RuntimeError as error:
                log.warning("no CUDA graph (%s); the stage goes on without", str(error).splitlines()[0])
                self.enabled = False
                torch.cuda.synchronize()
        if not self.enabled or key not in self._recorded:
            self._seen[key] = self._seen.get(key, 0) + 1
            return self._backward(batch)
        graph, static, loss, gradients = self._recorded[key]
        for target, source in zip(tensors_of(static).values(), tensors_of(batch).values(), strict=True):
            target.copy_(source)
        graph.replay()
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss.clone()

    def _backward(self, batch: Any) -> Tensor:
        for parameter in self.parameters:
            parameter.grad = None
        loss = self.forward(batch)
        loss.backward()
        return loss.detach()

    def _record(self, batch: Any) -> tuple[Any, Any, Tensor, list[Tensor | None]]:
        static = map_tensors(batch, torch.clone)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._backward(static)
        torch.cuda.current_stream().wait_stream(stream)
        for parameter in self.parameters:
            parameter.grad = None
        with torch.cuda.graph(graph, pool=self._pool):
            loss = self._backward(static)
        self._pool = graph.pool()
        return graph, static, loss, [parameter.grad for parameter in self.parameters]


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


# ---- all stages -----------------------------------------------------------------------------------------------------


def train_nano(
    config: AcceleratedConfig, packs: Sequence[Path], out: Path, *, device: str, minutes: float, workers: int = 1,
    isolate: bool = True, only_plan: bool = False,
) -> list[StagePlan]:  # fmt: skip
    """Train every stage within some minutes, reading the packs included; the run folders lie in ``out``.

    Raises ConfigError if a setting is wrong, or what would come out is too large to carry off; UserError if a stage
    failed: the others are there all the same.

    Args:
        config: The stages.
        packs: What ``chelys data pack`` wrote.
        out: Folder, new or of an earlier call.
        device: Where to train.
        minutes: In all.
        workers: Processes that decode clips.
        isolate: Give each stage a process of its own, so that it leaves nothing in the accelerator's memory.
        only_plan: Measure some steps of each stage, and leave no weights.

    Returns:
        What fits into the time, for each stage; empty unless ``only_plan``.
    """
    if not 0 < minutes < math.inf:
        raise ConfigError(f"--minutes is {minutes:g}; it must be above 0")
    end = time.time() + 60 * minutes
    with tempfile.TemporaryDirectory(prefix="chelys-", dir=_scratch()) as folder, ExitStack() as stack:
        target = Path(folder) if only_plan else out
        for stage in STAGES:
            (target / stage).mkdir(parents=True, exist_ok=True)
            write_json(target / stage / "config.json", to_mapping(config.run(stage, target)))
        check_size(config)
        file = Path(folder) / "corpus.pt"
        processes = {}
        if isolate and not only_plan:
            processes = {stage: _StageProcess(stage, config, file, target, device, True) for stage in STAGES}
        for waiting in processes.values():
            stack.callback(waiting.process.terminate)
        write_corpus(config, packs, file, device, workers, Log(target / LOG_FILE, "corpus"))
        plans, failed = [], []
        shares = {stage: plan.share for stage, plan in config.stages.items()}
        for stage in STAGES:
            until = time.time() + max(1.0, end - time.time()) * shares[stage] / sum(shares.values())
            del shares[stage]
            job = (stage, config, file, target, device)
            if only_plan:
                plans.append(plan_stage(*job, until - time.time()))
            elif not isolate:
                train_stage(*job, True, until=until)
            elif not processes[stage].train(until):
                log.warning("%s failed", stage)
                again = config.stages[stage].graphs and time.time() < until - 1
                if not (again and _StageProcess(*job, False).train(until)):
                    failed.append(stage)
                    if stage in ("dvae", "autoregressive"):  # others need it
                        break
    if failed:
        raise UserError(f"{failed[0]} was not trained; what came before is in {out / LOG_FILE}")
    size = 0 if only_plan else sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / MIB
    if size > config.max_total_mib:
        raise UserError(f"{out} holds {size:.1f} MiB, more than max_total_mib, {config.max_total_mib:g}")
    return plans


def check_size(config: AcceleratedConfig) -> None:
    """Refuse networks that could not be carried off. Raises ConfigError."""
    size = 0
    for stage in STAGES:
        with torch.random.fork_rng(devices=[]):
            state = build_network(stage, config.run(stage, Path())).state_dict()
        size += sum(value.numel() * kept_dtype(name, value).itemsize for name, value in state.items())
    if size / MIB > config.max_total_mib - 1:
        raise ConfigError(
            f"the networks take {size / MIB:.1f} MiB, which with the log is more than max_total_mib, "
            f"{config.max_total_mib:g}: make them smaller"
        )


def write_corpus(
    config: AcceleratedConfig, packs: Sequence[Path], file: Path, device: str, workers: int, write: Log
) -> None:
    """Make the corpus on the device, and write it for the stages' processes."""
    clips = read_packs(packs, workers=workers)
    corpus = DeviceCorpus(clips, config.mel_range, device, sizes=config.sizes, seed=config.seed)
    hours = float(corpus.frames[~corpus.resized].sum()) * HOP / OUTPUT_RATE / 3600
    write({"rows": len(corpus.frames), "hours": hours, "voices": len(np.unique(corpus.voice))})
    torch.save(corpus.move("cpu"), file, pickle_protocol=5)
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()


def read_corpus(file: Path, device: str) -> DeviceCorpus:
    """The corpus of `write_corpus`, with the codes once there are some."""
    corpus: DeviceCorpus = torch.load(file, weights_only=False, mmap=True)
    if (codes := file.with_name("codes.pt")).is_file():
        corpus.codes = torch.load(codes)
    return corpus.move(device)


def train_stage(
    stage: str, config: AcceleratedConfig, file: Path, out: Path, device: str, graphs: bool, *, until: float
) -> None:
    """Train a stage until a time of ``time.time``; the VQ-VAE's ends with codes of the corpus."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True  # shapes are few
    trainer = StageTrainer(stage, config, read_corpus(file, device), out, graphs=graphs)
    trainer.train(max(0.1, until - time.time()))
    trainer.finish(file.with_name("codes.pt"))


def plan_stage(stage: str, config: AcceleratedConfig, file: Path, out: Path, device: str, seconds: float) -> StagePlan:
    """Measure a stage; what it leaves in ``out`` is of use to the measurement of the next ones alone."""
    trainer = StageTrainer(stage, config, read_corpus(file, device), out)
    plan = trainer.measure(seconds)
    trainer.evaluate()
    trainer.finish(file.with_name("codes.pt"))
    return plan


class _StageProcess:
    """A process for a stage, which waits for its turn; so what it imports costs no time of the accelerator's."""

    def __init__(self, *job: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._turn, theirs = context.Pipe()
        self.process = context.Process(target=_wait_and_train, args=(theirs, job), daemon=True)
        self.process.start()

    def train(self, until: float) -> bool:
        """Let it train until a time; whether it did."""
        with suppress(OSError):  # it ended before its turn
            self._turn.send(until)
        self.process.join(max(0.0, until - time.time()) + GRACE)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()
        return self.process.exitcode == 0


def _wait_and_train(turn: Any, job: tuple[Any, ...]) -> None:
    end_with_parent()
    train_stage(*job, until=turn.recv())


def _scratch() -> Path | None:
    """Memory, where there is plenty of it for files; else the usual folder."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > 32 * 2**30 else None
