"""The processes that train together: alone, or several under ``torchrun`` by Hugging Face Accelerate (DDP, FSDP2).

Every step's batch is one batch for all processes: each computes its share of the rows, and losses, gradients and
statistics come out as if one process had computed them all. So the number of processes is no setting of a run: it may
change when the run is resumed.
"""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from chelys.errors import ConfigError, MissingExtra
from chelys.models import autoregressive, diffusion
from chelys.nn.attention import AttentionBlock
from chelys.nn.encoder import EncoderBlock
from chelys.training.config import LoopConfig
from chelys.training.losses import PeriodDiscriminator, SpectrogramDiscriminator
from chelys.weights.checks import best_device

T = TypeVar("T")
#: Runs a piece of work inside the wrapper (DDP, FSDP) of the network that it uses.
Wrapped = Callable[[Callable[[], Any]], Any]

#: Modules that repeat: activation checkpointing computes them again, and FSDP shards a network along them.
REPEATED = (
    autoregressive.Block, diffusion.DiffusionLayer, diffusion.TimestepResidualBlock, AttentionBlock, EncoderBlock,
)  # fmt: skip
SHARDED = (*REPEATED, SpectrogramDiscriminator, PeriodDiscriminator)


class DistributedContext:
    """One process alone, for which every collective is the identity; the base of several.

    ``rank``: number of this process; ``world_size``: how many there are; ``local_world_size``: how many of them run on
    this machine; ``device``: where this process computes; ``sharded``: whether each process holds a shard of the
    network only.
    """

    rank = 0
    world_size = 1
    local_world_size = 1
    sharded = False

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and logs."""
        return self.rank == 0

    def all_reduce(self, x: Tensor) -> Tensor:
        """Sum of a tensor over the processes, in all of them; without gradient."""
        return x

    def all_gather(self, x: Tensor) -> Tensor:
        """Rows of all processes, in their order, ``(sum of b, ...)``; gradients flow back to the process of each."""
        return x

    def broadcast(self, value: T) -> T:
        """The first process's value."""
        return value

    def barrier(self) -> None:
        """Wait for all others."""

    def wrap(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> Wrapped:
        """Spread a network over the processes."""
        return lambda work: work()

    def no_sync(self, wrapped: Wrapped) -> AbstractContextManager[Any]:
        """Context of a backward pass after which processes need not exchange gradients yet."""
        return nullcontext()


def make_context(config: LoopConfig) -> DistributedContext:
    """The processes that the environment names.

    Raises ConfigError if the configuration asks for what the environment does not give; MissingExtra if there are
    several and Accelerate is not installed.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if config.device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("loop.device is mps, but torch finds none here: say loop.device=cpu")
    if config.device.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise ConfigError(f"loop.device is {config.device}, but torch finds no GPU here: say loop.device=cpu")
        if int(config.device.partition(":")[2] or 0) >= count:
            raise ConfigError(f"loop.device is {config.device}, but there are {count} GPUs, from cuda:0 on")
    if world_size > 1 and config.strategy == "single":
        raise ConfigError(
            f"loop.strategy is single, but torchrun started {world_size} processes: say loop.strategy=ddp"
        )
    if config.strategy == "fsdp" and "WORLD_SIZE" not in os.environ:
        raise ConfigError(
            "loop.strategy is fsdp, which needs processes: start with 'torchrun --nproc-per-node N -m chelys.cli.main "
            "train ...', or say loop.strategy=ddp"
        )
    if world_size > 1 or config.strategy == "fsdp":
        return AccelerateContext(config)
    if config.device == "auto":
        return DistributedContext(best_device())
    return DistributedContext(config.device)


def end_processes() -> None:
    """End this process once all others have come here too; nothing is done to one that trains alone.

    Python's own end is passed over: gloo's threads may still hold tensors then, and would abort it (pytorch pull
    179291), which ``torchrun`` reports as a failure.
    """
    if not torch.distributed.is_initialized():
        return
    gc.collect()  # wrapped networks hold the group in cycles
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class MicroBatches(NamedTuple):
    """Which rows of a step's batch a process computes."""

    rows: list[range]  # rows of each micro-batch
    #: whether the processes share the batch; otherwise each computes all of it, because it has fewer rows than there
    #: are processes
    split: bool

    @classmethod
    def of(cls, rows: int, rank: int, world_size: int, grad_accum_steps: int) -> MicroBatches:
        """Split a batch over processes, then into micro-batches; all processes have the same number of these."""
        split = world_size > 1 and rows >= world_size
        if not split:
            rank, world_size = 0, 1
        first, past = rows * rank // world_size, rows * (rank + 1) // world_size
        count = max(1, min(grad_accum_steps, rows // world_size))
        edges = [first + (past - first) * part // count for part in range(count + 1)]
        return cls([range(a, b) for a, b in zip(edges, edges[1:], strict=False)], split)


def checkpoint_activations(network: nn.Module) -> int:
    """Make the repeated blocks of a network compute again in the backward pass; the outermost where they nest.

    Source: Chen et al. 2016, Training deep nets with sublinear memory cost, arXiv 1604.06174.

    Returns how many there are.
    """
    found: list[str] = []
    for name, module in network.named_modules():
        if isinstance(module, REPEATED) and not any(name.startswith(f"{outer}.") for outer in found):
            found.append(name)
            module.forward = _checkpointed(module.forward)  # type: ignore[method-assign]
    return len(found)


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():  # evaluation keeps nothing anyhow
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run


# ---- several processes ----------------------------------------------------------------------------------------------


class _Wrapper(nn.Module):
    """Holds a network and runs work that uses it: DDP and FSDP see one forward pass, whichever parts are called."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, work: Callable[[], Any]) -> Any:
        """Whatever the work returns."""
        return work()


class AccelerateContext(DistributedContext):
    """Processes that Accelerate connects."""

    def __init__(self, config: LoopConfig) -> None:
        try:
            from accelerate import Accelerator, FullyShardedDataParallelPlugin
            from accelerate.utils import DistributedDataParallelKwargs, DistributedType
        except ImportError as error:
            raise MissingExtra("train", error) from error
        self.plugin = None
        if config.strategy == "fsdp":
            self.plugin = FullyShardedDataParallelPlugin(
                fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
            )
        # tasks leave parts of networks out (a codebook not yet started) and keep buffers alike themselves
        ddp = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
        self.accelerator = Accelerator(
            cpu=config.device == "cpu" or not torch.cuda.is_available(), kwargs_handlers=[ddp],
            fsdp_plugin=self.plugin, mixed_precision="no",
        )  # fmt: skip
        if self.plugin is not None:  # Accelerate supports GPUs alone; on CPUs it works the same
            self.accelerator.state.distributed_type = DistributedType.FSDP
            self.accelerator.state.fsdp_plugin = self.plugin
        super().__init__(self.accelerator.device)
        self.rank, self.world_size = self.accelerator.process_index, self.accelerator.num_processes
        self.local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", self.world_size))
        self.sharded = self.plugin is not None

    def all_reduce(self, x: Tensor) -> Tensor:
        return self.accelerator.reduce(x.detach(), reduction="sum")

    def all_gather(self, x: Tensor) -> Tensor:
        return _AllGather.apply(x, self)

    def broadcast(self, value: T) -> T:
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def barrier(self) -> None:
        self.accelerator.wait_for_everyone()

    def wrap(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> Wrapped:
        if self.plugin is None:
            with warnings.catch_warnings():  # newer torch has another name for broadcast_buffers, older has not
                warnings.simplefilter("ignore", FutureWarning)
                return self.accelerator.prepare_model(_Wrapper(network))
        kinds = {type(module).__name__ for module in network.modules() if isinstance(module, SHARDED)}
        self.plugin.transformer_cls_names_to_wrap = sorted(kinds)
        scalars = _take_scalars(network, optimizer)  # a scalar cannot be sharded
        wrapped, _ = self.accelerator.prepare(_Wrapper(network), optimizer)
        for (module, name), scalar in scalars.items():
            module.register_parameter(name, scalar)
            optimizer.param_groups[-1]["params"].append(scalar)
        with torch.no_grad():
            wrapped(lambda: None)  # the outermost module must be the first to run
        return wrapped

    def no_sync(self, wrapped: Wrapped) -> AbstractContextManager[Any]:
        return self.accelerator.no_sync(wrapped)


class _AllGather(torch.autograd.Function):
    """Rows of all processes; backwards, each row's gradients of all processes add up where the row came from."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, context: AccelerateContext) -> Tensor:
        accelerator = context.accelerator
        counts = accelerator.gather(torch.tensor([len(x)], device=x.device)).tolist()
        padded = x.new_zeros(max(counts), *x.shape[1:])
        padded[: len(x)] = x
        pieces = accelerator.gather(padded).split(max(counts))
        ctx.accelerator, ctx.first, ctx.rows = accelerator, sum(counts[: context.rank]), len(x)
        return torch.cat([piece[:count] for piece, count in zip(pieces, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = ctx.accelerator.reduce(gradients[0].contiguous(), reduction="sum")
        return total[ctx.first : ctx.first + ctx.rows], None


def _take_scalars(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[tuple[nn.Module, str], nn.Parameter]:
    """Take parameters of no dimension out of a network and its optimizer."""
    taken = {
        (module, name): parameter
        for module in network.modules()
        for name, parameter in list(module.named_parameters(recurse=False))
        if parameter.ndim == 0
    }
    for module, name in taken:
        module.register_parameter(name, None)
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if p.ndim > 0]
    return taken
