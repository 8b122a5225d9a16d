"""Normalisations that more than one network uses.

Letters: b batch, c channels, t time, d width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
        wide = x.float()
        # Not mean().sqrt(): the gradient of that root is not a number at a vector of zeros.
        root_mean_square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True) * wide.shape[-1] ** -0.5
        return (wide / root_mean_square.clamp(min=self.floor) * self.weight.float()).to(x.dtype)


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
