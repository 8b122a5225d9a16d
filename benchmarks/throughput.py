"""How fast each stage trains at nano's size, against what this machine reaches in matrix products.

    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/throughput.py [--stages clvp,vocoder] [--steps 6] [--profile]
    python benchmarks/throughput.py --memory

Each stage trains by its recipe `nano/NAME`, batches, optimiser and averages included, on an imagined corpus whose
clips are as long as nano's. Time is the processor's, on one thread, so that other work on the machine spoils it little.
The matrix rate is measured between the stages; its median counts. Operations are those of matrix products, convolutions
and attention. Fourier transforms are not counted, hence the vocoder's small share.

With --memory: what `chelys train plan` foretells for five runs, against the growth of a process that trains them.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tools" / "memory_planner"))

from counting import FlopCounter
from imagined import ImaginedCorpus, imagine, imagine_weights
from plan import Machine, memory_of
from rehearsal import audio_seconds, imagined_settings, rehearse, start_code_book
from torch.profiler import ProfilerActivity, profile

from chelys import configs as chelys_configs
from chelys.config import from_mapping
from chelys.configs import read_config_file
from chelys.models.autoregressive import Autoregressive
from chelys.training.task import Task
from chelys.training.tasks import RUNS
from chelys.training.trainer import Trainer

CONFIGS = chelys_configs.CONFIGS / "nano"
STAGES = ("dvae", "autoregressive", "clvp", "diffusion", "diffusion latents", "vocoder")
QUIET = {"log_every": 1, "threads": 1, "pictures": False, "tensorboard": False}
#: Runs whose memory is measured: large enough that what libraries take is small beside it.
MEMORY_RUNS = (
    ("autoregressive", ("pairs.budget=5000",)),
    ("clvp", ("pairs.budget=10000",)),
    ("diffusion", ("pairs.budget=4000",)),
    ("vocoder", ("stage.rows=64", "stage.discriminator_start=0")),
    ("vocoder", ("stage.rows=64", "stage.discriminator_start=0")),
)
CLIP_SECONDS = 6.0  # of the clips of these


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", default=",".join(STAGES), help="names with commas between")
    parser.add_argument("--steps", type=int, default=6, help="timed steps of each stage, after one that is not")
    parser.add_argument("--profile", action="store_true", help="print the costliest operations of every stage")
    parser.add_argument("--memory", action="store_true", help="measure memory instead")
    parser.add_argument("--train", nargs="+", help=argparse.SUPPRESS)  # the process that --memory watches
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.train:
        print(train_once(options.train[0], options.train[1:]))
    elif options.memory:
        report_memory()
    else:
        report_speed(options)


# ---- speed --------------------------------------------------------------------------------------------------------


def report_speed(options: argparse.Namespace) -> None:
    rates = [matrix_rate()]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        corpus = imagine(Path(folder), nano_lengths())
        for name in options.stages.split(","):
            rows.append((name, *measure(name, corpus, Path(folder) / name, options.steps)))
            rates.append(matrix_rate())
            if options.profile:
                print(table_of_operations(name, corpus, Path(folder) / f"{name}-profile"))
    rate = statistics.median(rates)
    print(f"bfloat16 matrix product, one thread: {rate / 1e9:.0f} GFLOP/s\n")
    print("| stage | audio seconds a second | GFLOP/s | share of the matrix rate |\n|---|---|---|---|")
    for name, audio, flops in rows:
        print(f"| {name} | {audio:.1f} | {flops / 1e9:.0f} | {flops / rate:.0%} |")


def matrix_rate(size: int = 1024, repeats: int = 12) -> float:
    """FLOP/s of bfloat16 products of square matrices by processor time, the median of the repeats."""
    a, b = torch.randn(2, size, size).bfloat16()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        for _ in range(4):
            a @ b
        times.append((time.process_time() - start) / 4)
    return 2 * size**3 / statistics.median(times)


def nano_lengths(clips: int = 4000) -> list[float]:
    """Seconds of clips whose lengths lie like those of nano's corpus: 3 s on average, from 0.5 to 12 s."""
    lengths = np.random.default_rng(0).lognormal(mean=0.83, sigma=0.62, size=clips)
    return np.clip(lengths, 0.5, 12.4).tolist()


def build(name: str, corpus: ImaginedCorpus, folder: Path, steps: int) -> tuple[Task, Any]:
    """A stage by its recipe, in its last and costliest phase, and how it is trained."""
    name, _, content = name.partition(" ")
    config = CONFIGS / f"{name}.yaml"
    values = read_config_file(config) | {"run": str(folder), "features": str(corpus.features)}
    values |= {key: str(getattr(corpus, key)) for key in ("codes", "text") if key in values}
    values["loop"] |= QUIET | {"steps": steps, "evaluate_every": 10**9, "checkpoint_every": 10**9}
    if name == "vocoder":
        values["stage"] |= {"discriminator_start": 0}
    if "pairs" in values:
        values["pairs"].pop("voices", None)
    run = from_mapping(RUNS[name], values, where=str(config))
    if content:
        with torch.device("meta"):
            decoder = Autoregressive(run.decoder_network)  # type: ignore[attr-defined]
        folder.mkdir(parents=True)
        decoder_path = imagine_weights(folder / "decoder.safetensors", decoder.state_dict())
        stage_config = dataclasses.replace(run.stage, content=content)  # type: ignore[attr-defined]
        run = dataclasses.replace(run, stage=stage_config, decoder=decoder_path)  # type: ignore[call-arg]
    torch.manual_seed(run.loop.seed)
    stage = run.build()
    start_code_book(stage)
    return stage, run.loop


