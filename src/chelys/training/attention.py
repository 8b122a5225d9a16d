"""Where the autoregressive decoder looks: attention of its blocks, computed anew for a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from chelys.models.autoregressive import Autoregressive, Block
from chelys.nn.rotary import apply_rotary


def attention_of(decoder: Autoregressive, run: Callable[[], Any]) -> list[Tensor]:
    """Attention weights of each layer, mean over heads.

    Args:
        decoder: Teacher-forced by ``run``.
        run: Calls the decoder with one row.

    Returns:
        ``(l, l)`` each: row q says where column q of the sequence looks.
    """
    weights: list[Tensor] = []

    def weigh(block: Block, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, rotary = inputs[:2]
        _, length, d = x.shape
        qkv = block.qkv(block.attention_norm(x)).view(1, length, 3, block.heads, d // block.heads)
        query, key, _ = qkv.permute(2, 0, 3, 1, 4).float()
        if rotary is not None:
            query, key = apply_rotary(query, *rotary), apply_rotary(key, *rotary)
        logits = query @ key.transpose(-1, -2) / (d // block.heads) ** 0.5
        ahead = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        weights.append(logits.masked_fill(ahead, float("-inf")).softmax(-1)[0].mean(0))

    # before those that cut a network into pieces again once a block has run (FSDP)
    handles = [block.register_forward_hook(weigh, prepend=True) for block in decoder.blocks]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return weights
