"""One step of each sampler: from a noisy mel, and what the network takes for the clean one, to a less noisy mel.

The functions are pure: noise comes in as an argument, the numbers of the schedule from a ``Process``, in which
``index`` counts the visited steps from the cleanest, 0. All mels are ``(b, f, s)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from chelys.models.gaussian import noise_of_clean, posterior
from chelys.models.schedule import Process


def ddpm_step(process: Process, index: int, x: Tensor, clean: Tensor, variance: Tensor | None, noise: Tensor) -> Tensor:
    """Draw the next cleaner mel (Ho et al. 2020, algorithm 2). The last step takes the mean and leaves the noise.

    Args:
        process: The visited steps.
        index: Of this step.
        x: Noisy mel.
        clean: What the network takes for the clean one, within its bounds.
        variance: What the network says of the variance, as in ``posterior``.
        noise: Unit noise.
    """
    mean, log_variance = posterior(process, index, x, clean, variance)
    return mean + (0.5 * log_variance).exp() * noise if index else mean


def ddim_step(process: Process, index: int, x: Tensor, clean: Tensor, eta: float, noise: Tensor | None) -> Tensor:
    """The next cleaner mel along the same noise, or in part along new noise (Song et al. 2020, equation 12).

    Args:
        process: The visited steps.
        index: Of this step.
        x: Noisy mel.
        clean: What the network takes for the clean one, within its bounds.
        eta: 0 is the probability flow, 1 replaces as much noise as DDPM with the posterior's variance.
        noise: Unit noise; None if eta is 0.
    """
    alpha, before = float(process.alphas[index]), float(process.alphas_before[index])
    spread = eta * ((1 - before) / (1 - alpha)) ** 0.5 * (1 - alpha / before) ** 0.5
    kept = noise_of_clean(process, index, x, clean)  # of the clean mel within its bounds, not what the network said
    moved = before**0.5 * clean + (1 - before - spread**2) ** 0.5 * kept
    return moved if noise is None else moved + spread * noise


def dpm_step(process: Process, index: int, x: Tensor, clean: Tensor, clean_before: Tensor | None) -> Tensor:
    """The next cleaner mel by DPM-Solver++(2M), the probability flow to second order (Lu et al. 2022, algorithm 2).

    The signal that is left at a step is read from the schedule that the network was trained on. tortoise-tts-fast
    pairs the solver with a continuous schedule that is another one: at its first step it takes 0.081 of the power for
    signal where the network, told step 1000 of 4000, has learned 0.524, and halfway 0.530 instead of 0.846.

    Args:
        process: The visited steps.
        index: Of this step.
        x: Noisy mel.
        clean: What the network takes for the clean one, within its bounds.
        clean_before: The same of the step before, one noisier; None at the first step, which is of first order.
    """
    if index == 0:
        return clean
    alpha, target = float(process.alphas[index]), float(process.alphas[index - 1])
    h = _half_log_snr(target) - _half_log_snr(alpha)
    direction = clean
    if clean_before is not None:
        ratio = (_half_log_snr(alpha) - _half_log_snr(float(process.alphas[index + 1]))) / h
        direction = (1 + 0.5 / ratio) * clean - 0.5 / ratio * clean_before
    shrink = torch.expm1(torch.tensor(-h)).item()
    return ((1 - target) / (1 - alpha)) ** 0.5 * x - target**0.5 * shrink * direction


def _half_log_snr(alpha: float) -> float:
    return 0.5 * torch.logit(torch.tensor(alpha, dtype=torch.float64)).item()
