"""Latents to mel: few steps through the schedule that the network was trained on, guided.

The solver is DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095), which predicts the clean mel at each step and
corrects by the step before. b takes, f bands, s mel frames.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from chelys.models.diffusion import Diffusion
from chelys.models.schedule import STEPS, alphas_cumulative


def spaced_steps(count: int, power: float = 1.5) -> list[int]:
    """Steps of the trained schedule to visit, each once, from the noisiest down.

    Args:
        count: How many, 1 to STEPS.
        power: Above 1 it packs them towards the clean end.
    """
    visited: list[int] = []
    for i in range(1, count + 1):  # from the clean end up, where hundreds of steps would fall on the same few
        wanted = round((STEPS - 1) * (i / count) ** power)
        visited.append(max(wanted, visited[-1] + 1) if visited else wanted)
    return visited[::-1]


def estimate_clean(
    network: Diffusion,
    x: Tensor,
    step: int,
    alpha: float,
    content: Tensor,
    guidance: float,
    bounds: tuple[float, float],
) -> Tensor:
    """The clean mel as the network sees it from here, guided away from what it sees without conditioning.

    Args:
        network: In evaluation mode.
        x: Noisy mel ``(b, f, s)``.
        step: Of the trained schedule.
        alpha: Signal's share of the power at that step.
        content: ``(b, d, p)``.
        guidance: g in (1 + g) conditioned - g unconditioned.
        bounds: Lowest and highest value of a clean mel.
    """
    b = len(x)
    if guidance:  # both passes as one batch
        free = network.unconditioned.expand_as(content)
        time = torch.full((2 * b,), step, device=x.device)
        guess, unguided = network(torch.cat((x, x)), time, torch.cat((content, free))).chunk(2)
        guess = guess + guidance * (guess - unguided)
    else:
        guess = network(x, torch.full((b,), step, device=x.device), content)
    guess = guess[:, : x.shape[1]]  # what lies behind is the variance of ancestral sampling
    clean = guess
    if network.config.prediction == "epsilon":
        clean = (x - (1 - alpha) ** 0.5 * guess) / alpha**0.5
    return clean.clamp(*bounds)


@torch.inference_mode()
def denoise(
    network: Diffusion,
    content: Tensor,
    start: Tensor,
    steps: int,
    guidance: float,
    bounds: tuple[float, float],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Mel from noise.

    Args:
        network: In evaluation mode.
        content: ``(b, d, p)``, from ``Diffusion.content``.
        start: Noise ``(b, f, s)``.
        steps: How many steps to take.
        guidance: Weight of conditioning-free guidance.
        bounds: Lowest and highest value of a clean mel.
        progress: Called with (steps done, steps).

    Returns:
        Mel ``(b, f, s)`` in network units.
    """
    alphas = alphas_cumulative()
    visited = spaced_steps(steps)
    x, before, h_before = start, None, 0.0
    for index, step in enumerate(visited):
        alpha = float(alphas[step])
        clean = estimate_clean(network, x, step, alpha, content, guidance, bounds)
        if progress:
            progress(index + 1, steps)
        if index + 1 == steps:
            return clean
        target = float(alphas[visited[index + 1]])
        h = _half_log_snr(target) - _half_log_snr(alpha)
        direction = clean
        if before is not None:
            ratio = h_before / h
            direction = (1 + 0.5 / ratio) * clean - 0.5 / ratio * before
        shrink = torch.expm1(torch.tensor(-h)).item()
        x = ((1 - target) / (1 - alpha)) ** 0.5 * x - target**0.5 * shrink * direction
        before, h_before = clean, h
    raise AssertionError("steps is at least 1")


def _half_log_snr(alpha: float) -> float:
    return 0.5 * torch.logit(torch.tensor(alpha, dtype=torch.float64)).item()
