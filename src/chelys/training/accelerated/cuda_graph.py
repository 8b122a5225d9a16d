"""Forward and backward pass as one CUDA graph."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from chelys.training.task import map_tensors, tensors_of

log = logging.getLogger(__name__)


class GraphedPass:
    """Forward and backward pass of a module, recorded as a CUDA graph for each shape of its batch.

    Launching the many small kernels of a small network takes longer than running them; a graph is launched at once.
    """

    def __init__(self, forward: Callable[[Any], Tensor], network: nn.Module, generator: torch.Generator) -> None:
        self.forward, self.generator = forward, generator
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self._recorded: dict[Any, tuple[Any, Any, Tensor, list[Tensor | None]]] = {}
        self._seen: dict[Any, int] = {}
        self._pool: Any = None
        self.enabled = True

    def __call__(self, batch: Any) -> Tensor:
        """Loss of a batch, with gradients in place of those that were there."""
        key = tuple(tuple(tensor.shape) for tensor in tensors_of(batch).values())
        if self.enabled and key not in self._recorded and self._seen.get(key, 0) >= 3:
            try:
                self._recorded[key] = self._record(batch)
            except RuntimeError as error:
                log.warning("no CUDA graph (%s); the stage goes on without", str(error).splitlines()[0])
                self.enabled = False
                torch.cuda.synchronize()
        if not self.enabled or key not in self._recorded:
            self._seen[key] = self._seen.get(key, 0) + 1
            return self._backward(batch)
        graph, static, loss, gradients = self._recorded[key]
        for target, source in zip(tensors_of(static).values(), tensors_of(batch).values(), strict=True):
            target.copy_(source)
        graph.replay()
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss.clone()

    def _backward(self, batch: Any) -> Tensor:
        for parameter in self.parameters:
            parameter.grad = None
        loss = self.forward(batch)
        loss.backward()
        return loss.detach()

    def _record(self, batch: Any) -> tuple[Any, Any, Tensor, list[Tensor | None]]:
        static = map_tensors(batch, torch.clone)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._backward(static)
        torch.cuda.current_stream().wait_stream(stream)
        for parameter in self.parameters:
            parameter.grad = None
        with torch.cuda.graph(graph, pool=self._pool):
            loss = self._backward(static)
        self._pool = graph.pool()
        return graph, static, loss, [parameter.grad for parameter in self.parameters]
