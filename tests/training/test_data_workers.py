"""Batches that workers make ahead of time are those that the training process makes: same losses, same weights."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from toy_corpus import ToyCorpus

from chelys.training.run_stage import run_stage
from chelys.training.task import tensors_of
from chelys.training.tasks import RUNS


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


def test_workers_load_whole_clips(config_file: Callable[..., Path], toy: ToyCorpus, tmp_path: Path) -> None:
    logs = []
    for workers in (0, 2):
        config = config_file(
            "dvae", run=str(tmp_path / str(workers)), network={"text_tokens": 128}, text=str(toy.text),
            pairs={"budget": 120}, loop={"steps": 7, "data_workers": workers, "grad_accum_steps": 2},
        )  # fmt: skip
        logs.append(log_of(run_stage("dvae", config).parent))
    assert logs[0] == logs[1]


@pytest.mark.parametrize("stage", sorted(RUNS))
def test_what_workers_load_can_be_handed_to_a_fresh_process(stage: str, build: Callable[..., Any]) -> None:
    """Where processes are not forked, it is pickled: without the networks and without the features themselves."""
    data = build(stage).data
    pickled = pickle.dumps(data)
    assert len(pickled) < 300_000
    for one, other in zip(
        tensors_of(data.batch(3)).values(), tensors_of(pickle.loads(pickled).batch(3)).values(), strict=True
    ):
        assert torch.equal(one, other)
