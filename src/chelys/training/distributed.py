"""Several processes under ``torchrun``, by Hugging Face Accelerate: DDP, or FSDP (``fully_shard``).

Every step's batch is one batch for all processes: each computes its share of the rows, and losses, gradients and
statistics come out as if one process had computed them all. So the number of processes is no setting of a run: it may
change when the run goes on.
"""

from __future__ import annotations

import os
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from chelys.errors import ConfigError, MissingExtra
from chelys.training.ranks import Inside, Ranks
from chelys.training.recompute import BLOCKS
from chelys.training.schedule import LoopConfig

T = TypeVar("T")


def make_ranks(config: LoopConfig) -> Ranks:
    """The processes that the environment tells of.

    Raises:
        ConfigError: If the configuration asks for what the environment does not give.
        MissingExtra: If there are several and Accelerate is not installed.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("loop.device is cuda, but torch finds no GPU here: say loop.device=cpu")
    if world > 1 and config.strategy == "single":
        raise ConfigError(f"loop.strategy is single, but torchrun started {world} processes: say loop.strategy=ddp")
    if config.strategy == "fsdp" and "WORLD_SIZE" not in os.environ:
        raise ConfigError(
            "loop.strategy is fsdp, which needs processes: start with 'torchrun --nproc-per-node N -m chelys.cli.main "
            "train ...', or say loop.strategy=ddp"
        )
    if world > 1 or config.strategy == "fsdp":
        return AcceleratedRanks(config)
    cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    return Ranks("cuda" if cuda else "cpu")


class Work(nn.Module):
    """Holds a network and runs what uses it: DDP and FSDP see one forward pass, whichever parts of it are called."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, work: Any) -> Any:
        """Whatever the work returns."""
        return work()


class AcceleratedRanks(Ranks):
    """Processes that Accelerate binds together."""

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
        # stages leave parts of networks out (a code book not yet started); buffers are kept alike by the stages
        copies = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
        self.accelerator = Accelerator(
            cpu=config.device == "cpu" or not torch.cuda.is_available(), kwargs_handlers=[copies],
            fsdp_plugin=self.plugin, mixed_precision="no",
        )  # fmt: skip
        if self.plugin is not None:  # Accelerate thinks of GPUs alone; on CPUs it is the same
            self.accelerator.state.distributed_type = DistributedType.FSDP
            self.accelerator.state.fsdp_plugin = self.plugin
        super().__init__(self.accelerator.device)
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.local_world = int(os.environ.get("LOCAL_WORLD_SIZE", self.world))
        self.sharded = self.plugin is not None

    def sum(self, x: Tensor) -> Tensor:
        return self.accelerator.reduce(x.detach(), reduction="sum")

    def gather(self, x: Tensor) -> Tensor:
        return _Gather.apply(x, self)

    def collect(self, items: list[T]) -> list[T]:
        from accelerate.utils import gather_object

        return gather_object(items)

    def agree(self, value: T) -> T:
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()

    def prepare(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> Inside:
        if self.plugin is None:
            with warnings.catch_warnings():  # newer torch has another name for broadcast_buffers, older has not
                warnings.simplefilter("ignore", FutureWarning)
                return self.accelerator.prepare_model(Work(network))
        kinds = {type(module).__name__ for module in network.modules() if isinstance(module, BLOCKS)}
        self.plugin.transformer_cls_names_to_wrap = sorted(kinds)
        scalars = _without_scalars(network, optimizer)  # a number cannot be cut into pieces
        inside, _ = self.accelerator.prepare(Work(network), optimizer)
        for (module, name), scalar in scalars.items():
            module.register_parameter(name, scalar)
            optimizer.param_groups[-1]["params"].append(scalar)
        with torch.no_grad():
            inside(lambda: None)  # the outermost module must be the first to run
        return inside

    def without_sync(self, inside: Inside, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else self.accelerator.no_sync(inside)


class _Gather(torch.autograd.Function):
    """Rows of all processes; backwards, each row's gradients of all processes add up where the row came from."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: AcceleratedRanks) -> Tensor:
        accelerator = ranks.accelerator
        counts = accelerator.gather(torch.tensor([len(x)], device=x.device)).tolist()
        padded = x.new_zeros(max(counts), *x.shape[1:])
        padded[: len(x)] = x
        pieces = accelerator.gather(padded).split(max(counts))
        ctx.accelerator, ctx.first, ctx.rows = accelerator, sum(counts[: ranks.rank]), len(x)
        return torch.cat([piece[:count] for piece, count in zip(pieces, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = ctx.accelerator.reduce(gradients[0].contiguous(), reduction="sum")
        return total[ctx.first : ctx.first + ctx.rows], None


def _without_scalars(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[tuple[nn.Module, str], nn.Parameter]:
    """Take parameters of no dimension out of a network and its optimiser."""
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
