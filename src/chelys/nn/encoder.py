"""Blocks that read a whole sequence at once: the encoders of CLVP and CVVP are stacks of them.

Choices: pre-norm with RMSNorm, rotary positions (so no length is too long), gated feed-forward, no causal mask.
The published networks also turn the *values* by their position, which is not what rotary encoding means; their
weights were trained so, hence `rotate_values`.

Letters: b batch, s sequence, d width, h heads, c channels of a head.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from chelys.nn.attention import apply_rotary, attend
from chelys.nn.norms import RMSNorm


class Attention(nn.Module):
    """Every position looks at every other one that is not padding."""

    def __init__(self, dim: int, heads: int, *, head_dim: int, rotate_values: bool, dropout: float) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.rotate_values, self.dropout = rotate_values, dropout
        inner = heads * head_dim
        self.query = nn.Linear(dim, inner, bias=False)
        self.key = nn.Linear(dim, inner, bias=False)
        self.value = nn.Linear(dim, inner, bias=False)
        self.output = nn.Linear(inner, dim)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """(b, s, d) -> (b, s, d); the mask is (b, 1, 1, s), true where there is something to see."""
        query, key, value = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        query, key = apply_rotary(query, *rotary), apply_rotary(key, *rotary)
        if self.rotate_values:
            value = apply_rotary(value, *rotary)
        dropout = self.dropout if self.training else 0.0
        seen = attend(query, key, value, mask, dropout=dropout)
        return self.output(seen.transpose(1, 2).flatten(2))  # (b, h, s, c) -> (b, s, h c)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)  # (b, s, h c) -> (b, h, s, c)


class FeedForward(nn.Module):
    """Two halves of one projection, the second gating the first (Shazeer 2020, GEGLU)."""

    def __init__(self, dim: int, multiple: int, dropout: float) -> None:
        super().__init__()
        inner = multiple * dim
        self.input = nn.Linear(dim, 2 * inner)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(b, s, d) -> (b, s, d)."""
        value, gate = self.input(x).chunk(2, dim=-1)
        return self.output(self.dropout(value * F.gelu(gate)))


class EncoderBlock(nn.Module):
    """Attention and feed-forward, each on the normalised stream and added to it."""

    def __init__(
        self, dim: int, heads: int, *, head_dim: int = 64, ff_mult: int = 2, rotate_values: bool = False,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        """Make the block.

        Args:
            dim: Width d of the stream.
            heads: Attention heads h.
            head_dim: Channels c of a head; h c need not equal d.
            ff_mult: Inner width of the feed-forward, in units of d.
            rotate_values: Turn values by their position, too.
            dropout: Of attention weights and of the inner feed-forward, in training only.
        """
        super().__init__()
        self.attention_norm = RMSNorm(dim)
        self.attention = Attention(dim, heads, head_dim=head_dim, rotate_values=rotate_values, dropout=dropout)
        self.feed_forward_norm = RMSNorm(dim)
        self.feed_forward = FeedForward(dim, ff_mult, dropout)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        """``(b, s, d) -> (b, s, d)``, with the `nn.attention.rotary_tables` of the positions.

        The mask ``(b, 1, 1, s)`` is true where there is something to see; None where that is everywhere.
        """
        x = x + self.attention(self.attention_norm(x), rotary, mask)
        return x + self.feed_forward(self.feed_forward_norm(x))
