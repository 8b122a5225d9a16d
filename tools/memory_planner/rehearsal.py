"""A step of a run with tensors that have shapes and no numbers: what it costs is counted, not guessed.

The run is built, its batch made and its losses computed by the code that trains, on an imagined corpus.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from counting import Allocations, FlopCounter, FusedAttention, count_parameters
from imagined import imagine, imagine_weights
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from chelys.audio.rates import HOP, MEL_22K, MEL_24K, SAMPLES_PER_CODE
from chelys.models.autoregressive import Autoregressive
from chelys.models.diffusion import Diffusion
from chelys.tortoise.tasks import DiffusionPriorRun
from chelys.training.config import Run
from chelys.training.distributed import SHARDED, DistributedContext, MicroBatches, checkpoint_activations
from chelys.training.optimizer import autocast
from chelys.training.task import RowGenerator, Task, map_tensors, tensors_of
from chelys.training.tasks.vocoder import VocoderRun

PUBLISHED_BANDS = MEL_22K.bands
PUBLISHED_IDS = 255


@dataclass(frozen=True)
class StepCost:
    """What one process pays for a step. All memory is in bytes.

    Attributes:
        parameters: Learned numbers of each player, frozen ones included.
        trained: Learned numbers that this task trains, of all players.
        weights: Of the players, buffers included.
        frozen: Of the networks that they ask.
        gradients: Of what is trained.
        averaged: The moving average of the task's network.
        batch: All parts of the step's batch.
        working: What a step needs at its fullest beyond all these: activations, casts, gradients of activations.
        working_apart: The same if gradients of weights go elsewhere as soon as they are there. More, for else they fill
            the room that activations leave.
        largest_block: Weights of the largest block that is computed at once where a network is cut into pieces.
        unblocked: Weights that belong to no block.
        flops: Floating-point operations, those that are done again included.
        audio: Seconds of speech that the process learns from.
        rows: Rows that it computes.
        world: Processes that share the batch of the step.
        splits: Whether the rows can be computed in parts.
    """

    parameters: dict[str, int]
    trained: int
    weights: int
    frozen: int
    gradients: int
    averaged: int
    batch: int
    working: int
    working_apart: int
    largest_block: int
    unblocked: int
    flops: int
    audio: float
    rows: int
    world: int
    splits: bool


class _OneOfSeveral(DistributedContext):
    """One of several processes; what the others have is taken to be like its own."""

    def __init__(self, world: int) -> None:
        super().__init__()
        self.world_size = world

    def all_reduce(self, x: Tensor) -> Tensor:
        return x * self.world_size

    def all_gather(self, x: Tensor) -> Tensor:
        return torch.cat([x] * self.world_size)


class _Imagining(TorchFunctionMode):
    """While a task is built: tensors are made without numbers, so that the largest network takes no memory."""

    def __init__(self, imaginary: FakeTensorMode) -> None:
        super().__init__()
        self.imaginary = imaginary

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.__bool__:  # fresh weights are asked whether they are good enough: they are
            return False
        if func is torch.asarray:  # a file being read: there are numbers, though nobody looks at them
            return func(*args, **kwargs)
        with self.imaginary:
            return func(*args, **kwargs)


class _Aligning(TorchFunctionMode):
    """While a step is counted: the sum over alignments wants numbers; another of the same shape stands for it.

    Its table, a number for each reading and id of a text, is small beside what the networks keep, and left out.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.ctc_loss:
            return args[0].sum((0, 2))  # (frames, b, ids) -> (b,)
        return func(*args, **(kwargs or {}))


def rehearse(run: Run, seconds: float, *, step: int = 0, world: int = 1, fused: bool = True) -> StepCost:
    """Count a step of one of the processes of a run.

    Args:
        run: Its settings; where its data lie does not matter.
        seconds: Length of the clips; they are all alike.
        step: Which; a low number, if it need not be a high one.
        world: Processes.
        fused: Count attention as graphics processors do it, not as this machine would.
    """
    with tempfile.TemporaryDirectory(prefix="chelys-plan-") as folder:
        settings = imagined_settings(run, Path(folder), seconds)
        task, imaginary = build_without_numbers(settings)
        return _count(task, settings, step, world, imaginary, fused)


