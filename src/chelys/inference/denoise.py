"""Latents to mel: some of the steps of the schedule that the network was trained on, guided, by one of three samplers.

b takes, f bands, s mel frames, d width, p positions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from chelys.inference.options import Sampler
from chelys.inference.samplers import ddim_step, ddpm_step, dpm_step
from chelys.models.diffusion import Diffusion
from chelys.models.gaussian import clean_of_noise
from chelys.models.schedule import STEPS, Process, even_steps, packed_steps


def process_of(sampler: Sampler, steps: int, trained: int = STEPS) -> Process:
    """The steps that a sampler visits: evenly spaced as published, or packed towards the clean end for the solver."""
    visited = packed_steps(steps, trained=trained) if sampler == "dpm++2m" else even_steps(steps, trained)
    return Process(visited, trained)


def estimate(
    network: Diffusion, x: Tensor, step: int, content: Tensor, guidance: float
) -> tuple[Tensor, Tensor | None]:
    """What the network says, guided away from what it says without conditioning (Ho & Salimans 2022).

    Args:
        network: In evaluation mode. It is asked in its own precision.
        x: Noisy mel ``(b, f, s)``.
        step: Of the trained schedule.
        content: ``(b, d, p)``.
        guidance: g in (1 + g) conditioned - g unconditioned.

    Returns:
        The noise or the clean mel, whichever it predicts, ``(b, f, s)``; and what it says of the variance, which
        guidance leaves alone, ``(b, f, s)``, or None.
    """
    b, bands, _ = x.shape
    dtype = network.unconditioned.dtype
    noisy, content = x.to(dtype), content.to(dtype)
    if guidance:  # both passes as one batch
        free = network.unconditioned.expand_as(content)
        time = torch.full((2 * b,), step, device=x.device)
        said, unguided = network(torch.cat((noisy, noisy)), time, torch.cat((content, free))).to(x.dtype).chunk(2)
        guess = said[:, :bands] + guidance * (said[:, :bands] - unguided[:, :bands])
    else:
        said = network(noisy, torch.full((b,), step, device=x.device), content).to(x.dtype)
        guess = said[:, :bands]
    return guess, said[:, bands:] if said.shape[1] > bands else None


def estimate_clean(
    network: Diffusion, process: Process, index: int, x: Tensor, content: Tensor, guidance: float,
    bounds: tuple[float, float],
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The clean mel as the network sees it from a step, within its bounds, and what it says of the variance.

    Args:
        network: In evaluation mode.
        process: The visited steps.
        index: Of this step among them.
        x: Noisy mel ``(b, f, s)``.
        content: ``(b, d, p)``.
        guidance: As in ``estimate``.
        bounds: Lowest and highest value of a clean mel.
    """
    guess, variance = estimate(network, x, process.steps[index], content, guidance)
    clean = clean_of_noise(process, index, x, guess) if network.config.prediction == "epsilon" else guess
    return clean.clamp(*bounds), variance


def guidance_at(process: Process, index: int, guidance: float, ramp: bool) -> float:
    """Guidance at a step: all of it, or growing from a small part at the first to all at the last."""
    return guidance * (1 - index / len(process)) if ramp else guidance


@torch.inference_mode()
def denoise(
    network: Diffusion,
    content: Tensor,
    start: Tensor,
    steps: int,
    guidance: float,
    bounds: tuple[float, float],
    *,
    sampler: Sampler = "dpm++2m",
    eta: float = 0.0,
    guidance_ramp: bool = False,
    noise: Callable[[], Tensor] | None = None,
    trained: int = STEPS,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Mel from noise.

    Args:
        network: In evaluation mode, predicting noise or the clean mel, with or without a learned variance.
        content: ``(b, d, p)``, from ``Diffusion.content``.
        start: Noise ``(b, f, s)``; its precision is that of all that is not the network.
        steps: How many steps to take, 1 to ``trained``.
        guidance: Weight of conditioning-free guidance.
        bounds: Lowest and highest value of a clean mel.
        sampler: As in ``SpeechOptions``.
        eta: Share of new noise in ``ddim``.
        guidance_ramp: Let the guidance grow with the steps.
        noise: Draws unit noise ``(b, f, s)``: once at every step of ``ddpm``, the last too, which leaves it; likewise
            of ``ddim`` with eta; never else.
        trained: Steps of the schedule that the network was trained on.
        progress: Called with (steps done, steps).

    Returns:
        Mel ``(b, f, s)`` in network units.

    Raises:
        ValueError: If the number of steps is out of range, or noise is needed and not given.
    """
    process = process_of(sampler, steps, trained)
    draws = sampler == "ddpm" or (sampler == "ddim" and eta > 0)
    if draws and noise is None:
        raise ValueError(f"{sampler} needs new noise at each step: pass noise, a function that draws it")
    x, clean_before = start, None
    for index in reversed(range(steps)):
        weight = guidance_at(process, index, guidance, guidance_ramp)
        clean, variance = estimate_clean(network, process, index, x, content, weight, bounds)
        drawn = noise() if draws and noise is not None else None
        if sampler == "dpm++2m":
            x = dpm_step(process, index, x, clean, clean_before)
        elif sampler == "ddim":
            x = ddim_step(process, index, x, clean, eta, drawn)
        else:
            assert drawn is not None
            x = ddpm_step(process, index, x, clean, variance, drawn)
        clean_before = clean
        if progress:
            progress(steps - index, steps)
    return x
