"""How fast batches are made, against what each task's step consumes and what one H100 would need.

    OMP_NUM_THREADS=1 python benchmarks/loader.py [--tasks autoregressive,vocoder] [--seconds 10] [--published]

A corpus of noise with the lengths and texts of speech is laid out as a feature folder and as shards. For each task:
CPU seconds of a batch, measured in this process; batches a second from 1, 2 and 4 workers, by the clock, so that
nothing else should run meanwhile; FLOPs of a step, forward and backward, counted by torch. An H100 is taken to reach
40 % of its 989 TFLOP/s in bfloat16 and to start an operation each 5 microseconds, whichever is slower; "cores for it"
is how many workers on cores like these keep it busy. With --published, what one of 8 ranks does of the published batch.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from chelys.audio.rates import MEL_22K, MEL_24K, MelSpec
from chelys.config import from_mapping
from chelys.configs import read_yaml
from chelys.data.dataset import Features
from chelys.data.features import extract
from chelys.data.loader import StepLoader
from chelys.data.manifest import Utterance, write_manifest
from chelys.machine import available_cores
from chelys.tortoise.tokenizer import make_tortoise_tokenizer
from chelys.training.task import map_tensors, tensors_of
from chelys.training.tasks import RUNS
from chelys.training.trainer import StepBatches

CONFIGS = Path(str(resources.files("chelys"))) / "configs"
NANO = ("dvae", "autoregressive", "clvp", "diffusion", "vocoder")
PUBLISHED = ("autoregressive", "clvp")
H100 = 0.4 * 989e12  # FLOP/s
LAUNCH = 5e-6  # seconds
SENTENCE = "the tortoise crossed the road without hurry while the hare slept beneath a tree "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(NANO), help="names with commas between")
    parser.add_argument("--seconds", type=float, default=8.0, help="to measure each number of workers for")
    parser.add_argument("--published", action="store_true", help="the published sizes too: takes 6 GB and some minutes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| task | data | CPU s a batch | batches/s, 1 worker | 2 | 4 | TFLOP a step | H100 steps/s | cores for it |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        corpus, shards = make_corpus(Path(folder), 400)
        for name in options.tasks.split(","):
            for what, data in (("features", corpus), ("shards", shards)):
                report(f"nano {name}", what, build("nano", name, data, Path(folder)), 1, options.seconds)
        if options.published:
            published = make_features(Path(folder) / "published", 6000, MEL_22K)
            for name in PUBLISHED:
                report(f"published {name}", "features", build("tortoise_v2", name, published, Path(folder)), 8, 30)


def report(name: str, what: str, task: Any, world: int, seconds: float) -> None:
    """Measure and print a row of the table."""
    load = StepBatches(task.data, 0, world, 1)
    if cache := getattr(task.data, "pitch", None):
        cache.fill(workers=available_cores())  # once for all runs
    load(0)  # files are opened
    began, step = time.process_time(), 0
    while step < 2 or (time.process_time() - began < seconds / 2 and step < 40):
        step += 1
        load(step)
    cpu = (time.process_time() - began) / step
    rates = [throughput(load, workers, seconds) for workers in (1, 2, 4)]
    flops, operations = count(task, load(0)[1][0])
    needed = 1 / max(flops / H100, operations * LAUNCH)
    print(
        f"| {name} | {what} | {cpu:.4f} | " + " | ".join(f"{rate:.1f}" for rate in rates)
        + f" | {flops / 1e12:.3g} | {needed:.3g} | {cpu * needed:.1f} |", flush=True,
    )  # fmt: skip


def throughput(load: Any, workers: int, seconds: float) -> float:
    """Batches a second by the clock, those not counted that were made before the first was asked for."""
    batches = iter(StepLoader(load, 0, 10**6, workers=workers))
    for _ in range(3 * workers):
        next(batches)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        next(batches)
        count += 1
    return count / (time.perf_counter() - began)


class CountOperations(TorchDispatchMode):
    """Counts what is started on the device; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += not func.is_view
        return func(*args, **(kwargs or {}))


def count(task: Any, batch: Any) -> tuple[float, int]:
    """FLOPs and operations of a step of all of a task's modules; of a large batch four rows are run, and multiplied."""
    rows = len(next(iter(tensors_of(batch).values())))
    large = rows > 64
    some = map_tensors(batch, lambda tensor: tensor[:4]) if large else batch
    flops, operations = 0.0, 0
    for name, module in task.modules.items():
        module.train()
        with FlopCounterMode(display=False) as counter, CountOperations() as counted:
            losses = task.training_step(name, some, torch.Generator().manual_seed(1))
            if losses and not large:
                torch.stack([loss.float() for loss in losses.values()]).sum().backward()
        factor = 3 if large else 1  # backward is twice forward
        flops += counter.get_total_flops() * factor * (rows / 4 if large else 1)
        operations += counted.operations * factor
        module.zero_grad()
    return flops, operations


