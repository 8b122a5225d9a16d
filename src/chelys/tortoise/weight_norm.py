"""Convolutions whose kernels are held as direction and length (weight norm; Salimans and Kingma 2016).

Training wants it, and the published vocoders are stored so; synthesis does not need it.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm


def fold(modules: Iterable[nn.Module]) -> None:
    """Make plain kernels of directions and lengths, where there are such: the same output, fewer steps."""
    for module in modules:
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")


def unfold(modules: Iterable[nn.Module]) -> None:
    """Hold each kernel as direction and length, where it is not already: the same output, easier to train."""
    for module in modules:
        if not parametrize.is_parametrized(module, "weight"):
            weight_norm(module, dim=0)  # for the transposed ones, too, although their axis 0 is the input
