"""How fast training can read shards: seconds of speech in a second, by what is read and by how many workers.

python benchmarks/shards.py [--shards FOLDER] [--clips 3000] [--seconds 10]
python benchmarks/shards.py --steps 8      # instead: what the batches of nano's stages cost beside their steps

Without --shards a set is made of noise with the loudness of speech, which FLAC packs worse than speech: the figures
are on the safe side. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import tarfile
import tempfile
import time
from importlib import resources
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

from chelys.audio.mel import log_mel
from chelys.audio.rates import MEL_24K
from chelys.config import from_mapping, read_yaml
from chelys.data.shard_index import ShardIndex, open_shards
from chelys.data.shards import Plan, Prepare, Sample, ShardConfig, ShardLoader
from chelys.training.runs import RUNS

RATE = MEL_24K.sample_rate
CLIPS_IN_A_SHARD = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, help="shards to read; default: a set that is made")
    parser.add_argument("--clips", type=int, default=3000, help="clips of the set that is made")
    parser.add_argument("--seconds", type=float, default=10.0, help="to measure each row for")
    parser.add_argument("--steps", type=int, default=0, help="steps of each of nano's stages to compare with")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.shards or make(Path(made), arguments.clips)
        if arguments.steps:
            beside_training(folder, arguments.steps)
            return
        began = time.perf_counter()
        index = open_shards(folder)
        first = time.perf_counter() - began
        began = time.perf_counter()
        open_shards(folder)
        again = time.perf_counter() - began
        hours = float(index.entries["seconds"].sum()) / 3600
        print(f"{len(index)} clips, {hours:.2f} h in {len(index.shards)} shards")
        print(f"index made in {first:.2f} s ({len(index) / first:.0f} clips/s), read in {again:.3f} s\n")
        print("| what is read | workers | speech s/s | clips/s | CPU s an hour of speech |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for what, prepare in (("codes and text", codes), ("sound", sound), ("sound to log-mels", mels)):
            for workers in (0, 1, 2):
                speech, clips, cpu = measure(index, prepare, workers, arguments.seconds)
                spent = "" if workers else f"{3600 * cpu:.1f}"
                print(f"| {what} | {workers} | {speech:.0f} | {clips:.0f} | {spent} |", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nlargest memory of the main process: {peak:.0f} MB")


def make(folder: Path, clips: int) -> Path:
    """Shards of clips of 1 to 9 s, as 'chelys data prepare' packs them."""
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.normal(size=10 * RATE) * np.abs(np.sin(np.arange(10 * RATE) / 4000))).astype(np.float32)
    for first in range(0, clips, CLIPS_IN_A_SHARD):
        with tarfile.open(folder / f"{first // CLIPS_IN_A_SHARD:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(first, min(first + CLIPS_IN_A_SHARD, clips)):
                seconds = float(rng.uniform(1, 9))
                flac, npy = io.BytesIO(), io.BytesIO()
                sf.write(flac, noise[: round(seconds * RATE)], RATE, format="FLAC")
                np.save(npy, rng.integers(1024, size=round(seconds * RATE / 1024)).astype(np.uint16))
                about = {
                    "id": f"clip-{number:07d}",
                    "text": "Nothing but noise.",
                    "speaker": "noise",
                    "seconds": seconds,
                }
                data = json.dumps(about).encode()
                for suffix, content in ("flac", flac.getvalue()), ("codes.npy", npy.getvalue()), ("json", data):
                    info = tarfile.TarInfo(f"clip-{number:07d}.{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return folder


def measure(index: ShardIndex, prepare: Prepare, workers: int, seconds: float) -> tuple[float, float, float]:
    """Seconds of speech and clips in a second, from the first batch on; CPU seconds of this process for a second."""
    wanted = frozenset({"codes.npy"}) if prepare is codes else frozenset({"flac"})
    loader = ShardLoader(Plan(index, ShardConfig(), seed=1), workers=workers, prepare=prepare, wanted=wanted)
    speech = clips = 0.0
    began, worked = None, 0.0
    for batch in loader:
        if began is None:
            began, worked = time.perf_counter(), time.process_time()
            continue
        speech += sum(float(sample[0]) for sample in batch.samples)
        clips += len(batch.samples)
        if (passed := time.perf_counter() - began) > seconds:
            return speech / passed, clips / passed, (time.process_time() - worked) / speech
    raise AssertionError("batches never end")


def beside_training(folder: Path, steps: int) -> None:
    """CPU seconds of a batch made of shards, and of the step that is done with it, at the sizes of nano."""
    configs, text = Path(__file__).parents[1] / "configs" / "nano", resources.files("chelys") / "assets" / "nano"
    print("| stage | batch, CPU s | step, CPU s | share of reading |")
    print("| --- | ---: | ---: | ---: |")
    for name in ("dvae", "autoregressive", "clvp", "diffusion", "vocoder"):
        values = read_yaml(configs / f"{name}.yaml") | {"features": str(folder)}
        if "pairs" in values:
            values |= {"codes": str(folder), "text": str(text)}
            values["pairs"].pop("voices", None)
        stage = from_mapping(RUNS[name], values).build()
        generator, read, worked = torch.Generator().manual_seed(1), 0.0, 0.0
        for step in range(steps):
            began = time.process_time()
            batch = stage.batch(step)
            loaded = time.process_time()
            for player, module in stage.players.items():
                module.zero_grad()
                if losses := stage.losses(player, batch, generator):
                    torch.stack(list(losses.values())).sum().backward()
            read, worked = read + loaded - began, worked + time.process_time() - loaded
        print(
            f"| {name} | {read / steps:.2f} | {worked / steps:.2f} | {100 * read / (read + worked):.0f} % |", flush=True
        )


def codes(sample: Sample) -> tuple[float, torch.Tensor]:
    """What the autoregressive decoder reads."""
    assert sample.codes is not None
    return sample.about["seconds"], torch.from_numpy(sample.codes.astype(np.int64))


def sound(sample: Sample) -> tuple[float, torch.Tensor]:
    """What the vocoder reads."""
    assert sample.audio is not None
    return sample.about["seconds"], torch.from_numpy(sample.audio)


def mels(sample: Sample) -> tuple[float, torch.Tensor]:
    """What the diffusion decoder and the VQ-VAE read."""
    assert sample.audio is not None
    return sample.about["seconds"], log_mel(torch.from_numpy(sample.audio)[None], MEL_24K)[0]


if __name__ == "__main__":
    main()