def build(family: str, name: str, data: dict[str, str], folder: Path) -> Any:
    """A task by its recipe, in its last and costliest phase."""
    values = read_yaml(CONFIGS / family / f"{name}.yaml") | {"run": str(folder / "run")}
    values |= {key: value for key, value in data.items() if key in values}
    if "pairs" in values:
        values["pairs"].pop("voices", None)
    if name == "vocoder":
        values["stage"].pop("voices", None)
        values["stage"]["discriminator_start"] = 0
    torch.manual_seed(1)
    return from_mapping(RUNS[name], values).build()


def make_corpus(folder: Path, clips: int) -> tuple[dict[str, str], dict[str, str]]:
    """Clips with the lengths of nano's corpus, as features and as shards: paths by their keys in a configuration."""
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.normal(size=13 * MEL_24K.sample_rate) * np.abs(np.sin(np.arange(13 * MEL_24K.sample_rate) / 4000))
    (folder / "audio").mkdir()
    (folder / "shards").mkdir()
    utterances = []
    for number, seconds in enumerate(np.clip(rng.lognormal(0.83, 0.62, clips), 0.6, 12.4).tolist()):
        count = round(seconds * MEL_24K.sample_rate)
        sf.write(folder / "audio" / f"{number}.flac", noise[number : number + count], MEL_24K.sample_rate)
        text = (SENTENCE * 3)[: max(4, round(14 * seconds))]
        utterances.append(Utterance(f"{number}", f"audio/{number}.flac", text, f"v{number % 8}", seconds))
    write_manifest(folder / "manifest.jsonl", utterances)
    extract([folder / "manifest.jsonl"], folder / "features", workers=1)
    features = Features(folder / "features")
    codes = rng.integers(1024, size=len(features.frames) // 4).astype(np.uint16)
    np.save(folder / "codes.npy", codes)
    frames = {clip.id: clip for clip in features.clips}
    for shard in range(4):
        with tarfile.open(folder / "shards" / f"{shard:06d}.tar", "w") as tar:
            for utterance in utterances[shard::4]:
                clip = frames.get(utterance.id)
                if clip is None:
                    continue
                npy = io.BytesIO()
                np.save(npy, codes[clip.first // 4 : clip.first // 4 + clip.codes])
                about = {"id": clip.id, "text": clip.text, "speaker": clip.speaker, "seconds": utterance.seconds}
                flac = (folder / utterance.audio).read_bytes()
                for suffix, content in (
                    ("codes.npy", npy.getvalue()), ("flac", flac), ("json", json.dumps(about).encode())
                ):  # fmt: skip
                    info = tarfile.TarInfo(f"{clip.id}.{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    text = str(resources.files("chelys") / "assets" / "nano")
    made = {"features": str(folder / "features"), "codes": str(folder / "codes.npy"), "text": text}
    return made, {"features": str(folder / "shards"), "codes": str(folder / "shards"), "text": text}


def make_features(folder: Path, clips: int, spec: MelSpec) -> dict[str, str]:
    """Features and codes of clips of 2 to 13 s without their sound, for the published sizes."""
    folder.mkdir()
    (folder / "features").mkdir()
    rng = np.random.default_rng(1)
    first = 0
    with (folder / "features" / "index.jsonl").open("w") as lines:
        for number, seconds in enumerate(rng.uniform(2, 12.9, clips).tolist()):
            frames = int(seconds * spec.sample_rate / 1024) * 4
            text = (SENTENCE * 3)[: round(14 * seconds)]
            clip = {
                "id": f"{number}",
                "audio": "",
                "text": text,
                "speaker": f"v{number % 97}",
                "first": first,
                "frames": frames,
            }
            lines.write(json.dumps(clip) + "\n")
            first += frames
    mels = np.memmap(folder / "features" / "mel.f16", np.float16, "w+", shape=(first, spec.bands))
    for at in range(0, first, 100_000):
        mels[at : at + 100_000] = rng.normal(size=mels[at : at + 100_000].shape)
    mels.flush()
    statistics = {"mean": 0.0, "std": 1.0, "hours": 0.0, "bands": spec.bands}
    (folder / "features" / "statistics.json").write_text(json.dumps(statistics))
    np.save(folder / "codes.npy", rng.integers(8000, size=first // 4).astype(np.uint16))
    make_tortoise_tokenizer().save(folder / "text")
    paths = {"features": folder / "features", "codes": folder / "codes.npy", "text": folder / "text"}
    return {key: str(path) for key, path in paths.items()}


if __name__ == "__main__":
    main()
