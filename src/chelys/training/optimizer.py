"""A network and its optimizer: AdamW, gradient clipping, mixed precision, loss scale, average of the weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from chelys.training.checkpoint import shard_like, unshard
from chelys.training.config import LoopConfig
from chelys.training.distributed import DistributedContext
from chelys.weights.checks import as_dtype, best_dtype

log = logging.getLogger(__name__)

#: Loss scale of float16: its first value, and the good steps after which it doubles.
INIT_SCALE, GROWTH_INTERVAL = 2.0**16, 1000
#: Steps in a row that float16 may skip for an overflow; the scale is then a thousandth of what it was.
MAX_SKIPPED = 10


class TrainableModule:
    """A network in training: AdamW, gradient clipping, mixed precision, and the loss scale of float16.

    ``network``: the module itself. ``optimizer``: AdamW; matrices decay, vectors do not. ``scaler``: scales the loss in
    float16; does nothing otherwise.
    """

    def __init__(self, network: nn.Module, config: LoopConfig, context: DistributedContext) -> None:
        self.network, self.config, self.context = network.to(context.device), config, context
        self.precision = best_dtype(context.device) if config.precision == "auto" else config.precision
        log.info("%s computes in %s on %s", type(network).__name__, self.precision, context.device)
        trained = [p for p in network.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        fused = None if context.sharded else True  # one pass over the weights rather than seven
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=fused)
        self.wrapped = context.wrap(network, self.optimizer)
        self.scaler = torch.amp.GradScaler(
            context.device.type, INIT_SCALE, growth_interval=GROWTH_INTERVAL, enabled=self.precision == "float16"
        )
        self.skipped = 0  # steps in a row

    def forward(self, work: Callable[[], Any]) -> Any:
        """Run work that uses the network, in the configured precision."""
        with autocast(self.context.device, self.precision):
            return self.wrapped(work)

    @torch.no_grad()
    def evaluate(self, work: Callable[[], Any], *, precision: str | None = None) -> Any:
        """Run work that uses the network without training it, in the configured precision or another."""
        with autocast(self.context.device, precision or self.precision):
            return self.wrapped(work) if self.context.sharded else work()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a micro-batch's loss to those that are there."""
        self.scaler.scale(loss).backward()

    def no_sync(self, *, last: bool) -> AbstractContextManager[Any]:
        """Context of a micro-batch; processes exchange gradients in that of the last one alone."""
        return nullcontext() if last else self.context.no_sync(self.wrapped)

    def zero_grad(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> float:
        """Clip the gradients and take an optimizer step.

        Returns norm of the gradients before clipping; not finite where the step is skipped.
        """
        if self.context.sharded:
            self._average_scalars()
        self.scaler.unscale_(self.optimizer)
        norm = clip_grad_norm(self.network, self.config.max_grad_norm)
        if math.isfinite(norm):
            self.scaler.step(self.optimizer)
            self.skipped = 0
        else:
            self.skipped += 1
        if self.scaler.is_enabled():
            self.scaler.update()
        return norm

    @property
    def may_skip(self) -> bool:
        """Whether a step with an overflow may be skipped: in float16 the loss scale has yet to be found."""
        return self.scaler.is_enabled() and self.skipped <= MAX_SKIPPED

    def _average_scalars(self) -> None:
        for parameter in self.network.parameters():
            if parameter.ndim == 0 and parameter.grad is not None:  # FSDP does not see them
                parameter.grad.copy_(self.context.all_reduce(parameter.grad) / self.context.world_size)

    def state(self) -> dict[str, Tensor]:
        """State of the optimizer and of the loss scale by name, unsharded: all processes must ask for it."""
        found = {
            f"{name}.{key}": unshard(torch.as_tensor(value))
            for name, parameter in self.network.named_parameters()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }
        if self.scaler.is_enabled():
            scaler = self.scaler.state_dict()
            scale = [scaler["scale"], scaler["_growth_tracker"], self.skipped]
            found["loss_scale"] = torch.tensor(scale, dtype=torch.float64)
        return found

    def load_state(self, state: dict[str, Tensor]) -> None:
        state = dict(state)
        scale = state.pop("loss_scale", None)
        if scale is not None and self.scaler.is_enabled():
            found = {"scale": float(scale[0]), "_growth_tracker": int(scale[1]) % GROWTH_INTERVAL}
            self.scaler.load_state_dict(self.scaler.state_dict() | found)
            self.skipped = int(scale[2])
        parameters = dict(self.network.named_parameters())
        for key, value in state.items():
            name, _, kind = key.rpartition(".")
            moved = value if kind == "step" else shard_like(parameters[name], value)
            self.optimizer.state[parameters[name]][kind] = moved


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context in which networks compute in a precision."""
    return torch.autocast(device.type, dtype=as_dtype(precision), enabled=precision != "float32")


def clip_grad_norm(network: nn.Module, max_norm: float) -> float:
    """Clip the gradients of a network, sharded or not, to a norm; returns the norm before."""
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    kinds = [kind for kind in _by_kind(gradients) if kind]
    squares = sum(float(unshard(torch.nn.utils.get_total_norm(some))) ** 2 for some in kinds)
    norm = math.sqrt(squares) if squares >= 0 else math.nan
    if norm > max_norm:  # the coefficient in double precision, where clip_grad_norm_ rounds it to float32
        for some in kinds:
            torch._foreach_mul_(some, max_norm / (norm + 1e-6))
    return norm


def _by_kind(tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Sharded tensors, and the others: operations on lists do not mix the two."""
    sharded = [hasattr(tensor, "full_tensor") for tensor in tensors]
    return [t for t, s in zip(tensors, sharded, strict=True) if s], [
        t for t, s in zip(tensors, sharded, strict=True) if not s
    ]


# ---- the moving average of the weights ------------------------------------------------------------------------------


@torch.no_grad()
def update_ema(ema: dict[str, Tensor], network: nn.Module, ema_decay: float, step: int) -> None:
    """Move the average of a network's state towards its state after a step; with a decay of 0 it is that state.

    The early steps count for less: an average over the first hundred steps has no memory of the start.
    """
    decay = min(ema_decay, (1 + step) / (10 + step)) if ema_decay else 0.0
    state = network.state_dict()
    averaged = [key for key, value in state.items() if value.is_floating_point() and decay]
    pairs = zip(*(_by_kind([tensors[k] for k in averaged]) for tensors in (ema, state)), strict=True)
    for kept, current in pairs:
        if kept:
            get_ema_multi_avg_fn(decay)(kept, current, None)
    for key in state.keys() - set(averaged):
        ema[key].copy_(state[key])


@contextmanager
def averaged(network: nn.Module, ema: Mapping[str, Tensor]) -> Iterator[None]:
    """The network with its average in evaluation mode; afterwards its own weights are back, the mode is not."""
    current = {k: v.detach().clone() for k, v in network.state_dict().items()}
    network.load_state_dict(ema)
    network.eval()
    yield
    network.load_state_dict(current)
