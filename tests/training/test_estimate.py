"""What a run takes, from its configuration alone: parameters, bytes, operations, hours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from chelys.cli.main import app
from chelys.cli.train import stage_of
from chelys.config import from_mapping
from chelys.deprecation import ChelysDeprecationWarning
from chelys.errors import ConfigError
from chelys.training.estimate import estimate
from chelys.training.run_stage import read_run
from chelys.training.tasks import RUNS

#: Parameters of the published networks, without discriminators.
PARAMETERS = {
    "autoregressive": 421_526_786, "clvp": 243_846_145, "cvvp": 37_780_225, "vocoder": 14_865_506,
    "detector": 15_224_002, "autoregressive_prior": 6_297_600, "diffusion_prior": 25_178_112,
    "hifigan": 17_844_226, "dvae": 51_567_184,
}  # fmt: skip


@pytest.mark.parametrize("stage", ["autoregressive", "dvae", "diffusion_prior", "hifigan"])
def test_the_published_networks_have_their_parameters(stage: str) -> None:
    made = estimate(stage, read_run(stage, Path(f"tortoise_v2/{stage}")), clip_seconds=3.0)
    assert made.parameters[stage] == PARAMETERS[stage]
    assert made.gradients == 4 * made.trained and made.optimizer == 8 * made.trained
    assert made.memory == made.weights + 3 * made.gradients + made.ema


@pytest.mark.parametrize("stage", sorted({*RUNS} - {"hifigan"}))  # whose decoder has the published tokenizer
def test_every_stage_can_be_estimated(values: Callable[..., dict[str, Any]], stage: str) -> None:
    made = estimate(stage, from_mapping(RUNS[stage], values(stage)), clip_seconds=1.5)
    assert made.flops_per_step > 0 and made.rows > 0 and made.hours > 0


def test_operations_are_those_of_a_real_step(values: Callable[..., dict[str, Any]], build: Callable[..., Any]) -> None:
    made = estimate("autoregressive_prior", from_mapping(RUNS["autoregressive_prior"], values("autoregressive_prior")))
    task = build("autoregressive_prior")
    with FlopCounterMode(display=False) as counter:
        losses = task.training_step("autoregressive_prior", task.data.batch(0), torch.Generator())
        torch.stack(list(losses.values())).sum().backward()
    assert made.flops_per_step == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_hours(values: Callable[..., dict[str, Any]]) -> None:
    run = from_mapping(RUNS["dvae"], values("dvae"))
    made = estimate("dvae", run, gpus=2, flops_per_second=1e12, utilisation=0.5)
    assert made.hours == pytest.approx(run.loop.steps * made.flops_per_step / (2 * 1e12 * 0.5) / 3600)
    for wrong in ({"gpus": 0}, {"utilisation": 0.0}, {"flops_per_second": 0.0}, {"clip_seconds": 0.0}):
        with pytest.raises(ConfigError, match="it must be"):
            estimate("dvae", run, **wrong)


def test_the_command(config_file: Callable[..., Path]) -> None:
    config = str(config_file("dvae"))
    result = CliRunner().invoke(app, ["train", "plan", "--config", config, "--json", "loop.steps=5"])
    assert result.exit_code == 0 and '"steps": 5' in result.stdout and '"memory"' in result.stdout
    with pytest.warns(ChelysDeprecationWarning, match="--gpu-memory is deprecated"):
        assert "hours" in CliRunner().invoke(app, ["train", "plan", "--config", config, "--gpu-memory", "8"]).stdout


def test_a_file_is_named_after_its_stage() -> None:
    stages = tuple(RUNS)
    assert stage_of(Path("a/diffusion_latents.yaml"), stages) == "diffusion"
    assert stage_of(Path("diffusion_prior.yaml"), stages) == "diffusion_prior"
    with pytest.raises(ConfigError, match="--stage with one of dvae"):
        stage_of(Path("model.yaml"), stages)
