"""Kill a short training run at random moments, resume it each time, and compare its end with an undisturbed run's.

    python benchmarks/resume_kills.py [--kills 50] [--steps 600] [--stage dvae|autoregressive] [--seed 1]

Each life of the run is a process of its own, ended by SIGKILL after a random time: while it starts, within a step,
while it writes a log line or a checkpoint. The table says how far each life came and what it left behind; at the end
weights, averages, the optimisers' state and the log are compared bit for bit. Exit status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # noqa: F401  # the first optimiser would import it: once here, rather than in every life
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import toy_corpus  # noqa: E402

from chelys.training.trainer import run_stage  # noqa: E402

CHECKPOINT_EVERY = 4
NETWORKS: dict[str, dict[str, Any]] = {
    "dvae": {"tokens": 16, "code_width": 4, "hidden": 16, "residual_blocks": 1},
    "autoregressive": {
        "text_tokens": toy_corpus.tokenizer().vocabulary_size, "codes": 16, "dim": 32, "layers": 2, "heads": 2,
        "conditioning_blocks": 1, "dropout": 0.1,
    },
}  # fmt: skip


def configure(folder: Path, stage: str, steps: int) -> Path:
    """Write the configuration of the run; all of it is small, so that a step takes milliseconds."""
    toy = toy_corpus.make(folder / "corpus")
    loop = {
        "steps": steps, "warmup": 20, "threads": 1, "log_every": 1, "evaluate_every": 25, "pictures": False,
        "tensorboard": False, "checkpoint_every": CHECKPOINT_EVERY, "learning_rate": 2e-3,
    }  # fmt: skip
    values: dict[str, Any] = {
        "run": "unset", "network": NETWORKS[stage], "loop": loop, "features": str(toy.features),
        "mel_range": {"low": toy_corpus.MEL_RANGE.low, "high": toy_corpus.MEL_RANGE.high},
    }  # fmt: skip
    if stage == "dvae":
        values["stage"] = {"rows": 4, "frames": 48, "start_at": 20, "revive_every": 5}
    else:
        values |= toy.paths() | {"pairs": {"budget": 120, "reference_frames": 32}}
    path = folder / "run.yaml"
    path.write_text(json.dumps(values))  # JSON is YAML
    return path


def start(stage: str, config: Path, run: Path) -> int:
    """Start a life of the run in a process of its own; returns its number."""
    child = os.fork()
    if child:
        return child
    try:
        run_stage(stage, config, [f"run={run}"])
        os._exit(0)
    except BaseException as error:  # whatever it is, it must not go on as a second parent
        print(f"the run ended by itself: {error!r}", file=sys.stderr)
        os._exit(1)


def survived(child: int, seconds: float) -> bool:
    """Wait, then kill; whether the run came to its end before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise SystemExit(f"the run failed by itself, status {status}")
            return True
        time.sleep(min(0.001, max(0.0, deadline - time.monotonic())))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def newest(run: Path) -> int:
    """Step of the newest checkpoint."""
    return max((int(path.stem) for path in run.glob("checkpoints/*.safetensors")), default=0)


def remains(run: Path) -> str:
    """What a killed life left half-written."""
    found = [str(path.relative_to(run)) for path in sorted(run.rglob("*.part"))]
    log = run / "log.jsonl"
    if log.exists() and not log.read_bytes().endswith(b"\n") and log.stat().st_size:
        found.append("a torn line of the log")
    return ", ".join(found) or "-"


def lines(run: Path) -> list[dict[str, Any]]:
    """The log without what the clock says."""
    read = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "seconds_per_step"} for line in read]


def last_step(run: Path) -> int:
    """Step of the last whole line of the log."""
    log = run / "log.jsonl"
    whole = log.read_text().rpartition("\n")[0].splitlines() if log.exists() else []
    return json.loads(whole[-1])["step"] if whole else 0


def bits(path: Path) -> dict[str, bytes]:
    """Tensors of a file as bytes."""
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--stage", choices=sorted(NETWORKS), default="dvae")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    chance = random.Random(wanted.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = configure(folder, wanted.stage, wanted.steps)
        whole, killed = folder / "whole", folder / "killed"
        began = time.monotonic()
        child = start(wanted.stage, config, whole)
        while not last_step(whole):
            time.sleep(0.001)
        starting = time.monotonic() - began
        assert survived(child, 3600)
        working = time.monotonic() - began - starting
        times = f"{starting:.2f} s to start and {working:.1f} s to train"
        print(f"{wanted.stage}: {wanted.steps} steps undisturbed took {times}\n")
        print(f"{'kill':>4} {'after s':>8} {'from step':>9} {'to step':>7}  left half-written")
        ended = False
        for kill in range(1, wanted.kills + 1):
            before = newest(killed)
            life = chance.uniform(0.5 * starting, 1.1 * starting + 1.8 * working / wanted.kills)
            ended = survived(start(wanted.stage, config, killed), life)
            if ended:
                print(f"the run ended before kill {kill}: give more --steps")
                return 1
            print(f"{kill:>4} {life:>8.3f} {before:>9} {last_step(killed):>7}  {remains(killed)}")
        assert survived(start(wanted.stage, config, killed), 3600)
        weights = bits(whole / f"{wanted.stage}.safetensors") == bits(killed / f"{wanted.stage}.safetensors")
        checkpoint = Path("checkpoints") / f"{wanted.steps:09d}.safetensors"
        state = bits(whole / checkpoint) == bits(killed / checkpoint)
        log = lines(whole) == lines(killed)
        print(f"\nafter {wanted.kills} kills: weights {_said(weights)}, optimisers {_said(state)}, log {_said(log)}")
        return 0 if weights and state and log else 1


def _said(same: bool) -> str:
    return "the same bit for bit" if same else "DIFFERENT"


if __name__ == "__main__":
    sys.exit(main())
