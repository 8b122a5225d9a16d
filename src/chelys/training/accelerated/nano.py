"""All of nano on one accelerator within some minutes: every stage in turn, in a process of its own.

The tasks, their networks and their losses are those of ``chelys train``; what differs is where batches come from (a
`DeviceCorpus`), and that a stage lasts for a share of the time rather than for a number of steps. What is kept is the
moving average of the weights, in half precision and in files that may be carried off one by one; a stage that is cut
short leaves what it had at its last evaluation.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chelys.audio.rates import HOP, OUTPUT_RATE
from chelys.config import to_mapping
from chelys.data.clip_pack import MIB, read_packs
from chelys.errors import ConfigError, UserError
from chelys.files import write_json
from chelys.machine import end_with_parent
from chelys.training.accelerated.config import STAGES, AcceleratedConfig
from chelys.training.accelerated.corpus import DeviceCorpus
from chelys.training.accelerated.stage import LOG_FILE, Log, StagePlan, StageTrainer, build_network
from chelys.training.checkpoint import kept_dtype

log = logging.getLogger(__name__)

#: Seconds after its time that a stage may take to write what it has.
GRACE = 45.0


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
