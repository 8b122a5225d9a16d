"""Normalisations that more than one network uses, of activations and of weights.

b batch, c channels, t time, d width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

LARGEST_GROUP_COUNT = 32


class RMSNorm(nn.Module):
    """Divide each vector by its root mean square, then scale each entry.

    The floor is on the root mean square itself, not inside the root as in most libraries: the published CLVP was
    trained so.

    Source: Zhang and Sennrich 2019, Root Mean Square Layer Normalization.
    """

    def __init__(self, dim: int, floor: float = 1e-8) -> None:
        super().__init__()
        self.floor = floor
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis of (..., d) in float32."""
        wide, weight = x.float(), self.weight.float()
        if torch.is_grad_enabled() and wide.requires_grad:
            return _TrainedRMSNorm.apply(wide, weight, self.floor).to(x.dtype)
        return (wide / root_mean_square(wide).clamp(min=self.floor) * weight).to(x.dtype)


def root_mean_square(x: Tensor) -> Tensor:
    """Of each vector of (..., d), as (..., 1)."""
    # Not mean().sqrt(): the gradient of that root is not a number at a vector of zeros.
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True) * x.shape[-1] ** -0.5


class _TrainedRMSNorm(torch.autograd.Function):
    """The same with its gradient written out: half the time of what autograd makes of the formula.

    With n = x / r, r the root mean square: dx = (g w - n mean(g w n)) / r; where the floor holds, r is a constant and
    the second term is not there.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, floor: float) -> Tensor:
        divisor = root_mean_square(x)
        follows = divisor > floor  # else the divisor is the floor, whatever x is
        inverse = divisor.clamp_(min=floor).reciprocal_()
        ctx.save_for_backward(x, inverse, follows, weight)
        return (x * inverse).mul_(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, inverse, follows, weight = ctx.saved_tensors
        normed = x * inverse
        of_weight = (gradient * normed).flatten(0, -2).sum(0)
        inner = gradient * weight
        along = torch.linalg.vecdot(inner, normed).unsqueeze(-1).mul_(follows / x.shape[-1])
        return torch.addcmul(inner, normed, along, value=-1).mul_(inverse), of_weight, None


class GroupNorm(nn.GroupNorm):
    """Group norm that computes in float32 whatever the precision of its input, and answers in that precision."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (b, c, t) over the channels of each group and all of time."""
        weight, bias = self.weight.float(), self.bias.float()
        return F.group_norm(input.float(), self.num_groups, weight, bias, self.eps).to(input.dtype)


def group_count(channels: int) -> int:
    """How many groups TorToise normalises `channels` in: fewer for narrow layers, and always a divisor."""
    if channels <= 16:
        groups = 8
    elif channels <= 64:
        groups = 16
    else:
        groups = LARGEST_GROUP_COUNT
    while channels % groups:
        groups //= 2
    return groups


def group_norm(channels: int) -> GroupNorm:
    """The group norm of TorToise for this many channels.

    Source: Wu and He 2018, Group Normalization; the rule for the number of groups is TorToise's.
    """
    return GroupNorm(group_count(channels), channels)


class WeightNormed(nn.Module):
    """A network whose kernels can be held as direction and length (weight norm; Salimans and Kingma 2016).

    Training wants that, and the published vocoders are stored so; synthesis does not need it.
    """

    def normed(self) -> list[nn.Module]:
        """The convolutions that are held so."""
        return [module for module in self.modules() if isinstance(module, nn.Conv1d | nn.ConvTranspose1d)]

    def fold(self) -> None:
        """Make plain kernels of directions and lengths: the same waveform, fewer steps."""
        for module in self.normed():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")

    def unfold(self) -> None:
        """Hold each kernel as direction and length, where it is not already: the same waveform, easier to train."""
        for module in self.normed():
            if not parametrize.is_parametrized(module, "weight"):
                weight_norm(module, dim=0)  # for the transposed ones, too, although their axis 0 is the input
