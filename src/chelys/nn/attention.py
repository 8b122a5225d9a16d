"""Attention over time with a skip, as the conditioning encoders and the diffusion decoder use it.

b batch, c channels, t time, h heads.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_variadic

from chelys.nn.norms import group_norm

#: Largest matrix of queries and keys that training on a processor writes out.
MOST_WRITTEN_OUT = 1024**2


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Attention over all keys.

    Where a processor trains in half precision the formula is written out: torch's fused kernel is there two to four
    times slower over sequences as short as speech makes them, mostly in its backward pass. All else has the kernel.

    Args:
        query: ``(b, h, q, c)``.
        key: ``(b, h, k, c)``.
        value: ``(b, h, k, c)``.
        mask: What each query sees, bool, or what is added to the scaled logits; broadcasts to ``(b, h, q, k)``.
        causal: No query sees the keys after it; then there is no mask.
        dropout: Share of the weights that is dropped.

    Returns:
        ``(b, h, q, c)``.
    """
    if has_torch_function_variadic(query, key, value):  # counters of operations count this call as one
        return handle_torch_function(
            attend, (query, key, value), query, key, value, mask, causal=causal, dropout=dropout
        )
    half = query.dtype in (torch.bfloat16, torch.float16)
    trained = half and query.device.type == "cpu" and query.requires_grad and torch.is_grad_enabled()
    if not trained or query.shape[2] * key.shape[2] > MOST_WRITTEN_OUT:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal, dropout_p=dropout)
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)  # (b, h, q, k)
    if causal:
        logits += torch.full(logits.shape[-2:], float("-inf"), dtype=logits.dtype).triu(1)
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape, dtype=logits.dtype).masked_fill_(~mask, float("-inf"))
        logits = logits + mask
    weights = logits.softmax(-1)
    return (F.dropout(weights, dropout) if dropout else weights) @ value


class RelativePositionBias(nn.Module):
    """T5's bucketed bias (Raffel et al. 2020), both ways, times the root of the head size.

    Distances up to 7 have buckets of their own; from 8 to 64 they share eight by logarithm, and all farther ones the
    last.
    """

    def __init__(self, heads: int, head_dim: int, buckets: int = 32, max_distance: int = 64) -> None:
        super().__init__()
        self.scale = math.sqrt(head_dim)
        self.buckets, self.max_distance = buckets, max_distance
        self.weight = nn.Embedding(buckets, heads)

    def bucket(self, distance: Tensor) -> Tensor:
        """Bucket of each key-minus-query distance."""
        side = self.buckets // 2
        near = side // 2
        away = distance.abs()
        ratio = torch.log(away.clamp(min=1).float() / near) / math.log(self.max_distance / near)
        far = (near + (ratio * (side - near)).long()).clamp(max=side - 1)
        return torch.where(distance > 0, side, 0) + torch.where(away < near, away, far)

    def forward(self, length: int) -> Tensor:
        """``(1, h, t, t)``, to be added to the scaled logits."""
        at = torch.arange(length, device=self.weight.weight.device)
        bias = self.weight(self.bucket(at[None, :] - at[:, None]))  # (t, t, h), query first
        return bias.permute(2, 0, 1).unsqueeze(0) * self.scale

    def reversed(self, length: int) -> Tensor:
        """The same numbers for queries from the last to the first, ``(1, h, t, t)``, as a view of ``(h, 2 t - 1)``.

        A row of a Toeplitz matrix is a window of one table. In this order the windows move forward, so a stride does
        it, and nothing of size t * t is computed or kept from step to step.
        """
        distances = torch.arange(1 - length, length, device=self.weight.weight.device)
        table = (self.weight(self.bucket(distances)) * self.scale).t().contiguous()  # (h, 2 t - 1)
        return table.unfold(1, length, 1).unsqueeze(0)


class AttentionBlock(nn.Module):
    """Group norm, attention over all of time, skip. Query, key and value lie together head by head."""

    def __init__(self, channels: int, heads: int, *, relative: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)
        self.position = RelativePositionBias(heads, channels // heads) if relative else None
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: ``(b, c, t)``.
            mask: True where there is sound, ``(b, t)``; None where all rows are full.

        Returns:
            ``(b, c, t)``.
        """
        b, c, t = x.shape
        qkv = self.qkv(self.norm(x)).view(b, self.heads, 3, c // self.heads, t).transpose(-1, -2)
        query, key, value = qkv.unbind(2)  # each (b, h, t, c/h)
        backwards = self.position is not None and not torch.is_grad_enabled()
        bias = None
        if self.position is not None:
            bias = (self.position.reversed(t) if backwards else self.position(t)).to(x.dtype)
            if x.device.type != "cpu":  # copying is cheap there, and fused kernels want masks that are aligned
                bias = bias.contiguous()
        if mask is not None:
            barrier = torch.zeros(b, 1, 1, t, dtype=x.dtype, device=x.device)
            barrier.masked_fill_(~mask[:, None, None, :], float("-inf"))
            bias = barrier if bias is None else bias + barrier
        attended = attend(query.flip(2) if backwards else query, key, value, bias)
        if backwards:
            attended = attended.flip(2)
        return x + self.out(attended.transpose(-1, -2).reshape(b, c, t))
