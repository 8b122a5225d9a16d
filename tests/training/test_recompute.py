"""Gradient checkpointing: the same gradients, of blocks that run twice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from chelys.training.distributed import REPEATED, checkpoint_activations
from chelys.training.run_stage import run_stage
from chelys.training.task import Task


@pytest.mark.parametrize("stage", ["autoregressive", "clvp", "diffusion"])
def test_blocks_run_once_more_and_gradients_are_the_same(build: Callable[..., Task], stage: str) -> None:
    plain, again = build(stage), build(stage)
    calls: list[str] = []
    for name, module in again.network.named_modules():
        if isinstance(module, REPEATED):
            forward = module.forward
            module.forward = lambda *a, _f=forward, _n=name, **k: calls.append(_n) or _f(*a, **k)  # type: ignore
    assert checkpoint_activations(again.network) > 0

    def gradients(one: Task) -> dict[str, torch.Tensor]:
        sum(one.training_step(stage, one.data.batch(0), torch.Generator().manual_seed(1)).values()).backward()  # type: ignore
        return {name: p.grad for name, p in one.network.named_parameters() if p.grad is not None}

    expected, found = gradients(plain), gradients(again)
    assert calls and all(calls.count(name) == 2 for name in calls), "each block, once more"
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-7)
    calls.clear()
    with torch.no_grad():
        again.training_step(stage, again.data.batch(0), torch.Generator().manual_seed(1))
    assert calls and all(calls.count(name) == 1 for name in calls), "evaluation keeps nothing to compute again"


def test_a_run_that_recomputes_learns_the_same(config_file: Callable[..., Path], tmp_path: Path) -> None:
    config = config_file("autoregressive", loop={"steps": 4}, network={"dropout": 0.1})
    weights = [
        load_file(
            run_stage("autoregressive", config, [f"run={tmp_path / name}", f"loop.activation_checkpointing={value}"])
        )
        for name, value in (("keeps", "false"), ("recomputes", "true"))
    ]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-5, atol=1e-6)


def test_a_network_without_blocks_says_so(config_file: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        run_stage("dvae", config_file("dvae", loop={"steps": 1}), ["loop.activation_checkpointing=true"])
    assert "loop.activation_checkpointing changes nothing: dvae has no blocks" in caplog.text
