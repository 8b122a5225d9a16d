"""Weights as matrix products read them fastest: from input to output."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: Bytes of weights up to which they are laid anew; those of larger networks stay mapped from their files.
MOST_LAID = 64 << 20


def matrix(module: nn.Linear | nn.Conv1d) -> Tensor:
    """Weights of a linear layer ``(i, o)``, or of each tap of a convolution ``(taps, i, o)``; a view."""
    weight = module.weight
    return weight.t() if weight.ndim == 2 else weight.permute(2, 1, 0)


def lay_out(modules: Sequence[nn.Linear | nn.Conv1d]) -> None:
    """Move weights that are not trained so that ``matrix`` is contiguous: the same numbers in the same tensors.

    Where they are too many together nothing is moved.
    """
    if sum(module.weight.nbytes for module in modules) > MOST_LAID:
        return
    for module in modules:
        if not module.weight.requires_grad and not matrix(module).is_contiguous():
            with torch.inference_mode(module.weight.is_inference()):
                laid = matrix(module).contiguous()
                module.weight.data = laid.t() if laid.ndim == 2 else laid.permute(2, 1, 0)
