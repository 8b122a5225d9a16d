"""Keys and values of the columns that a decoder has already read.

Layout: one pair of tensors ``(b, h, capacity, c)`` for each layer, filled from the left; ``length`` columns are in use
in all layers alike. ``valid`` ``(b, capacity)`` marks columns that hold padding of shorter rows, where there are any.
"""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Room for the keys and values of ``capacity`` columns."""

    def __init__(self, layers: int, batch: int, heads: int, capacity: int, head_dim: int, like: Tensor) -> None:
        shape = (batch, heads, capacity, head_dim)
        self.keys = [torch.empty(shape, dtype=like.dtype, device=like.device) for _ in range(layers)]
        self.values = [torch.empty_like(k) for k in self.keys]
        self.valid: Tensor | None = None
        self.length = 0

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store new columns ``(b, h, t, c)`` of a layer and give back all columns so far, the new ones included."""
        end = self.length + key.shape[2]
        self.keys[layer][:, :, self.length : end] = key
        self.values[layer][:, :, self.length : end] = value
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def mask(self, new: int) -> Tensor | None:
        """Columns that the one new query may see, ``(b, 1, 1, t)``; None where that is all of them."""
        return None if self.valid is None else self.valid[:, None, None, : self.length + new]

    def select(self, rows: Tensor) -> None:
        """Keep or repeat rows: the new row i is the old row ``rows[i]``."""
        used = self.length
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                fresh = old.new_empty((len(rows), *old.shape[1:]))
                fresh[:, :, :used] = old[rows, :, :used]
                tensors[layer] = fresh
        if self.valid is not None:
            self.valid = self.valid[rows]
