"""Gradient checkpointing: blocks compute again what they would otherwise keep (Chen et al. 2016, arXiv 1604.06174)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from chelys.models import autoregressive, diffusion
from chelys.nn.attention import AttentionBlock
from chelys.nn.encoder import EncoderBlock
from chelys.training.discriminators import PeriodDiscriminator, SpectrogramDiscriminator

#: Modules that repeat: what is computed again, and what FSDP cuts a network along.
REPEATED = (autoregressive.Block, diffusion.DiffusionLayer, diffusion.ResidualBlock, AttentionBlock, EncoderBlock)
BLOCKS = (*REPEATED, SpectrogramDiscriminator, PeriodDiscriminator)


def recompute_blocks(network: nn.Module) -> int:
    """Make the repeated blocks of a network compute again in the backward pass; the outermost where they nest.

    Returns:
        How many there are.
    """
    found: list[str] = []
    for name, module in network.named_modules():
        if isinstance(module, REPEATED) and not any(name.startswith(f"{outer}.") for outer in found):
            found.append(name)
            module.forward = _again(module.forward)  # type: ignore[method-assign]
    return len(found)


def _again(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any, **keywords: Any) -> Any:
        if not torch.is_grad_enabled():  # evaluation keeps nothing anyhow
            return forward(*arguments, **keywords)
        return checkpoint(forward, *arguments, use_reentrant=False, **keywords)

    return run
