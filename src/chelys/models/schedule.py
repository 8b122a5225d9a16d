"""The noise schedule that the diffusion decoder is trained on, and the shorter ones that sampling makes of it.

4000 steps, betas rising linearly from 2.5e-5 to 5e-3 (Ho et al. 2020, scaled to the number of steps). Sampling visits
some of them. What is left of the signal at a visited step stays as trained; the betas between two of them, and what
follows from the betas, are worked out anew (Nichol & Dhariwal 2021, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

STEPS = 4000


def alphas_cumulative(steps: int = STEPS) -> Tensor:
    """Share of the signal's power left after each step, ``(steps,)`` float64, from almost 1 to 4e-5."""
    scale = 1000 / steps
    betas = torch.linspace(scale * 1e-4, scale * 0.02, steps, dtype=torch.float64)
    return torch.cumprod(1 - betas, dim=0)


def even_steps(count: int, trained: int = STEPS) -> list[int]:
    """Steps to visit, evenly spaced from the first to the last, rising: as the published sampler has them.

    Args:
        count: How many, 1 to ``trained``. One alone is the noisiest, which noise can start from (the published code
            takes the cleanest for it, and fails).
        trained: Steps of the trained schedule.
    """
    _check(count, trained)
    if count == 1:
        return [trained - 1]
    stride, at = (trained - 1) / (count - 1), 0.0
    visited = []
    for _ in range(count):
        visited.append(round(at))  # a half to the even number
        at += stride  # summed, not multiplied: where the sum falls beside a half, it decides the step
    return visited


def packed_steps(count: int, power: float = 1.5, trained: int = STEPS) -> list[int]:
    """Steps to visit, rising, packed towards the clean end, the noisiest always among them.

    Args:
        count: How many, 1 to ``trained``.
        power: 1 spaces them evenly; above, it packs them.
        trained: Steps of the trained schedule.
    """
    _check(count, trained)
    visited: list[int] = []
    for i in range(1, count + 1):  # from the clean end up, where hundreds of steps would fall on the same few
        wanted = round((trained - 1) * (i / count) ** power)
        visited.append(max(wanted, visited[-1] + 1) if visited else wanted)
    return visited


def _check(count: int, trained: int) -> None:
    if not 1 <= count <= trained:
        raise ValueError(f"{count} steps; they must be 1 to {trained}")


class Process:
    """A diffusion process over the visited steps, as tables ``(n,)`` in float64, from the cleanest to the noisiest.

    Attributes:
        steps: Their numbers in the trained schedule, which the network is told.
        alphas: Share of the signal's power left after each.
        alphas_before: The same after the next cleaner one; 1 before the first.
        betas: Share of the power that becomes noise between the two.
        posterior_clean: Weight of the clean mel in the mean of the next cleaner mel, given this one (Ho et al. 2020,
            equation 7).
        posterior_noisy: Weight of this one.
        posterior_variance: Its variance; 0 at the first.
        posterior_log_variance: Logarithm of it, the second's in place of the first's, which would be minus infinity.
    """

    def __init__(self, steps: Sequence[int], trained: int = STEPS) -> None:
        """Tables of a process.

        Args:
            steps: Visited steps, rising.
            trained: Steps of the trained schedule.
        """
        self.steps = tuple(steps)
        self.alphas = alphas_cumulative(trained)[list(steps)]
        self.alphas_before = torch.cat((self.alphas.new_ones(1), self.alphas[:-1]))
        self.betas = 1 - self.alphas / self.alphas_before
        self.posterior_clean = self.betas * self.alphas_before.sqrt() / (1 - self.alphas)
        self.posterior_noisy = (1 - self.alphas_before) * (1 - self.betas).sqrt() / (1 - self.alphas)
        self.posterior_variance = self.betas * (1 - self.alphas_before) / (1 - self.alphas)
        # a single step has no second; its noise is never used
        second = self.posterior_variance[1:2] if len(self) > 1 else self.betas
        self.posterior_log_variance = torch.cat((second, self.posterior_variance[1:])).log()

    def __len__(self) -> int:
        return len(self.steps)
