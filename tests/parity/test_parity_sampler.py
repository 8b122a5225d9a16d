"""The samplers against the original: single steps, whole trajectories, and the solver that it lacks against both."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from chelys.inference.diffusion_sampling import (
    ddpm_step,
    dpm_step,
    guidance_at,
    guided_x0,
    sample_mel,
    sampling_schedule,
)
from chelys.models.diffusion_schedule import DiffusionSchedule, packed_timesteps
from chelys.tortoise.state_dicts import from_tortoise

FILE = Path(os.environ.get("CHELYS_PARITY_DIR") or Path(__file__).parent) / "diffusion.safetensors"
LOOP = 2e-3  # of whole trajectories, absolute: errors grow through the steps


@pytest.fixture(scope="module")
def sampler() -> dict[str, Any]:
    with safe_open(str(FILE), "pt") as file:
        sampler = json.loads(file.metadata()["sampler"])
    assert (sampler["mean"], sampler["variance"], sampler["schedule"]) == ("epsilon", "learned_range", "linear")
    return sampler


@pytest.fixture
def theirs(reference):
    return reference("diffusion")


@pytest.fixture
def render(theirs, build, sampler):
    """Denoise as the fixture did, but for what is asked otherwise."""
    network = build("diffusion", theirs)
    network.load_state_dict(from_tortoise("diffusion", theirs.weights, network))
    content = theirs.outputs["aligned_from_latents"]
    start = theirs.inputs["noise"] * sampler["temperature"]
    bounds = (-1.0, 1.0) if sampler["clip_denoised"] else (-math.inf, math.inf)
    guidance = sampler["cond_free_k"] if sampler["cond_free"] else 0.0

    def run(steps: int, guidance: float = guidance, precise: bool = False, **more: Any) -> Tensor:
        kind = torch.float64 if precise else torch.float32
        draws = iter(theirs.inputs["step_noise"])
        return sample_mel(
            network.to(kind), content.to(kind), start.to(kind), steps, guidance, bounds,
            guidance_ramp=sampler["ramp"], train_steps=sampler["trained_steps"], noise=lambda: next(draws), **more,
        )  # fmt: skip

    run.network, run.content, run.start, run.bounds, run.guidance = network, content, start, bounds, guidance
    return run


def near(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= LOOP


def test_every_single_step(theirs, render, sampler):
    """From each state of the original's to its next, so that no error grows."""
    schedule = sampling_schedule("ddpm", sampler["steps"], sampler["trained_steps"])
    before = [render.start, *theirs.outputs["p_trajectory"].unsqueeze(1)]
    for i, index in enumerate(reversed(range(len(schedule)))):
        weight = guidance_at(schedule, index, render.guidance, sampler["ramp"])
        clean, variance = guided_x0(render.network, schedule, index, before[i], render.content, weight, render.bounds)
        ours = ddpm_step(schedule, index, before[i], clean, variance, theirs.inputs["step_noise"][i])
        distance, largest = (ours - before[i + 1]).abs().max(), before[i + 1].abs().max()
        # the clean mel is the noisy one less noise, times up to 150: float32's last bits come through in the first step
        assert distance <= 1e-4 * largest * max(1.0, 0.1 / float(schedule.alphas_cumprod[index]) ** 0.5), index


def test_ddpm(theirs, render, sampler):
    mel = render(sampler["steps"], sampler="ddpm")
    near(mel, theirs.outputs["p_mel"])
    near(mel[0], theirs.outputs["p_trajectory"][-1])


def test_ddpm_without_guidance(theirs, render, sampler):
    near(render(sampler["steps"], guidance=0.0, sampler="ddpm"), theirs.outputs["p_mel_no_cond_free"])


def test_ddim(theirs, render, sampler):
    near(render(sampler["ddim_steps"], sampler="ddim"), theirs.outputs["ddim_mel_eta0"])


def test_ddim_with_noise(theirs, render, sampler):
    mel = render(sampler["ddim_steps"], sampler="ddim", eta=sampler["ddim_eta"])
    near(mel, theirs.outputs["ddim_mel_eta"])


def test_one_step_and_two_steps(render):
    for how in ("ddpm", "ddim", "dpm++2m"):
        for steps in (1, 2):
            mel = render(steps, sampler=how)
            assert mel.isfinite().all() and mel.shape == render.start.shape


def test_two_takes_are_as_one_and_one(render, theirs, sampler):
    """The original takes one at a time where there is guidance."""
    both = sample_mel(
        render.network, render.content.expand(2, -1, -1), torch.cat((render.start, -render.start)), sampler["steps"],
        render.guidance, render.bounds, sampler="ddim", guidance_ramp=sampler["ramp"],
        train_steps=sampler["trained_steps"],
    )  # fmt: skip
    near(both[:1], render(sampler["steps"], sampler="ddim"))
    assert not torch.allclose(both[:1], both[1:], atol=0.1)


def test_the_solver_ends_where_ddim_ends(render, sampler):
    """Both follow the probability flow, if the solver is told the schedule that the network was trained on."""
    goal = render(200, guidance=0.0, precise=True, sampler="ddim")

    def off(mel: Tensor) -> float:
        return (mel - goal).abs().mean().item()

    few, many = (off(render(steps, guidance=0.0, precise=True, sampler="dpm++2m")) for steps in (10, 100))
    other = off(on_another_schedule(render, 100, sampler["trained_steps"]))
    assert many < 0.6 * few and many < 0.5 * other, (few, many, other)


@torch.inference_mode()
def on_another_schedule(render, steps: int, trained: int) -> Tensor:
    """As tortoise-tts-fast has it: a quarter of the steps, and of the betas, over a time from 0 to 1."""
    schedule = DiffusionSchedule(packed_timesteps(steps, train_steps=trained // 4), trained)
    time = (torch.tensor(schedule.timesteps, dtype=torch.float64) + 1) / (trained // 4)
    schedule.alphas_cumprod = torch.exp(-(0.025 * time + (5 - 0.025) * time.square() / 2))
    assert schedule.alphas_cumprod[-1].item() == pytest.approx(0.081, abs=1e-3)
    x, before = render.start.double(), None
    for index in reversed(range(steps)):
        clean, _ = guided_x0(render.network, schedule, index, x, render.content.double(), 0.0, render.bounds)
        x, before = dpm_step(schedule, index, x, clean, before), clean
    return x
