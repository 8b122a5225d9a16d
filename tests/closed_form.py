"""A network in whose place there stands a formula, and data whose denoiser and whose end are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from chelys.models.diffusion_schedule import alphas_cumprod

ALPHAS = alphas_cumprod()
BANDS, FRAMES = 3, 5
MEAN, DEVIATION = 0.7, 0.4


@dataclass
class Denoiser:
    """Says what the network would say if it took ``clean(x, alpha, content)`` for the clean mel."""

    clean: Callable[[Tensor, Tensor, Tensor], Tensor]
    prediction: str = "clean"
    calls: list[tuple[int, int]] = field(default_factory=list)  # rows and step
    seen: list[Tensor] = field(default_factory=list)
    uncond_embedding: Tensor = field(default_factory=lambda: torch.full((1, 1, 1), -7.0, dtype=torch.float64))
    variance: float | None = None

    @property
    def config(self) -> Any:
        return SimpleNamespace(prediction=self.prediction, learned_variance=self.variance is not None)

    def __call__(self, x: Tensor, time: Tensor, content: Tensor) -> Tensor:
        self.calls.append((len(x), int(time[0])))
        self.seen.append(x)
        alpha = ALPHAS[time].view(-1, 1, 1)
        clean = self.clean(x, alpha, content)
        noise = (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        said = noise if self.prediction == "epsilon" else clean
        # without conditioning it says another variance, which nobody must heed
        return said if self.variance is None else torch.cat((said, self.variance - 100 * (content == -7) + 0 * x), 1)


def start(batch: int = 2) -> Tensor:
    return torch.randn(batch, BANDS, FRAMES, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def saying(value: float, batch: int = 2) -> Tensor:
    """Content that says a number."""
    return torch.full((batch, 1, FRAMES), value, dtype=torch.float64)


def follow(x: Tensor, alpha: Tensor, content: Tensor) -> Tensor:
    """The clean mel is what the content says."""
    return content.expand_as(x)


def gaussian(x: Tensor, alpha: Tensor, content: Tensor) -> Tensor:
    """Posterior mean of data that is normal with MEAN and DEVIATION."""
    gain = alpha.sqrt() * DEVIATION**2 / (alpha * DEVIATION**2 + 1 - alpha)
    return MEAN + gain * (x - alpha.sqrt() * MEAN)


def gaussian_end(x: Tensor) -> Tensor:
    """Where the probability flow takes noise x of the last step of the schedule to: the normal's own map."""
    alpha = ALPHAS[-1]
    return MEAN + DEVIATION * (x - alpha.sqrt() * MEAN) / (alpha * DEVIATION**2 + 1 - alpha).sqrt()
