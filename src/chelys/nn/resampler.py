"""Perceiver resampler: any number of states to a fixed number of tokens (Alayrac et al. 2022, Flamingo, section 3.1).

b batch, t states, n tokens, d width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from chelys.nn.attention import attend


class CrossAttention(nn.Module):
    """Attention of some tokens over other states, with a skip; a fresh one is the identity."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.context_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key_value, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """``(b, n, d)`` and ``(b, t, d)`` to ``(b, n, d)``."""
        b, n, d = x.shape
        query = self.query(self.norm(x)).view(b, n, self.heads, -1).transpose(1, 2)
        key_value = self.key_value(self.context_norm(context)).view(b, -1, 2, self.heads, d // self.heads)
        key, value = key_value.permute(2, 0, 3, 1, 4)  # each (b, h, t, d/h)
        return x + self.out(attend(query, key, value).transpose(1, 2).reshape(b, n, d))


class PerceiverResampler(nn.Module):
    """Learned tokens attend to the states, layer by layer."""

    def __init__(self, dim: int, heads: int, tokens: int, layers: int = 2) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(tokens, dim) * 0.5)
        self.attention = nn.ModuleList(CrossAttention(dim, heads) for _ in range(layers))
        self.feed_forward = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, states: Tensor) -> Tensor:
        """``(b, t, d) -> (b, n, d)``."""
        x = self.tokens.to(states.dtype).expand(len(states), -1, -1)
        for attention, feed_forward in zip(self.attention, self.feed_forward, strict=True):
            x = attention(x, states)
            x = x + feed_forward(x)
        out: Tensor = self.norm(x)
        return out
