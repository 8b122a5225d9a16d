"""Two processes train as one does: the same losses, the same weights, whatever the stage."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import chelys
from chelys.errors import ConfigError
from chelys.training.distributed import MicroBatches
from chelys.training.run_stage import run_stage
from chelys.training.tasks import RUNS

pytest.importorskip("accelerate")

#: Enough steps for a code book to start and move, dead codes to be revived, discriminators to join.
LOOP: dict[str, Any] = {
    "steps": 4, "warmup": 0, "schedule": "constant", "learning_rate": 2e-4, "max_grad_norm": 0.5,
    "evaluate_every": 4, "checkpoint_every": 2,
}  # fmt: skip
SECTIONS: dict[str, dict[str, Any]] = {
    "dvae": {"stage": {"start_at": 1, "revive_every": 1, "rows": 5}, "network": {"decay": 0.1}},
    "vocoder": {"stage": {"discriminator_start": 1, "rows": 3}},
    "clvp": {"pairs": {"budget": 300}, "stage": {"corrupted_texts": 2, "corrupted_speech": 1}},
    # the slope of an absolute distance turns round where rounding decides which of two mels is louder
    "hifigan": {"stage": {"mel": 1e-3}, "loop": {"learning_rate": 2e-5}},
    "detector": {"loop": {"learning_rate": 2e-5}},  # its norms amplify what little two orders of adding differ by
}
STAGES = list(RUNS)


class Torchrun:
    """Starts processes and says what they told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, jobs: list[tuple[str, Path, list[str]]], processes: int = 2) -> str:
        plan = self.folder / "jobs.json"
        plan.write_text(json.dumps([[stage, str(path), overrides] for stage, path, overrides in jobs]))
        path = os.pathsep.join([str(Path(chelys.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
            str(Path(__file__).with_name("worker.py")), str(plan),
        ]  # fmt: skip
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-6000:]
        return done.stderr


@pytest.fixture
def torchrun(tmp_path: Path) -> Torchrun:
    return Torchrun(tmp_path)


def configured(config_file: Callable[..., Path], stage: str, folder: Path) -> Path:
    sections = SECTIONS.get(stage, {})
    path = config_file(stage, **sections | {"loop": LOOP | sections.get("loop", {})})
    return path.rename(folder / f"{stage}.{len(list(folder.iterdir()))}.yaml")


def read_log(run: Path, steps: int) -> list[dict[str, float]]:
    """The log of so many steps, without what the clock says, and the evaluation after the last."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    trained = [{k: v for k, v in line.items() if k != "seconds_per_step"} for line in lines if "learning_rate" in line]
    return [
        *trained[:steps],
        *(line for line in lines if "learning_rate" not in line and line["step"] == steps == len(trained)),
    ]


def assert_alike(one: Path, two: Path, stage: str, steps: int = 4) -> None:
    """Two runs have the same curve, the same weights and the same state of their optimisers after so many steps."""
    network = stage.split()[-1]
    # two networks that train against each other make more of rounding at each step, above all where phase is judged;
    # how much differs between processors
    near = 1e-4 if network in ("vocoder", "hifigan") else 1e-5
    for line, other in zip(read_log(one, steps), read_log(two, steps), strict=steps == LOOP["steps"]):
        assert line.keys() == other.keys()
        for name, value in line.items():
            assert other[name] == pytest.approx(value, rel=near, abs=near), f"{stage}: {name} of step {line['step']}"
    whole, parts = (load_file(run / "checkpoints" / f"{steps:09d}.safetensors") for run in (one, two))
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        kind, _, parameter = name.partition(".")
        squares = f"optimizer.{network}.{parameter}" if kind == "ema" else name.replace("module", "optimizer", 1)
        gradient = whole.get(f"{squares}.exp_avg_sq", torch.tensor(0.0)).sqrt()
        # AdamW makes steps even of what is nothing but rounding, the gradient of a bias before a norm for instance
        told = ((gradient == 0) | (gradient > 1e-7)).expand_as(tensor)
        message = lambda found, name=name: f"{stage}: {name}: {found}"  # noqa: E731
        torch.testing.assert_close(parts[name][told], tensor[told], rtol=near, atol=near, msg=message)


def test_two_processes_train_as_one_does(config_file: Callable[..., Path], torchrun: Torchrun, tmp_path: Path) -> None:
    configs = {stage: configured(config_file, stage, tmp_path) for stage in STAGES}
    for stage, config in configs.items():
        run_stage(stage, config, [f"run={tmp_path / 'one' / stage}"])
    for strategy, steps in (("ddp", 4), ("fsdp", 2)):
        chosen = [f"loop.strategy={strategy}", f"loop.steps={steps}"]
        torchrun([(stage, path, [f"run={tmp_path / strategy / stage}", *chosen]) for stage, path in configs.items()])
        for stage in STAGES:
            assert_alike(tmp_path / "one" / stage, tmp_path / strategy / stage, f"{strategy}: {stage}", steps)


def test_the_number_of_processes_may_change(
    config_file: Callable[..., Path], torchrun: Torchrun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_file("dvae", **SECTIONS["dvae"], loop=LOOP)
    whole = run_stage("dvae", config, [f"run={tmp_path / 'one' / 'dvae'}"])
    parts = tmp_path / "parts" / "dvae"
    run_stage("dvae", config, [f"run={parts}", "loop.steps=2"])
    told = torchrun([("dvae", config, [f"run={parts}", "loop.steps=3", "loop.strategy=fsdp"])])
    assert told.count("dvae goes on with 2 processes, before there were 1: the batch of each step stays the same") == 1
    with caplog.at_level(logging.WARNING):
        again = run_stage("dvae", config, [f"run={parts}"])
    assert "dvae goes on with 1 processes, before there were 2" in caplog.text
    assert again != whole
    assert_alike(whole.parent, parts, "dvae")


# ---- shares ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "world", "steps"), [(8, 2, 1), (7, 3, 2), (5, 2, 4), (16, 4, 3), (3, 1, 9)])
def test_every_row_is_computed_once(rows: int, world: int, steps: int) -> None:
    shares = [MicroBatches.of(rows, rank, world, steps) for rank in range(world)]
    assert [row for share in shares for part in share.rows for row in part] == list(range(rows))
    assert len({len(share.rows) for share in shares}) == 1, "all have as many parts: they meet in each"
    assert all(len(part) > 0 for share in shares for part in share.rows)
    assert all(len(share.rows) <= steps and share.split == (world > 1) for share in shares)


def test_a_batch_of_fewer_rows_than_processes_is_computed_by_all() -> None:
    assert MicroBatches.of(2, 1, 3, 1) == MicroBatches([range(0, 2)], split=False)


# ---- parts one after another ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["dvae", "vocoder", "autoregressive", "diffusion"])
def test_parts_of_a_batch_add_up_to_the_whole(config_file: Callable[..., Path], tmp_path: Path, stage: str) -> None:
    config = configured(config_file, stage, tmp_path)
    for name, parts in (("whole", 1), ("parts", 3)):
        run_stage(stage, config, [f"run={tmp_path / name / stage}", f"loop.grad_accum_steps={parts}"])
    assert_alike(tmp_path / "whole" / stage, tmp_path / "parts" / stage, stage)


# ---- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "overrides", "environment", "complaint"),
    [
        ("clvp", ["loop.grad_accum_steps=2"], {}, "loop.grad_accum_steps is 2, but clvp compares every row"),
        ("dvae", ["loop.strategy=single"], {"WORLD_SIZE": "2"}, "torchrun started 2 processes: say loop.strategy=ddp"),
        ("dvae", ["loop.strategy=fsdp"], {}, "start with 'torchrun"),
        ("dvae", ["loop.device=cuda"], {}, "torch finds no GPU here: say loop.device=cpu"),
    ],
)
def test_what_does_not_go_together(
    config_file: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    overrides: list[str],
    environment: dict[str, str],
    complaint: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        run_stage(stage, config_file(stage), overrides)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)
