"""Attention, its positions (rotary, or T5's relative bias) and its cache of keys and values.

The rotary embedding (Su et al. 2021, RoFormer, section 3.4) turns a vector by an angle that grows with its position.
The dot product of two turned vectors depends on the distance of their positions alone, so no table of positions caps
the length. Entry j is paired with entry j + r / 2 ("rotate half").

b batch, c channels, t time, h heads, r rotary_dim (r <= c: the rest of a head is not turned).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_variadic

from chelys.nn.norms import group_norm

WAVELENGTH_BASE = 10_000.0


def rotary_frequencies(
    rotary_dim: int, base: float = WAVELENGTH_BASE, device: torch.device | str | None = None
) -> Tensor:
    """Angle per step of each pair, (r / 2,) radians, float32: from 1 down to almost 1 / base."""
    assert rotary_dim % 2 == 0, f"rotary_dim pairs entries, so it is even; got {rotary_dim}"
    exponents = torch.arange(0, rotary_dim, 2, dtype=torch.float32, device=device) / rotary_dim
    return 1.0 / base**exponents


def rotary_tables(positions: Tensor, rotary_dim: int, base: float = WAVELENGTH_BASE) -> tuple[Tensor, Tensor]:
    """Cosines and sines for positions, integers from 0, ``(t,)`` shared by the batch, or ``(b, t)`` one row each.

    Each is ``(t, r / 2)`` float32, or ``(b, 1, t, r / 2)``: both broadcast over heads. The longest wavelength is nearly
    2 pi times ``base`` positions.
    """
    angles = positions[..., None].float() * rotary_frequencies(rotary_dim, base, positions.device)  # (..., t, r / 2)
    if positions.dim() == 2:
        angles = angles[:, None]  # (b, 1, t, r / 2)
    return angles.cos(), angles.sin()


def apply_rotary(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn the first r entries of each head by the angles of the `rotary_tables`; the others pass unchanged.

    ``(b, h, t, c)`` queries, keys or values, in their own precision.
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


#: Largest matrix of queries and keys that training on a processor writes out.
MOST_WRITTEN_OUT = 1024**2


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, causal: bool = False, dropout: float = 0.0
) -> Tensor:  # fmt: skip
    """Attention of queries ``(b, h, q, c)`` over all keys and values ``(b, h, k, c)``: ``(b, h, q, c)``.

    Where a processor trains in half precision the formula is written out: torch's fused kernel is there two to four
    times slower over sequences as short as speech makes them, mostly in its backward pass. All else has the kernel.

    Args:
        mask: What each query sees, bool, or what is added to the scaled logits; broadcasts to ``(b, h, q, k)``.
        causal: No query sees the keys after it; then there is no mask.
        dropout: Share of the weights that is dropped.
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
        """``(b, c, t) -> (b, c, t)``; the mask ``(b, t)`` is true where there is sound, None where rows are full."""
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


class KVCache:
    """Room for the keys and values of ``capacity`` columns that a decoder has already read.

    ``store`` ``(layers, 2, b, h, capacity, c)`` is filled from the left; ``length`` columns are in use in all layers
    alike. ``valid`` ``(b, capacity)`` marks columns that hold no padding of shorter rows, where there are any.
    """

    def __init__(self, layers: int, batch: int, heads: int, capacity: int, head_dim: int, like: Tensor) -> None:
        self.store = like.new_empty((layers, 2, batch, heads, capacity, head_dim))
        self.valid: Tensor | None = None
        self.length = 0

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store new columns ``(b, h, t, c)`` of a layer and give back all columns so far, the new ones included."""
        end = self.length + key.shape[2]
        keys, values = self.store[layer, 0], self.store[layer, 1]
        keys[:, :, self.length : end] = key
        values[:, :, self.length : end] = value
        return keys[:, :, :end], values[:, :, :end]

    def next_column(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each layer, where its keys and values of one new column go ``(2, b, h, c)``, and all keys and values
        ``(b, h, t, c)`` with that column, the last one. Views of the store, few operators for all layers."""
        places = self.store.select(4, self.length).unbind()
        seen = self.store.narrow(4, 0, self.length + 1).flatten(0, 1).unbind()
        return list(zip(places, seen[::2], seen[1::2], strict=True))

    def mask(self, new: int) -> Tensor | None:
        """Columns that the one new query may see, ``(b, 1, 1, t)``; None where that is all of them."""
        return None if self.valid is None else self.valid[:, None, None, : self.length + new]

    def select(self, rows: Tensor) -> None:
        """Keep or repeat rows: the new row i is the old row ``rows[i]``."""
        used = self.length
        fresh = self.store.new_empty((*self.store.shape[:2], len(rows), *self.store.shape[3:]))
        fresh[:, :, :, :, :used] = self.store[:, :, rows, :, :used]
        self.store = fresh
        if self.valid is not None:
            self.valid = self.valid[rows]

    def repeated(self, rows: int, capacity: int) -> KVCache:
        """A cache of so many copies of the only row, which has no padding, with room for ``capacity`` columns."""
        layers, _, _, heads, _, channels = self.store.shape
        made = KVCache(layers, rows, heads, capacity, channels, self.store)
        made.store[..., : self.length, :] = self.store[..., : self.length, :]
        made.length = self.length
        return made

    def keep(self, rows: Sequence[int]) -> list[int]:
        """Drop all but some rows, one at least: the last ones move to where others leave, and nothing else is copied.

        ``rows``: rising. Returns which old row each new row is.
        """
        count, kept = len(rows), set(rows)
        order = list(range(count))
        movers = (row for row in rows if row >= count)
        for hole in (row for row in range(count) if row not in kept):
            order[hole] = row = next(movers)
            self.store[:, :, hole, :, : self.length] = self.store[:, :, row, :, : self.length]
            if self.valid is not None:
                self.valid[hole] = self.valid[row]
        self.store = self.store[:, :, :count]
        if self.valid is not None:
            self.valid = self.valid[:count]
        return order
