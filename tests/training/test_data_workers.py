"""Batches that workers make ahead of time are those that the training process makes: same losses, same weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from chelys.training.trainer import run_stage


def log_of(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log without what the clock says."""
    return [json.loads(line) | {"seconds_per_step": 0} for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stage", ["dvae", "autoregressive", "clvp", "diffusion", "vocoder"])
def test_any_number_of_workers_trains_the_same(stage: str, config_file: Callable[..., Path], tmp_path: Path) -> None:
    logs, weights = [], []
    for workers in (0, 1, 3):
        loop: dict[str, Any] = {"steps": 7, "data_workers": workers, "grad_accum_steps": 1 if stage == "clvp" else 2}
        run = tmp_path / f"run-{workers}"
        weights.append(load_file(run_stage(stage, config_file(stage, run=str(run), loop=loop))))
        logs.append(log_of(run))
    assert logs[0] == logs[1] == logs[2]
    assert all(torch.equal(weights[0][name], other[name]) for other in weights for name in weights[0])
