"""Two real steps of every stage at the published sizes, one after the other, or what they would need.

    python benchmarks/full_size_steps.py [--stages dvae,clvp] [--threads 1]

Each stage is built from its file `tortoise_v2/NAME`, with batches of one to four rows, and takes two steps of
forward, backward, clipping, AdamW and averaging in float32, in a process of its own. A stage that needs more memory
than is free is not begun; its weights and its need are printed instead. The corpus is a dozen clips of filtered noise,
laid out in both mel specs; weights are fresh, those of frozen networks too.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch
from safetensors.torch import save_file

from chelys.audio.rates import FRAMES_PER_CODE
from chelys.config import from_mapping
from chelys.configs import read_config_file
from chelys.data.dataset import Features
from chelys.data.features import extract
from chelys.data.manifest import Utterance, write_manifest
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.diffusion import Diffusion, DiffusionConfig
from chelys.tortoise.tokenizer import make_tortoise_tokenizer
from chelys.training.tasks import RUNS
from chelys.training.trainer import StepBatches, Trainer

ROOT = Path(__file__).parents[1]
#: Configurations of tortoise_v2, with what makes their batches small.
STAGES: dict[str, list[str]] = {
    "dvae": ["stage.rows=4", "stage.start=random"],
    "autoregressive": ["pairs.budget=130", "stage.voice_clips=2"],
    "clvp": ["pairs.budget=130"],
    "cvvp": ["pairs.budget=250", "stage.spare_speaker=false"],
    "diffusion": ["pairs.budget=70", "stage.crop=64"],
    "diffusion_latents": ["pairs.budget=70", "stage.crop=64"],
    "vocoder": ["stage.rows=1", "stage.frames=32"],
    "hifigan": ["pairs.budget=70"],
    "autoregressive_prior": ["stage.rows=4"],
    "diffusion_prior": ["stage.rows=4"],
    "detector": ["stage.rows=2", "stage.samples=49152"],
}
CODES = 8192
#: Bytes a weight: itself, its gradient, two moments, its average; and what a tiny batch and the rest may take.
BYTES_A_WEIGHT, SLACK = 20, 3 << 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", default=",".join(STAGES), help="names with commas between")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", nargs=2, metavar=("STAGE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(take_steps(options.child[0], Path(options.child[1]), options.threads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder))
        print(f"{'stage':22}{'weights':>14}{'frozen':>14}{'s a step':>10}{'peak GB':>9}  losses of the second step")
        for stage in options.stages.split(","):
            command = [sys.executable, __file__, "--threads", str(options.threads), "--child", stage, folder]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{stage:22}failed: {done.stderr.strip().splitlines()[-1]}")
                continue
            print(line_of(stage, json.loads(done.stdout.splitlines()[-1])), flush=True)


def line_of(stage: str, found: dict[str, Any]) -> str:
    """What is printed of a stage."""
    start = f"{stage:22}{found['weights']:>14,}{found['frozen']:>14,}"
    if "losses" not in found:
        return f"{start}   not begun: it needs {found['needed']:.1f} GB, and {found['free']:.1f} GB are free"
    losses = ", ".join(f"{name} {value:.4g}" for name, value in found["losses"].items())
    return f"{start}{found['seconds']:>10.1f}{found['peak']:>9.1f}  {losses}"


def take_steps(name: str, folder: Path, threads: int) -> dict[str, Any]:
    """Build a stage and take two steps, if there is room."""
    stage_name = name.removesuffix("_latents")
    overrides = [*STAGES[name], "loop.grad_accum_steps=1"]
    values = read_config_file(Path(f"tortoise_v2/{name}"), overrides)
    place = {
        "run": folder / "run", "features": folder / "codes-features", "target_features": folder / "features",
        "codes": folder / "codes.npy", "text": folder / "text",
        "real": [folder / "manifest.jsonl"], "made": [folder / "manifest.jsonl"],
    }  # fmt: skip
    values |= {key: value for key, value in place.items() if key in values}
    if name in ("vocoder", "diffusion_prior"):
        values["features"] = folder / "features"
    values.pop("start", None)
    for key in ("decoder", "encoder"):
        if key in values:
            values[key] = frozen_weights(folder, "diffusion" if name == "diffusion_prior" else "autoregressive")
    values["loop"] |= {"steps": 2, "warmup": 0, "threads": threads, "precision": "float32", "device": "cpu"}
    if values["loop"].get("schedule") == "milestones":
        values["loop"] |= {"schedule": "constant", "milestones": ()}
    stage = from_mapping(RUNS[stage_name], values).build()
    found: dict[str, Any] = {
        "weights": sum(p.numel() for p in stage.network.parameters()),
        "frozen": sum(p.numel() for module in stage.frozen.values() for p in module.parameters()),
    }
    trained = sum(p.numel() for player in stage.modules.values() for p in player.parameters())
    needed, free = (BYTES_A_WEIGHT * trained + SLACK) / 1e9, available()
    if needed > free:
        return found | {"needed": needed, "free": free}
    trainer = Trainer(stage, stage_config(values), folder / "run")
    start = time.monotonic()
    for _ in range(2):
        figures = trainer._train_step(*StepBatches(stage.data, 0, 1, trainer.config.grad_accum_steps)(trainer.step))
        trainer.step += 1
    losses = {k: v for k, v in figures.items() if not k.endswith("grad_norm") and k != "learning_rate"}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return found | {"seconds": (time.monotonic() - start) / 2, "peak": peak, "losses": losses}


def stage_config(values: dict[str, Any]) -> Any:
    """The loop's part of a configuration."""
    from chelys.training.config import LoopConfig

    return from_mapping(LoopConfig, values["loop"])


def available() -> float:
    """GB that can be had without driving anything else out."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) * 1024 / 1e9
    return 0.0


def frozen_weights(folder: Path, kind: str) -> Path:
    """Fresh weights of a network that another stage listens to."""
    path = folder / f"{kind}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        made = (
            Diffusion(DiffusionConfig.tortoise_v2())
            if kind == "diffusion"
            else Autoregressive(AutoregressiveConfig.tortoise_v2())
        )
        save_file(made.state_dict(), path)
    return path


def lay_out(folder: Path) -> None:
    """A corpus of filtered noise, its features in both mel specs, random codes, the published tokenizer."""
    rng = np.random.default_rng(0)
    utterances = []
    for index in range(12):
        seconds = 2.7 + 0.02 * index
        noise = np.convolve(rng.standard_normal(int(seconds * 24_000)), np.hanning(9), "same")
        sf.write(folder / f"{index}.wav", (0.05 * noise).astype(np.float32), 24_000)
        text = "The tortoise crossed the road."
        utterances.append(Utterance(f"clip-{index}", f"{index}.wav", text, f"speaker-{index % 4}", seconds))
    write_manifest(folder / "manifest.jsonl", utterances)
    extract([folder / "manifest.jsonl"], folder / "features", workers=1)
    extract([folder / "manifest.jsonl"], folder / "codes-features", mel_spec="codes", workers=1)
    count = len(Features(folder / "codes-features").frames) // FRAMES_PER_CODE
    np.save(folder / "codes.npy", rng.integers(CODES, size=count).astype(np.uint16))
    make_tortoise_tokenizer().save(folder / "text")


if __name__ == "__main__":
    main()
