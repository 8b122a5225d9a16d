"""The noise schedule that the diffusion decoder is trained on; sampling respaces it.

4000 steps, betas rising linearly from 2.5e-5 to 5e-3 (Ho et al. 2020, scaled to the number of steps).
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 4000


def alphas_cumulative(steps: int = STEPS) -> Tensor:
    """Share of the signal's power left after each step, ``(steps,)`` float64, from almost 1 to 4e-5."""
    scale = 1000 / steps
    betas = torch.linspace(scale * 1e-4, scale * 0.02, steps, dtype=torch.float64)
    return torch.cumprod(1 - betas, dim=0)