def build_without_numbers(run: Run) -> tuple[Task, FakeTensorMode]:
    """Build a task whose networks have shapes and no numbers, and what imagines them.

    Args:
        run: Its settings; the files that they name must be there, as those of `imagined_settings` are.
    """
    imaginary = FakeTensorMode(allow_non_fake_inputs=True)
    with _Imagining(imaginary):
        task = run.build()
    start_code_book(task)
    return task, imaginary


def _count(task: Task, run: Run, step: int, world: int, imaginary: FakeTensorMode, fused: bool) -> StepCost:
    loop = run.loop
    context = _OneOfSeveral(world)
    accumulate = loop.grad_accum_steps if task.supports_grad_accum else 1
    share = MicroBatches.of(task.data.rows(step), 0, world, accumulate)
    task.context = context if share.split else DistributedContext()
    players = task.modules
    memory, flops, attention = Allocations(), FlopCounter(), FusedAttention()
    if loop.activation_checkpointing:
        for player in players.values():
            if fused:
                _fuse_in_blocks(player, attention)
            checkpoint_activations(player)
    modules = [*players.values(), *task.frozen.values()]
    rows = share.rows[0]
    part = task.data.load(step, rows)
    audio = audio_seconds(part) * len(share.rows)
    part = map_tensors(part, imaginary.from_tensor)
    batch = _bytes(tensors_of(part).values())

    for module in modules:
        for tensor in _tensors(module):
            memory.watch(tensor)
    for tensor in tensors_of(part).values():
        memory.watch(tensor)
    resident = memory.now
    trained = [p for module in players.values() for p in module.parameters() if p.requires_grad]
    gradients = _bytes(trained)
    arrived: set[nn.Parameter] = set()
    for weight in trained:
        weight.register_post_accumulate_grad_hook(partial(_set_apart, memory, arrived))
    with ExitStack() as counted:
        counted.enter_context(_Aligning())
        if fused:
            counted.enter_context(attention)
        counted.enter_context(flops)
        counted.enter_context(memory)
        parts = min(2, len(share.rows))  # the second finds the gradients of the first in its way
        for module in players.values():
            module.train()
        for name in players:
            for _ in range(parts):
                _learn(task, name, part, RowGenerator(loop.seed, step, rows), loop.precision)
    return StepCost(
        parameters={name: count_parameters(module) for name, module in players.items()},
        trained=sum(p.numel() for p in trained),
        weights=_bytes(tensor for module in players.values() for tensor in _tensors(module)),
        frozen=_bytes(tensor for module in task.frozen.values() for tensor in _tensors(module)),
        gradients=gradients,
        averaged=_bytes(task.network.state_dict().values()),
        batch=batch * len(share.rows),
        working=max(0, memory.peak - resident - gradients),
        working_apart=memory.peak_apart - resident,
        largest_block=max((_bytes(block.parameters()) for block in _blocks(players.values())), default=0),
        unblocked=_bytes(p for module in players.values() for p in module.parameters())
        - _bytes(p for block in _blocks(players.values()) for p in block.parameters()),
        flops=(flops.total + attention.flops) * len(share.rows) // parts,
        audio=audio,
        rows=sum(len(rows) for rows in share.rows),
        world=world if share.split else 1,
        splits=task.supports_grad_accum,
    )


def _fuse_in_blocks(network: nn.Module, attention: FusedAttention) -> None:
    """Put the mode in force within each block, too: it is not where the backward pass computes a block again."""

    def inside(forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **keywords: Any) -> Any:
            with attention:
                return forward(*arguments, **keywords)

        return run

    for block in _blocks([network]):
        block.forward = inside(block.forward)


def _set_apart(memory: Allocations, arrived: set[nn.Parameter], weight: nn.Parameter) -> None:
    if weight not in arrived and weight.grad is not None:
        arrived.add(weight)
        memory.set_apart(weight.grad)


