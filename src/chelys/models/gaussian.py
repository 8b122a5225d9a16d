"""The normal distributions of a diffusion process: what sampling draws from and what training compares.

``index`` counts the steps of a ``Process`` from the cleanest, 0: one number for all rows where it samples, a number for
each row ``(b,)`` where it trains. All mels are ``(b, f, s)``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from chelys.models.schedule import Process

#: A step of a process: of all rows, or of each.
Index = int | Tensor
#: Width of the bins that the cleanest step is judged by: 256 from -1 to 1, as pictures have them.
BIN = 2 / 255


class Posterior(NamedTuple):
    """The normal distribution of the next cleaner mel: its mean and the logarithm of its variance."""

    mean: Tensor
    log_variance: Tensor


def clean_of_noise(process: Process, index: Index, x: Tensor, noise: Tensor) -> Tensor:
    """The clean mel, if ``noise`` is the unit noise that made ``x`` of it."""
    alpha = _at(process.alphas, index, x)
    return (x - (1 - alpha) ** 0.5 * noise) / alpha**0.5


def noise_of_clean(process: Process, index: Index, x: Tensor, clean: Tensor) -> Tensor:
    """The unit noise that made ``x`` of the clean mel."""
    alpha = _at(process.alphas, index, x)
    return (x - alpha**0.5 * clean) / (1 - alpha) ** 0.5


def noisy(process: Process, index: Index, clean: Tensor, noise: Tensor) -> Tensor:
    """The noisy mel of a step (Ho et al. 2020, equation 4)."""
    alpha = _at(process.alphas, index, clean)
    return alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise


def posterior(process: Process, index: Index, x: Tensor, clean: Tensor, variance: Tensor | None = None) -> Posterior:
    """Where the next cleaner mel lies, given this one and the clean one (Ho et al. 2020, section 3.2).

    Args:
        process: The visited steps.
        index: Of this step.
        x: Noisy mel.
        clean: What the network takes for the clean one, within its bounds; or the clean one itself.
        variance: What the network says of the variance: from -1, the variance of the posterior, to 1, beta, by
            logarithm and not held between them (Nichol & Dhariwal 2021, section 3.1). None where it says nothing: the
            variance of the posterior.
    """
    mean = _at(process.posterior_clean, index, x) * clean + _at(process.posterior_noisy, index, x) * x
    low, high = _at(process.posterior_log_variance, index, x), _at(process.betas.log(), index, x)
    if variance is None:
        return Posterior(mean, torch.zeros_like(mean) + low)
    share = (variance + 1) / 2
    return Posterior(mean, share * high + (1 - share) * low)


def divergence(a: Posterior, b: Posterior) -> Tensor:
    """Kullback-Leibler divergence of normal distributions, a from b, of each number: nats ``(b, f, s)``."""
    apart = (a.mean - b.mean).square() * (-b.log_variance).exp()
    return 0.5 * (b.log_variance - a.log_variance + (a.log_variance - b.log_variance).exp() - 1 + apart)


def surprise(clean: Tensor, said: Posterior) -> Tensor:
    """How unlikely the bins are that clean mels fall into: nats ``(b, f, s)`` (Ho et al. 2020, section 3.3).

    Below -0.999 and above 0.999 the bins have no end.
    """
    steepness = (-0.5 * said.log_variance).exp()
    above = torch.special.ndtr((clean + BIN / 2 - said.mean) * steepness)
    below = torch.special.ndtr((clean - BIN / 2 - said.mean) * steepness)
    above = torch.where(clean > 0.999, torch.ones_like(above), above)
    below = torch.where(clean < -0.999, torch.zeros_like(below), below)
    return -(above - below).clamp(min=1e-12).log()


def variational_bound(process: Process, index: Tensor, clean: Tensor, x: Tensor, said: Posterior) -> Tensor:
    """The term of the variational bound at a step of each row (Nichol & Dhariwal 2021, equations 4 to 7).

    Args:
        process: All trained steps.
        index: ``(b,)``.
        clean: Clean mel.
        x: Noisy mel of the step.
        said: What the network says of the next cleaner one.

    Returns:
        Bits ``(b, f, s)``: at the cleanest step how unlikely the clean mel is, at any other how far ``said`` is from
        the true posterior.
    """
    far = divergence(posterior(process, index, x, clean), said)
    return torch.where((index == 0).view(-1, 1, 1), surprise(clean, said), far) / math.log(2.0)


def _at(table: Tensor, index: Index, like: Tensor) -> float | Tensor:
    """Entry of a table: a number, or ``(b, 1, 1)`` numbers in the precision of ``like``."""
    if isinstance(index, int):
        return float(table[index])
    return table.to(like.device)[index].to(like.dtype).view(-1, 1, 1)
