"""Reads sampled codes for the autoregressive decoder, of several groups of rows at once: the numbers of
``Autoregressive.read_code``, in less time.

A group is the candidates of one text: rows of one length, with keys and values of their own. What costs most, the
linear layers, reads the rows of all groups as one matrix; attention looks at one group at a time. So nothing is padded,
groups join and leave between two steps without moving the others, and no row sees another group.

A row is the same to the bit whatever its company, as long as a row of a matrix product is. The kernels that torch has
for processors sum each row in one order if there are ``LEAST_ROWS`` of them, however many more; fewer are filled up.

b rows of all groups, d width, h heads, c channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from chelys.models.autoregressive import Autoregressive, Block
from chelys.nn.attention import KVCache, apply_rotary, attend

#: Rows that a matrix product has at least.
LEAST_ROWS = 4


class CodeReader:
    """A decoder in evaluation mode, ready to read codes."""

    def __init__(self, decoder: Autoregressive) -> None:
        self.decoder = decoder
        self._rotary: tuple[Tensor, Tensor] | None = None  # a row for each position, grown as needed

    @torch.inference_mode()
    def read(self, codes: Tensor, groups: Sequence[tuple[int, int, KVCache]]) -> Tensor:
        """Read one more code a row.

        ``codes``: ``(b,)``, group after group. ``groups``: of each its rows, the number of its code, of which the first
        sampled one is 1, and its cache, which grows by a column. Returns latents of the next codes ``(b, d)``, for
        ``logits``.
        """
        decoder, b = self.decoder, len(codes)
        x = decoder.code_embedding(codes)
        positions = _rows([number for _, number, _ in groups], groups, codes.device)
        if decoder.config.positions == "learned":
            x = x + decoder.code_position(positions)
        if b < LEAST_ROWS:
            x, positions = F.pad(x, (0, 0, 0, LEAST_ROWS - b)), F.pad(positions, (0, LEAST_ROWS - b))
        rotary = self._angles(positions, max(number for _, number, _ in groups))
        heads = decoder.config.heads
        for layer, block in enumerate(cast(list[Block], decoder.blocks)):
            turned = block.qkv(block.attention_norm(x)).view(len(x), 3, heads, 1, -1).transpose(0, 1)  # (3, b, h, 1, c)
            query_key, values = turned[:2], turned[2]
            if rotary is not None:
                query_key = apply_rotary(query_key, *rotary)
            seen, first = [], 0
            for rows, _, cache in groups:
                mine = slice(first, first + rows)
                seen.append(attend(query_key[0, mine], *cache.extend(layer, query_key[1, mine], values[mine])))
                first += rows
            attended = (seen[0] if len(seen) == 1 else torch.cat(seen)).flatten(1)
            if b < LEAST_ROWS:
                attended = F.pad(attended, (0, 0, 0, LEAST_ROWS - b))
            x = x + block.out(attended)
            x = x + block.down(F.gelu(block.up(block.mlp_norm(x)), approximate="tanh"))
        for _, _, cache in groups:
            cache.length += 1
        latents: Tensor = decoder.final_norm(decoder.block_norm(x))
        return latents[:b]

    def logits(self, latents: Tensor) -> Tensor:
        """Logits ``(b, ids)`` of latents ``(b, d)``, float32."""
        b = len(latents)
        logits: Tensor = self.decoder.code_head(F.pad(latents, (0, 0, 0, max(0, LEAST_ROWS - b))))
        return logits[:b].float()

    def _angles(self, positions: Tensor, largest: int) -> tuple[Tensor, Tensor] | None:
        if self.decoder.config.positions == "learned":
            return None
        if self._rotary is None or len(self._rotary[0]) <= largest:
            tables = self.decoder._rotary(torch.arange(2 * largest + 64, device=positions.device))
            assert tables is not None
            self._rotary = tables
        cosines, sines = (table[positions][:, None, None] for table in self._rotary)  # (b, 1, 1, c / 2)
        return cosines, sines


def _rows(numbers: Sequence[int], groups: Sequence[tuple[int, int, KVCache]], device: torch.device) -> Tensor:
    """A number for each group as one for each of its rows."""
    each = [number for number, (rows, _, _) in zip(numbers, groups, strict=True) for _ in range(rows)]
    return torch.tensor(each, device=device)
