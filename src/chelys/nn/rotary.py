"""Rotary position embedding: a vector is turned by an angle that grows with its position.

The dot product of two turned vectors depends on the distance of their positions alone, so no table of positions
caps the length. Entry j is paired with entry j + r / 2 ("rotate half").

Letters: b batch, h heads, t time, c channels of a head, r rotary_dim (r <= c: the rest of a head is not turned).

Source: Su et al. 2021, RoFormer, section 3.4.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

WAVELENGTH_BASE = 10_000.0


def rotary_frequencies(
    rotary_dim: int, base: float = WAVELENGTH_BASE, device: torch.device | str | None = None
) -> Tensor:
    """Angle per step of each pair, (r / 2,) radians, float32: from 1 down to almost 1 / base."""
    assert rotary_dim % 2 == 0, f"rotary_dim pairs entries, so it is even; got {rotary_dim}"
    exponents = torch.arange(0, rotary_dim, 2, dtype=torch.float32, device=device) / rotary_dim
    return 1.0 / base**exponents


def rotary_tables(positions: Tensor, rotary_dim: int, base: float = WAVELENGTH_BASE) -> tuple[Tensor, Tensor]:
    """Cosines and sines for the given positions.

    Args:
        positions: (t,) shared by the batch, or (b, t) one row each; integers, counted from 0.
        rotary_dim: how many entries of a head are turned, even.
        base: the longest wavelength is nearly 2 pi times this many positions.

    Returns:
        Cosines and sines in float32, each (t, r / 2), or (b, 1, t, r / 2) for positions (b, t): both broadcast over
        heads.
    """
    angles = positions[..., None].float() * rotary_frequencies(rotary_dim, base, positions.device)  # (..., t, r / 2)
    if positions.dim() == 2:
        angles = angles[:, None]  # (b, 1, t, r / 2)
    return angles.cos(), angles.sin()


def apply_rotary(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn the first r entries of each head by the angles of the tables; the others pass unchanged.

    Args:
        x: (b, h, t, c) queries, keys or values.
        cosines: (t, r / 2) or (b, 1, t, r / 2), from `rotary_tables`.
        sines: the same shape.

    Returns:
        (b, h, t, c) in the precision of `x`.
    """
    cosines, sines = cosines.to(x.dtype), sines.to(x.dtype)
    if torch.is_grad_enabled() and x.requires_grad:
        return _TrainedRotary.apply(x, cosines, sines)
    rotary_dim = 2 * cosines.shape[-1]
    first, second = x[..., :rotary_dim].chunk(2, dim=-1)
    turned = [first * cosines - second * sines, second * cosines + first * sines]
    return torch.cat([*turned, x[..., rotary_dim:]], dim=-1)


class _TrainedRotary(torch.autograd.Function):
    """The same with its gradient written out, which is turned back by the same angles: two thirds of the time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        return _turn(x, cosines, sines)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        return _turn(gradient, cosines, -sines), None, None


def _turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    half = cosines.shape[-1]
    head = x[..., : 2 * half]
    swapped = torch.cat((head[..., half:], head[..., :half]), dim=-1)
    turned = head * torch.cat((cosines, cosines), dim=-1)
    turned.addcmul_(swapped, torch.cat((-sines, sines), dim=-1))
    return turned if head.shape == x.shape else torch.cat((turned, x[..., 2 * half :]), dim=-1)
