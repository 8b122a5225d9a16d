"""A network in training: its optimiser, its gradients, their clipping, and the scale that keeps float16 in range."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from chelys.training.ranks import Ranks
from chelys.training.schedule import LoopConfig

#: Loss scale of float16: where it starts, and after how many good steps it doubles.
FIRST_SCALE, GOOD_STEPS = 2.0**16, 1000
#: Steps in a row that float16 may lose to an overflow; the scale is then a thousandth of what it was.
MOST_LOST = 10
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Player:
    """A module and what trains it.

    Attributes:
        network: The module itself.
        optimizer: AdamW; matrices decay, vectors do not.
        scale: Of the loss; 1 but in float16.
    """

    def __init__(self, network: nn.Module, config: LoopConfig, ranks: Ranks) -> None:
        self.network, self.config, self.ranks = network.to(ranks.device), config, ranks
        trained = [p for p in network.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        # On a processor one pass over the weights in place of seven; a GPU has torch's choice, and pieces need it.
        fused = True if ranks.device.type == "cpu" and not ranks.sharded else None
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=fused)
        self.inside = ranks.prepare(network, self.optimizer)
        self.scale = FIRST_SCALE if config.precision == "float16" else 1.0
        self._good = self._lost = 0

    def run(self, work: Callable[[], Any]) -> Any:
        """Run what uses the network, in its precision."""
        with self.autocast():
            return self.inside(work)

    def look(self, work: Callable[[], Any], *, precision: str | None = None) -> Any:
        """Run what uses the network without training it, in its precision or another."""
        with torch.no_grad(), autocast(self.ranks.device, precision or self.config.precision):
            return self.inside(work) if self.ranks.sharded else work()

    def autocast(self) -> torch.autocast:
        """Context in which networks compute in the configured precision."""
        return autocast(self.ranks.device, self.config.precision)

    def without_sync(self, *, last: bool) -> AbstractContextManager[Any]:
        """Context of a part's backward pass; processes exchange gradients in that of the last one alone."""
        return self.ranks.without_sync(self.inside, last)

    def begin(self, rate: float) -> None:
        """Forget the gradients of the step before."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> dict[str, float]:
        """Clip the gradients and take a step.

        Returns:
            Norm of the gradient before and after clipping; the first is not finite where the step was not taken.
        """
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        if self.ranks.sharded:
            self._average_scalars()
        norm = gradient_norm(gradients) / self.scale
        if not math.isfinite(norm):
            self._lost, self._good = self._lost + 1, 0
            if self.config.precision == "float16":
                self.scale /= 2
            return {"gradient": norm}
        shrunk = min(1.0, self.config.clip / (norm + 1e-6))
        if shrunk < 1 or self.scale != 1:
            for gradient in gradients:
                gradient.mul_(shrunk / self.scale)
        clipped = gradient_norm(gradients)
        if clipped > self.config.clip * 1.001:
            raise RuntimeError(f"the gradient's norm is {clipped} after clipping to {self.config.clip}")
        self.optimizer.step()
        self._lost, self._good = 0, self._good + 1
        if self.config.precision == "float16" and self._good % GOOD_STEPS == 0:
            self.scale *= 2
        return {"gradient": norm, "gradient_clipped": clipped}

    @property
    def may_lose(self) -> bool:
        """Whether a step with an overflow may be passed over: in float16 the scale has yet to be found."""
        return self.config.precision == "float16" and self._lost <= MOST_LOST

    def _average_scalars(self) -> None:
        for parameter in self.network.parameters():
            if parameter.ndim == 0 and parameter.grad is not None:  # FSDP knows nothing of them
                parameter.grad.copy_(self.ranks.sum(parameter.grad) / self.ranks.world)

    def state(self) -> dict[str, Tensor]:
        """State of the optimiser and of the scale by name, whole: all processes must ask for it."""
        found = {
            f"{name}.{key}": whole(torch.as_tensor(value))
            for name, parameter in self.network.named_parameters()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }
        if self.config.precision == "float16":
            found["loss_scale"] = torch.tensor([self.scale, self._good, self._lost], dtype=torch.float64)
        return found

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""
        state = dict(state)
        scale = state.pop("loss_scale", None)
        if scale is not None and self.config.precision == "float16":
            self.scale, self._good, self._lost = float(scale[0]), int(scale[1]), int(scale[2])
        parameters = dict(self.network.named_parameters())
        for key, value in state.items():
            name, _, kind = key.rpartition(".")
            parameter = parameters[name]
            moved = value if kind == "step" else like(parameter, value)
            self.optimizer.state[parameter][kind] = moved


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context in which networks compute in a precision."""
    return torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "float32")


def gradient_norm(gradients: Iterable[Tensor]) -> float:
    """Norm of all gradients together, of all their pieces where they are cut."""
    gradients = list(gradients)
    total = 0.0
    for cut in (True, False):  # the two kinds do not mix
        norms = [torch.linalg.vector_norm(g.float()) for g in gradients if hasattr(g, "full_tensor") is cut]
        if norms:
            total += float(whole(torch.linalg.vector_norm(torch.stack(norms)))) ** 2
    return math.sqrt(total) if total >= 0 else math.nan


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be cut over processes, in one piece; all processes must ask for it."""
    tensor = tensor.detach()
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def like(pattern: Tensor, tensor: Tensor) -> Tensor:
    """A whole tensor laid out as another one is: on its device, cut as it is cut."""
    tensor = tensor.to(pattern.device)
    if not hasattr(pattern, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, pattern.device_mesh, pattern.placements)  # type: ignore[attr-defined]
