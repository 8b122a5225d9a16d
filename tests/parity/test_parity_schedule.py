"""The visited steps and the tables of the diffusion process against the original."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from chelys.models.diffusion_schedule import DiffusionSchedule, even_timesteps

FILE = Path(os.environ.get("CHELYS_PARITY_DIR") or Path(__file__).parent) / "diffusion.safetensors"
TABLES = {
    "alphas_cumprod": "alphas_cumprod",
    "betas": "betas",
    "posterior_mean_coef1": "posterior_coef_x0",
    "posterior_mean_coef2": "posterior_coef_x",
    "posterior_log_variance_clipped": "posterior_log_variance",
}


@pytest.fixture(scope="module")
def sampler():
    with safe_open(str(FILE), "pt") as file:
        return json.loads(file.metadata()["sampler"])


def test_visited_steps_and_their_betas(reference, sampler):
    outputs, trained = reference("diffusion").outputs, sampler["trained_steps"]
    counts = [int(found[1]) for name in outputs if (found := re.fullmatch(r"timestep_map_(\d+)", name))]
    assert counts
    for count in counts:
        visited = even_timesteps(count, trained)
        assert visited == outputs[f"timestep_map_{count}"].tolist()
        torch.testing.assert_close(
            DiffusionSchedule(visited, trained).betas, outputs[f"betas_{count}"], atol=0, rtol=1e-6
        )


@pytest.mark.parametrize("name", TABLES)
def test_tables(reference, sampler, name):
    assert sampler["schedule"] == "linear"
    outputs = reference("diffusion").outputs
    visited = even_timesteps(sampler["steps"], sampler["trained_steps"])
    assert visited == outputs["timestep_map"].tolist()
    ours = getattr(DiffusionSchedule(visited, sampler["trained_steps"]), TABLES[name])
    torch.testing.assert_close(ours, outputs[name], atol=1e-12, rtol=1e-6)
