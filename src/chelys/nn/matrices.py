"""Weights as matrix products read them fastest: from input to output, or in half precision.

b rows, i inputs, o outputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

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


class HalfLinear:
    """A linear layer on processors with weights in float16, packed as FBGEMM reads them; all else is float32.

    Weights are rounded to 11 bits, so results err by 2e-4 of their size. A row is the same whatever its company.
    Raises RuntimeError where torch has no such kernel.
    """

    def __init__(self, module: nn.Linear) -> None:
        self.packed = torch.ops.quantized.linear_prepack_fp16(module.weight.detach(), module.bias.detach())

    def __call__(self, x: Tensor) -> Tensor:
        """Rows ``(b, i)`` to ``(b, o)``."""
        result: Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self.packed)
        return result


def faster_in_halves(modules: Sequence[nn.Linear], rows: int) -> bool:
    """Whether this machine multiplies so many rows with weights in float16 clearly faster than with those in float32.

    It is measured, on layers of one shape that are too many for the caches together; False where torch cannot.
    """
    try:
        packed = [HalfLinear(module) for module in modules]
    except (RuntimeError, AttributeError):
        return False
    x = torch.ones(rows, modules[0].in_features)
    ways: tuple[Sequence[Callable[[Tensor], Tensor]], ...] = (packed, [*modules])
    seconds = [[_seconds(way, x) for way in ways] for _ in range(4)][1:]  # in turn, and not the first
    halves, plain = (min(column) for column in zip(*seconds, strict=True))
    return halves < 0.8 * plain


def _seconds(layers: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> float:
    started = time.perf_counter()
    for layer in layers:
        layer(x)
    return time.perf_counter() - started