def _learn(task: Task, player: str, part: Any, generator: torch.Generator, precision: str) -> None:
    """Gradients of a player on a part of a batch, added to those that are there."""
    if precision in ("auto", "float16"):  # what an accelerator takes, or a format of the same size
        precision = "bfloat16"
    with autocast(torch.device("cpu"), precision):
        losses = task.training_step(player, part, generator)
    if losses:
        torch.stack([loss.float() for loss in losses.values()]).sum().backward()


def imagined_settings(run: Run, folder: Path, seconds: float) -> Run:
    """The run's settings with an imagined corpus and imagined weights in place of those they name.

    Args:
        run: The settings.
        folder: An empty one, for both.
        seconds: Length of each clip; there are as many as make one batch.
    """
    values = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    sizes = [values[key] for key in ("decoder_network", "encoder_network", "network") if key in values]
    published = values.get("target_features") is not None or any(
        getattr(size, "bands", 0) == PUBLISHED_BANDS or getattr(size, "text_tokens", 0) >= PUBLISHED_IDS
        for size in sizes
    )
    pairs = values.get("pairs")
    rate = (MEL_22K if published else MEL_24K).sample_rate
    clips = 16
    if pairs is not None:  # as many as make one batch
        clips = max(1, pairs.budget // max(2, round(seconds * rate / SAMPLES_PER_CODE)))
        values["pairs"] = dataclasses.replace(pairs, voices=None)
    if getattr(values.get("network"), "layer_drop", 0.0):  # the costliest step passes over none
        values["network"] = dataclasses.replace(values["network"], layer_drop=0.0)
    corpus = imagine(folder, [seconds] * clips, longest_text=pairs.max_text_ids if pairs else 400, published=published)
    shared = isinstance(run, VocoderRun) or not published
    given: dict[str, Any] = {
        "run": folder / "run", "features": corpus.features if shared else corpus.published, "codes": corpus.codes,
        "text": corpus.text, "target_features": corpus.features if published else None, "start": None,
        "manifests": [corpus.manifest], "real": [corpus.manifest], "synthetic": [corpus.manifest],
    }  # fmt: skip
    if pairs is None:  # a VQ-VAE that learns from crops
        del given["text"]
    for key in ("decoder", "encoder"):
        if values.get(key) is not None or (
            key in values and getattr(values.get("stage"), "conditioning", "") == "latents"
        ):
            kind = Diffusion if isinstance(run, DiffusionPriorRun) else Autoregressive
            with torch.device("meta"):
                network = kind(values[f"{key}_network"])
            given[key] = imagine_weights(folder / f"{key}.safetensors", network.state_dict())
    return dataclasses.replace(run, **values | {key: value for key, value in given.items() if key in values})


def start_code_book(task: Task) -> None:
    """Take a VQ-VAE's code book for started, as it soon is; whether it is, is asked of numbers, so these are real."""
    book = getattr(task.network, "codebook", None)
    if book is not None:
        book.counts = torch.ones(len(book.counts))


def audio_seconds(batch: Any) -> float:
    """Seconds of speech in a batch of any task, without padding."""
    if hasattr(batch, "waveform"):
        return batch.waveform.numel() / MEL_24K.sample_rate
    if hasattr(batch, "at") or hasattr(batch, "mel"):
        batch = batch.mel if batch.mel.shape[-1] else batch
    if isinstance(batch, Tensor):  # mels (b, f, s)
        rate = (MEL_22K if batch.shape[1] == PUBLISHED_BANDS else MEL_24K).sample_rate
        return batch.shape[0] * batch.shape[2] * HOP / rate
    rate = (MEL_22K if batch.reference.shape[1] == PUBLISHED_BANDS else MEL_24K).sample_rate
    codes = float(batch.code_lengths.sum()) if hasattr(batch, "code_lengths") else batch.codes.numel()
    return codes * SAMPLES_PER_CODE / rate


def _blocks(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Blocks that a network is cut along; the outermost where they nest."""
    for module in modules:
        if isinstance(module, SHARDED):
            yield module
        else:
            yield from _blocks(module.children())


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
