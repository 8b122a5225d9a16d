"""The noise schedule of the diffusion decoder, and the Gaussians that sampling and training take from it.

The network is trained on 4000 steps, with betas rising linearly from 2.5e-5 to 5e-3 (Ho et al. 2020, scaled to the
number of steps). Sampling visits a few of them: ``alphas_cumprod`` at a visited step stays as trained, the betas
between two visited steps and what follows from the betas are recomputed (Nichol & Dhariwal 2021, section 4).

Names follow the papers: ``x0`` is the clean mel, ``x`` the noisy one, ``eps`` the unit noise, all ``(b, f, s)``.
``index`` counts the visited steps from the cleanest, 0: one int for all rows when sampling, ``(b,)`` when training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from chelys.deprecation import renamed_names

#: Steps of the schedule that the networks are trained on.
TRAIN_STEPS = 4000
#: A step of a schedule: one for all rows, or one for each.
Index = int | Tensor


def alphas_cumprod(steps: int = TRAIN_STEPS) -> Tensor:
    """Share of the signal's power left after each step, ``(steps,)`` float64, from almost 1 to 4e-5."""
    scale = 1000 / steps
    betas = torch.linspace(scale * 1e-4, scale * 0.02, steps, dtype=torch.float64)
    return torch.cumprod(1 - betas, dim=0)


def even_timesteps(count: int, train_steps: int = TRAIN_STEPS) -> list[int]:
    """Rising timesteps, evenly spaced from the first to the last, as in the published sampler.

    ``count``: how many, 1 to ``train_steps``. A single one is the noisiest, because sampling starts from noise
    (the published code takes the cleanest and fails). ``train_steps``: steps of the trained schedule.
    """
    _check(count, train_steps)
    if count == 1:
        return [train_steps - 1]
    stride, at = (train_steps - 1) / (count - 1), 0.0
    timesteps = []
    for _ in range(count):
        timesteps.append(round(at))  # halves go to the even number
        at += stride  # summed, not multiplied: where the sum falls beside a half, this decides the step
    return timesteps


def packed_timesteps(count: int, power: float = 1.5, train_steps: int = TRAIN_STEPS) -> list[int]:
    """Rising timesteps, packed towards the clean end; the noisiest is always among them.

    ``count``: how many, 1 to ``train_steps``. ``power``: 1 spaces them evenly; a larger one packs them.
    ``train_steps``: steps of the trained schedule.
    """
    _check(count, train_steps)
    timesteps: list[int] = []
    for i in range(1, count + 1):  # from the clean end up, where hundreds of steps would share a number
        wanted = round((train_steps - 1) * (i / count) ** power)
        timesteps.append(max(wanted, timesteps[-1] + 1) if timesteps else wanted)
    return timesteps


def _check(count: int, train_steps: int) -> None:
    if not 1 <= count <= train_steps:
        raise ValueError(f"{count} steps; they must be 1 to {train_steps}")


class DiffusionSchedule:
    """Tables ``(n,)`` float64 over the visited timesteps, from the cleanest to the noisiest.

    Attributes:
        timesteps: Their numbers in the trained schedule, which the network is given.
        alphas_cumprod: Share of the signal's power left at each.
        alphas_cumprod_prev: The same at the next cleaner one; 1 before the first.
        betas: Share of the power that becomes noise between the two.
        posterior_coef_x0: Weight of x0 in the mean of q(x_prev | x, x0) (Ho et al. 2020, equation 7).
        posterior_coef_x: Weight of x in it.
        posterior_variance: Its variance; 0 at the first.
        posterior_log_variance: Logarithm of it, clipped: the second's in place of the first's, minus infinity.
    """

    def __init__(self, timesteps: Sequence[int], train_steps: int = TRAIN_STEPS) -> None:
        """Tables of a schedule. ``timesteps``: to visit, rising; ``train_steps``: steps of the trained schedule."""
        self.timesteps = tuple(timesteps)
        self.alphas_cumprod = alphas_cumprod(train_steps)[list(timesteps)]
        self.alphas_cumprod_prev = torch.cat((self.alphas_cumprod.new_ones(1), self.alphas_cumprod[:-1]))
        self.betas = 1 - self.alphas_cumprod / self.alphas_cumprod_prev
        self.posterior_coef_x0 = self.betas * self.alphas_cumprod_prev.sqrt() / (1 - self.alphas_cumprod)
        self.posterior_coef_x = (1 - self.alphas_cumprod_prev) * (1 - self.betas).sqrt() / (1 - self.alphas_cumprod)
        self.posterior_variance = self.betas * (1 - self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)
        # a single step has no second; its noise is never used
        second = self.posterior_variance[1:2] if len(self) > 1 else self.betas
        self.posterior_log_variance = torch.cat((second, self.posterior_variance[1:])).log()

    def __len__(self) -> int:
        return len(self.timesteps)


class Gaussian(NamedTuple):
    """A diagonal normal distribution over mels: mean and logarithm of the variance."""

    mean: Tensor
    log_variance: Tensor


def q_sample(schedule: DiffusionSchedule, index: Index, x0: Tensor, eps: Tensor) -> Tensor:
    """The noisy mel of a step (Ho et al. 2020, equation 4)."""
    alpha = _at(schedule.alphas_cumprod, index, x0)
    return alpha**0.5 * x0 + (1 - alpha) ** 0.5 * eps


def predict_x0(schedule: DiffusionSchedule, index: Index, x: Tensor, eps: Tensor) -> Tensor:
    """The clean mel from which the unit noise ``eps`` made ``x``."""
    alpha = _at(schedule.alphas_cumprod, index, x)
    return (x - (1 - alpha) ** 0.5 * eps) / alpha**0.5


def predict_eps(schedule: DiffusionSchedule, index: Index, x: Tensor, x0: Tensor) -> Tensor:
    """The unit noise that made ``x`` from ``x0``."""
    alpha = _at(schedule.alphas_cumprod, index, x)
    return (x - alpha**0.5 * x0) / (1 - alpha) ** 0.5


def q_posterior(
    schedule: DiffusionSchedule, index: Index, x: Tensor, x0: Tensor, variance: Tensor | None = None
) -> Gaussian:
    """The next cleaner mel given this one and the clean one, q(x_prev | x, x0) (Ho et al. 2020, section 3.2).

    ``x0``: clean mel, or the network's estimate of it. ``variance``: learned variance, as the network predicts it: from
    -1, the variance of the posterior, to 1, beta, by logarithm and not clipped (Nichol & Dhariwal 2021, section 3.1).
    None: the variance of the posterior.
    """
    mean = _at(schedule.posterior_coef_x0, index, x) * x0 + _at(schedule.posterior_coef_x, index, x) * x
    low, high = _at(schedule.posterior_log_variance, index, x), _at(schedule.betas.log(), index, x)
    if variance is None:
        return Gaussian(mean, torch.zeros_like(mean) + low)
    share = (variance + 1) / 2
    return Gaussian(mean, share * high + (1 - share) * low)


def _at(table: Tensor, index: Index, like: Tensor) -> float | Tensor:
    """Entry of a table: a number, or ``(b, 1, 1)`` in the precision of ``like``."""
    if isinstance(index, int):
        return float(table[index])
    return table.to(like.dtype).to(like.device)[index].view(-1, 1, 1)  # rounded first: MPS has no float64


__getattr__ = renamed_names(__name__)
