"""What a training step costs, counted while it runs: floating-point operations, and bytes that are alive.

Tensors may be real, or fake ones, which have shapes and no numbers (`torch._subclasses.FakeTensorMode`): a step of a
network of half a billion weights is then counted in seconds on any machine.

b batch, h heads, q queries, k keys, c channels of a head.
"""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from chelys.nn.attention import attend


def count_parameters(module: nn.Module) -> int:
    """Learned numbers of a network, without its buffers."""
    return sum(weight.numel() for weight in module.parameters())


class FlopCounter(TorchDispatchMode):
    """Counts floating-point operations of matrix products, convolutions and attention; a multiply-add is two.

    Fourier transforms and everything that goes entry by entry are left out. (torch's own counter watches modules too,
    by hooks that keep tensors alive, which would spoil a count of memory.)

    Attributes:
        total: Operations so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        # attention as it runs on a processor, which torch does not count of itself
        self._known = flop_registry | {
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_forward,
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
        }

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        count = self._known.get(func.overloadpacket)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=out)
        return out


def attention_flops(query: Iterable[int], key: Iterable[int], *, causal: bool, backward: bool = False) -> int:
    """Operations of attention over queries ``(b, h, q, c)`` and keys ``(b, h, k, c)``; causal ones see half.

    Two products forward; backward the first of them once more, then four.
    """
    b, h, q, c = query
    k = tuple(key)[2]
    product = 2 * b * h * q * k * c
    return product * (5 if backward else 2) // (2 if causal else 1)


def _attention_forward(
    query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0, causal: bool = False, *_: Any, **__: Any
) -> int:
    return attention_flops(query.shape, key.shape, causal=causal)


def _attention_backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, sums: Tensor, dropout: float,
    causal: bool, *_: Any, **__: Any,
) -> int:  # fmt: skip
    return attention_flops(query.shape, key.shape, causal=causal, backward=True)


class Allocations(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make, for as long as these live.

    Attributes:
        now: Bytes alive.
        peak: Most bytes that were alive at once.
        peak_apart: The same without what was set apart.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.peak_apart = 0
        self._apart = 0
        self._alive: set[int] = set()

    def watch(self, tensor: Tensor) -> None:
        """Count a tensor's memory until it is freed; views of memory that is counted already cost nothing."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        self.peak_apart = max(self.peak_apart, self.now - self._apart)
        weakref.finalize(storage, self._free, key, size)

    def set_apart(self, tensor: Tensor) -> None:
        """Count a tensor that lives to the end apart from the others; it must not be told of twice."""
        self._apart += tensor.untyped_storage().nbytes()

    def _free(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for item in tree_iter(out):
            if isinstance(item, Tensor):
                self.watch(item)
        return out


class FusedAttention(TorchFunctionMode):
    """Attention as graphics processors do it: no matrix of all queries and keys is kept, with or without dropout.

    On a processor torch keeps it where there is dropout, or where a bias is learned. This stands in for the fused
    kernel when a step is counted: it makes what that makes and computes nothing.

    Attributes:
        flops: Operations of the attention that was stood in for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is attend:
            return self._attend(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            query, key, value = args
            return self._attend(query, key, value, kwargs.get("attn_mask"), causal=kwargs.get("is_causal", False))
        return func(*args, **kwargs)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, causal: bool = False,
        dropout: float = 0.0,
    ) -> Tensor:  # fmt: skip
        def count(backward: bool) -> None:
            self.flops += attention_flops(query.shape, key.shape, causal=causal, backward=backward)

        if torch.is_autocast_enabled("cpu"):
            kind = torch.get_autocast_dtype("cpu")
            query, key, value = query.to(kind), key.to(kind), value.to(kind)
            if mask is not None and mask.is_floating_point():
                mask = mask.to(kind)
        return _StandIn.apply(query, key, value, mask, count)


class _StandIn(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, count: Callable[[bool], None]
    ) -> Tensor:
        count(False)
        out = torch.empty_like(query)
        context.save_for_backward(query, key, value, bias, out, out.new_empty(out.shape[:-1], dtype=torch.float32))
        context.count = count
        return out

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        query, key, value, bias, _, _ = context.saved_tensors
        context.count(True)
        of_bias = None
        if context.needs_input_grad[3]:  # the kernel writes one for each row of the batch, then they are summed
            b, h, q, _ = query.shape
            of_bias = query.new_empty((b, h, q, key.shape[2])).sum_to_size(bias.shape)
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), of_bias, None


def matrix_rate(precision: str = "bfloat16", size: int = 1024, repeats: int = 12) -> float:
    """What this machine's processor reaches in products of square matrices.

    Args:
        precision: Of the matrices.
        size: Of a side.
        repeats: The median of so many counts.

    Returns:
        FLOP/s of wall time, with as many threads as torch uses.
    """
    a, b = torch.ones(2, size, size, dtype=getattr(torch, precision))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(times)