def measure(name: str, corpus: ImaginedCorpus, folder: Path, steps: int) -> tuple[float, float]:
    """Audio seconds a second, and FLOP/s, of the steps after the first."""
    audio: list[float] = []
    operations: list[int] = []
    stage, loop = build(name, corpus, folder / "counted", steps + 1)
    with FlopCounter() as counter:
        train(stage, loop, folder / "counted", lambda: operations.append(counter.total), audio)
    times: list[float] = []
    stage, loop = build(name, corpus, folder / "timed", steps + 1)
    train(stage, loop, folder / "timed", lambda: times.append(time.process_time()), [])
    took = times[steps] - times[0]
    return sum(audio[1 : steps + 1]) / took, (operations[steps] - operations[0]) / took


def train(stage: Task, loop: Any, folder: Path, after_step: Callable[[], None], audio: list[float]) -> None:
    """Train; ``after_step`` is called after each step, ``audio`` gets the seconds of each batch."""
    load = stage.data.load

    def part(step: int, rows: slice) -> Any:
        made = load(step, rows)
        audio.append(audio_seconds(made))
        return made

    stage.data.load = part  # type: ignore[method-assign]
    stage.evaluate = dict  # type: ignore[method-assign]  # nothing is held out
    Trainer(stage, loop, folder, lambda *_: after_step()).run(resume=False)


def table_of_operations(name: str, corpus: ImaginedCorpus, folder: Path, rows: int = 16) -> str:
    """Where the time of two steps goes."""
    stage, loop = build(name, corpus, folder, 3)
    profiler = profile(activities=[ProfilerActivity.CPU])
    steps: list[int] = []

    def after_step() -> None:
        steps.append(1)
        if len(steps) == 1:
            profiler.start()
        elif len(steps) == 3:
            profiler.stop()

    train(stage, loop, folder, after_step, [])
    return f"\n{name}, two steps\n" + profiler.key_averages().table("self_cpu_time_total", row_limit=rows)


# ---- memory -------------------------------------------------------------------------------------------------------


def report_memory() -> None:
    print("| run | foretold, MB | measured, MB | ratio |\n|---|---|---|---|")
    for name, overrides in MEMORY_RUNS:
        foretold, measured = foretold_memory(name, overrides), measured_memory(name, overrides)
        what = f"{name} {' '.join(overrides)}"
        print(f"| {what} | {foretold / 1e6:.0f} | {measured / 1e6:.0f} | {foretold / measured:.2f} |", flush=True)


def foretold_memory(name: str, overrides: tuple[str, ...]) -> int:
    """Bytes that the planner foretells for a process on this machine."""
    run = from_mapping(RUNS[name], read_config_file(CONFIGS / f"{name}.yaml", overrides))
    return memory_of(rehearse(run, CLIP_SECONDS, fused=False), run.loop, Machine(0, 1e12, 1e12)).total


def measured_memory(name: str, overrides: tuple[str, ...]) -> int:
    """Bytes by which a process of its own grows that trains three steps."""
    given_back = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # what is freed is gone
    command = [sys.executable, __file__, "--train", name, *overrides]
    done = subprocess.run(command, env=os.environ | given_back, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def train_once(name: str, overrides: list[str]) -> int:
    """Train, and say by how many bytes this process grew beyond what it was after a step of one or two rows."""
    small = [*overrides, "pairs.budget=1" if any("pairs" in o for o in overrides) else "stage.rows=2"]
    with tempfile.TemporaryDirectory() as folder:
        _peak_of(name, small, Path(folder) / "small")
        gc.collect()
        before = _resident()
        return _peak_of(name, overrides, Path(folder) / "large") - before


def _peak_of(name: str, overrides: list[str], folder: Path) -> int:
    folder.mkdir()
    run = from_mapping(RUNS[name], read_config_file(CONFIGS / f"{name}.yaml", overrides))
    run = imagined_settings(run, folder, CLIP_SECONDS)
    stage = run.build()
    start_code_book(stage)
    stage.evaluate = dict  # type: ignore[method-assign]
    peaks: list[int] = []
    loop = dataclasses.replace(run.loop, steps=3, warmup=0, **QUIET)
    Trainer(stage, loop, folder / "run", lambda *_: peaks.append(_peak())).run(resume=False)
    return peaks[-1]


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
