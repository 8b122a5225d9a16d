"""A run that is killed at any moment and started again ends as if nothing had happened, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import chelys
from chelys.training.run_stage import run_stage

STEPS, CHILD_STEPS = 60, 45
LOOP = {"steps": STEPS, "learning_rate": 3e-3, "evaluate_every": 9, "checkpoint_every": 7}
SECTIONS: dict[str, dict[str, Any]] = {
    "dvae": {"loop": LOOP, "stage": {"start_at": 10, "revive_every": 5}},
    "autoregressive": {"loop": LOOP | {"precision": "bfloat16", "data_workers": 2}, "network": {"dropout": 0.1}},
}

#: Trains; ``checkpoint`` as third argument: dies by its own hand with its first checkpoint half on the disk.
CHILD = f"""
import os, signal, sys, time
from pathlib import Path
import chelys.training.checkpoint as checkpoint
from chelys.training.run_stage import run_stage

stage, config, moment = sys.argv[1:]
whole = checkpoint.save_file

def half(tensors, path, metadata):
    whole(tensors, path, metadata=metadata)
    os.truncate(path, os.path.getsize(path) // 2)
    os.kill(os.getpid(), signal.SIGKILL)

if moment == "checkpoint":
    checkpoint.save_file = half

def progress(step, steps, metrics):
    time.sleep(600 if step >= {CHILD_STEPS} else 0.01)  # never comes to the end, however late it is killed

run_stage(stage, Path(config), progress=progress)
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a run in a process of its own."""
    children: list[subprocess.Popen] = []

    def make(stage: str, config: Path, moment: str) -> subprocess.Popen:
        path = os.pathsep.join([str(Path(chelys.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-c", CHILD, stage, str(config), moment]
        children.append(subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}))
        return children[-1]

    yield make
    for child in children:
        child.kill()
        child.wait()


def lines_of(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def kill_in_mid_step(child: subprocess.Popen, log: Path, chance: random.Random) -> None:
    """Wait until the log has grown to some length, then a moment more, then kill."""
    lines = lines_of(log) + chance.randrange(16, 30)  # past the code book's start and two checkpoints
    while lines_of(log) < lines:
        assert child.poll() is None, "the run ended before it was killed"
        time.sleep(0.002)
    time.sleep(chance.uniform(0.0, 0.03))
    child.kill()
    assert child.wait() == -signal.SIGKILL


def log_of(run: Path) -> list[dict[str, Any]]:
    """The log without what the clock says."""
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k != "seconds_per_step"} for line in lines]


def bits(path: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("stage", ["dvae", "autoregressive"])
def test_killed_and_resumed(
    config_file: Callable[..., Path], start: Callable[..., subprocess.Popen], tmp_path: Path, stage: str
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_stage(stage, config_file(stage, **SECTIONS[stage]), [f"run={whole}"])
    config = config_file(stage, **SECTIONS[stage], run=str(killed))

    chance = random.Random(stage)
    kill_in_mid_step(start(stage, config, "step"), killed / "log.jsonl", chance)
    reached = log_of(killed)[-1]["step"]
    assert 10 < reached <= CHILD_STEPS
    if stage == "autoregressive":
        assert start(stage, config, "checkpoint").wait() == -signal.SIGKILL
        assert list((killed / "checkpoints").glob("*.part")), "killed while it wrote"
    with (killed / "log.jsonl").open("a") as log:
        log.write('{"step": 31, "learning_rate": 0.0')  # a third death, in mid-line

    told: list[int] = []
    run_stage(stage, config, progress=lambda step, *_: told.append(step))
    assert 1 < told[0] <= reached + 1 and told[0] % 7 == 1, "from a checkpoint on, not from the start"
    assert log_of(killed) == log_of(whole)
    assert bits(killed / f"{stage}.safetensors") == bits(whole / f"{stage}.safetensors")
    last = Path("checkpoints") / f"{STEPS:09d}.safetensors"
    assert bits(killed / last) == bits(whole / last), "weights, averages and the state of the optimisers"
