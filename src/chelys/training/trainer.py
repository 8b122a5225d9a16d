"""The training loop: load, forward, backward, clip, step, average, log, evaluate, checkpoint, resume.

A `Task` says what is trained, what a batch is and what its losses are. Batches and all that is random within a step are
functions of the seed and the step's number, so a run that is killed at any instruction and resumed from its newest
checkpoint ends in the same weights, bit for bit.

`run_stage` (configuration file to weights) -> `execute` (what comes before and after the steps) -> `Trainer` (the
steps) -> `TrainableModule` (a network and its optimizer).
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from chelys.config import check_sizes, from_mapping, to_mapping
from chelys.configs import read_config_file
from chelys.data.loader import StepLoader, default_workers
from chelys.data.manifest import BAD_CLIPS_FILE
from chelys.errors import ConfigError, OutputError, UserError, first_line
from chelys.files import atomic_path, file_lock, output_errors, remove_partial_files, write_json
from chelys.parsing import parse_json, read_json
from chelys.training.checkpoint import (
    checkpoint_files,
    drop_checkpoints,
    load_strictly,
    newest_checkpoint,
    read_checkpoint,
    shard_like,
    unshard,
    write_checkpoint,
)
from chelys.training.config import EarlyStopping, Evaluation, LoopConfig, Run
from chelys.training.distributed import DistributedContext, MicroBatches, checkpoint_activations, make_context
from chelys.training.logging import Listener, RunLog, draw_pictures, plot_losses, save_broken_batch, write_samples
from chelys.training.task import RowGenerator, Task, TaskData, map_tensors, mix_seed, tensors_of
from chelys.weights.checks import as_dtype, best_dtype

log = logging.getLogger(__name__)

#: Called with (step, steps, metrics).
Progress = Callable[[int, int, dict[str, float]], None]
#: Loss scale of float16: its first value, and the good steps after which it doubles.
INIT_SCALE, GROWTH_INTERVAL = 2.0**16, 1000
#: Steps in a row that float16 may skip for an overflow; the scale is then a thousandth of what it was.
MAX_SKIPPED = 10


# ---- a network and its optimizer ------------------------------------------------------------------------------------


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


# ---- the loop -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepBatches:
    """Loads what one process computes in a step; worker processes get a copy of it."""

    data: TaskData
    rank: int
    world_size: int
    grad_accum_steps: int

    def __call__(self, step: int) -> tuple[MicroBatches, list[Any]]:
        """Which rows of a step's batch this process computes, and the micro-batches of them."""
        micro = MicroBatches.of(self.data.rows(step), self.rank, self.world_size, self.grad_accum_steps)
        return micro, [self.data.load(step, rows) for rows in micro.rows]


@dataclass
class Trainer:
    """Takes a task through its steps."""

    task: Task
    config: LoopConfig
    folder: Path  # run folder: ``log.jsonl``, ``checkpoints/``, ``pictures/``
    progress: Progress | None = None  # at each log line, in the first process; if stopping early at evaluations as well
    context: DistributedContext | None = None  # by default the processes that the environment names
    #: ends the run early and keeps the best weights; without it a run takes all its steps and keeps the last weights
    stopping: EarlyStopping | None = None
    listener: Listener | None = None  # hears the samples of each evaluation, in the first process
    step: int = field(default=0, init=False)
    evaluations: list[Evaluation] = field(default_factory=list, init=False)  # of this run so far, if stopping early
    best: dict[str, Tensor] = field(default_factory=dict, init=False)  # the average at the best evaluation so far

    def __post_init__(self) -> None:
        task, config = self.task, self.config
        if config.grad_accum_steps > 1 and not task.supports_grad_accum:
            raise ConfigError(
                f"loop.grad_accum_steps is {config.grad_accum_steps}, but {task.name} compares every row of a batch "
                "with all others: say loop.grad_accum_steps=1 and spread the batch over processes with torchrun"
            )
        context = self.context = self.context or make_context(config)
        if config.activation_checkpointing and not sum(map(checkpoint_activations, task.modules.values())):
            log.warning("loop.activation_checkpointing changes nothing: %s has no blocks to compute again", task.name)
        for network in task.frozen.values():
            network.to(context.device)
        self.modules = {name: TrainableModule(m, config, context) for name, m in task.modules.items()}
        # moving average of the network's state
        self.ema = {k: v.detach().clone() for k, v in task.network.state_dict().items()}
        self.log = RunLog(self.folder, tensorboard=config.tensorboard)

    @property
    def _main(self) -> TrainableModule:
        return next(iter(self.modules.values()))

    def run(self, *, resume: bool = True) -> None:
        """Train to the last step, from the newest checkpoint if there is one.

        Raises UserError if a loss is not finite; the message names it.
        """
        config, context = self.config, self._main.context
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume:
            self._resume()
        elif context.is_first:
            drop_checkpoints(self.folder / "checkpoints")
        if context.is_first:
            self.log.open(self.step)
        context.barrier()
        start, first = time.monotonic(), self.step
        if self.stopping and not self.evaluations:
            self._evaluate_and_log()  # of the weights that the run begins with
        for micro, batches in () if self.stop_reason else self._load():
            metrics = self._train_step(micro, batches)
            self.step += 1
            done = self.step == config.steps
            if self.step % config.log_every == 0 or done:
                metrics["seconds_per_step"] = (time.monotonic() - start) / (self.step - first)
                self._log(metrics)
            if self.step % config.evaluate_every == 0 or done:
                self._evaluate_and_log()
            if self.step % config.checkpoint_every == 0 or done or self.stop_reason:
                self._save_checkpoint()
            if self.stop_reason:
                break
        if context.is_first:
            self.log.close()
            if config.pictures and self.step > first:
                plot_losses(self.log.path, self.folder / "losses.png")

    @property
    def stop_reason(self) -> str:
        """Why the run ends before its last step; empty while it continues."""
        return self.stopping.reason(self.evaluations) if self.stopping and self.evaluations else ""

    def _load(self) -> Iterator[tuple[MicroBatches, list[Any]]]:
        """Batches of the steps to come, on this process's device; worker processes load them ahead."""
        config, context = self.config, self._main.context
        load = StepBatches(self.task.data, context.rank, context.world_size, config.grad_accum_steps)
        workers, cuda = config.data_workers, context.device.type == "cuda"
        if workers is None:
            workers = default_workers(context.device, context.local_world_size)
        loader = StepLoader(
            load, self.step, config.steps, workers=workers, prefetch=config.prefetch, pin_memory=cuda and bool(workers)
        )
        for micro, batches in loader:
            yield micro, [map_tensors(b, lambda x: x.to(context.device, non_blocking=cuda)) for b in batches]

    # ---- a step ---------------------------------------------------------------------------------------------------

    def _train_step(self, micro: MicroBatches, batches: list[Any]) -> dict[str, float]:
        task, config, context = self.task, self.config, self._main.context
        task.context = context if micro.split else DistributedContext(context.device)
        generators = [RowGenerator(config.seed, self.step, rows) for rows in micro.rows]
        metrics: dict[str, float] = {"learning_rate": config.lr(self.step)}
        for network in task.modules.values():
            network.train()
        for name, module in self.modules.items():
            module.zero_grad(metrics["learning_rate"])
            losses = self._backward(name, batches, generators, micro)
            if not losses:
                continue
            if not all(map(math.isfinite, losses.values())):
                found = ", ".join(f"{k}={v}" for k, v in losses.items())
                self._stop_broken(f"the loss is not finite ({found})")
            norm = module.step()
            metrics |= losses
            if math.isfinite(norm):
                metrics[f"{name}_grad_norm"] = norm
            elif module.may_skip:
                metrics[f"{name}_skipped"] = 1.0  # JSON knows no infinity
            else:  # else the weights would be lost, and the next checkpoint with them
                self._stop_broken("the gradient is not finite")
            if module.scaler.is_enabled():
                metrics[f"{name}_loss_scale"] = module.scaler.get_scale()
        generator = torch.Generator().manual_seed(mix_seed(config.seed, self.step))
        after = partial(task.after_step, self.step, batches[-1], generator)
        metrics |= self._main.evaluate(after, precision="float32")
        update_ema(self.ema, task.network, config.ema_decay, self.step)
        return metrics

    def _backward(
        self, name: str, batches: list[Any], generators: list[RowGenerator], micro: MicroBatches
    ) -> dict[str, float]:
        """Add up a module's gradients over the micro-batches; its losses over the whole batch, of all processes."""
        task, module, context = self.task, self.modules[name], self.task.context
        weights = self._loss_weights(name, batches, micro)
        sums: dict[str, Tensor] = {}
        for index, (batch, generator, weight) in enumerate(zip(batches, generators, weights, strict=True)):
            torch.manual_seed(mix_seed(self.config.seed, self.step, context.rank, index))  # dropout alone uses this
            with module.no_sync(last=index == len(batches) - 1):
                losses = module.forward(partial(task.training_step, name, batch, generator))
                if not losses:
                    return {}
                shares = {k: loss.float() * weight.get(k, weight[""]) for k, loss in losses.items()}
                total = torch.stack(list(shares.values())).sum()
                module.backward(total * context.world_size)  # several processes take the mean of their gradients
            sums = {k: sums.get(k, 0.0) + v.detach() for k, v in shares.items()}
        reduced = context.all_reduce(torch.stack(list(sums.values())))
        return dict(zip(sums, reduced.tolist(), strict=True))

    def _loss_weights(self, name: str, batches: list[Any], micro: MicroBatches) -> list[dict[str, float]]:
        """Weight of each loss of each micro-batch: its share of all the elements that the loss is a mean over."""
        context = self.task.context
        counts = [
            {"": float(len(rows)), **self.task.element_counts(name, batch)}
            for rows, batch in zip(micro.rows, batches, strict=True)
        ]
        if len(batches) == context.world_size == 1:
            return [dict.fromkeys(counts[0], 1.0)]
        own = torch.tensor([[c[k] for k in counts[0]] for c in counts], device=context.device).sum(0)
        totals = context.all_reduce(own).tolist()
        return [{k: c[k] / max(1.0, t) for k, t in zip(c, totals, strict=True)} for c in counts]

    def _stop_broken(self, what: str) -> None:
        """End the run at a step that cannot be used, and keep its batch. Raises UserError always."""
        task, kept = self.task, None
        if self._main.context.is_first:
            tensors, path = tensors_of(task.data.batch(self.step)), self.folder / f"broken-{self.step:09d}.safetensors"
            clips = task.data.clip_ids(self.step)
            kept = save_broken_batch(path, tensors, clips, stage=task.name, step=str(self.step), what=what)
        raise UserError(
            f"{task.name}: step {self.step}: {what}; lower loop.learning_rate"
            + (f", or look at the batch in {kept}" if kept else "")
        )

    # ---- evaluation and log ---------------------------------------------------------------------------------------

    def evaluate(self) -> dict[str, float]:
        """Held-out metrics with the averaged weights; the weights in training come back afterwards.

        All processes compute all of it: a mean over a few dozen clips is not worth the risk of a wrong one.
        """
        main = self._main
        self.task.context = DistributedContext(main.context.device)
        with averaged(self.task.network, self.ema):
            metrics = main.evaluate(self.task.evaluate)
            pictures = main.evaluate(self.task.pictures) if self.config.pictures else {}
            samples = main.evaluate(self.task.samples) if self.config.pictures or self.listener else {}
        found = {f"held_out/{name}": value for name, value in metrics.items()}
        if main.context.is_first:
            draw_pictures(self.folder / "pictures", self.step, pictures)
            copies = write_samples(self.folder / "samples", self.step, samples)
            if self.listener is not None and copies:
                found |= {f"heard/{name}": value for name, value in self.listener(copies).items()}
        return found

    def _evaluate_and_log(self) -> None:
        """Evaluate, log it, and with early stopping keep the weights if they are the best so far."""
        held_out = self.evaluate()
        if self._main.context.is_first:
            self.log.write(self.step, held_out)
        if self.stopping:
            self.evaluations.append((self.step, held_out))
            if self.progress and self._main.context.is_first:
                self.progress(self.step, self.config.steps, held_out)
            if self.stopping.best(self.evaluations) == len(self.evaluations) - 1:
                self.best = {name: tensor.clone() for name, tensor in self.ema.items()}

    def _log(self, metrics: dict[str, float]) -> None:
        if self._main.context.is_first:
            self.log.write(self.step, metrics)
            if self.progress:
                self.progress(self.step, self.config.steps, metrics)

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights, unsharded: the best, or else the last; all processes must ask for them."""
        return {name: unshard(tensor).cpu() for name, tensor in (self.best or self.ema).items()}

    def _save_checkpoint(self) -> None:
        context = self._main.context
        tensors = {f"ema.{k}": unshard(v).cpu() for k, v in self.ema.items()}
        tensors |= {f"best.{k}": unshard(v).cpu() for k, v in self.best.items()}
        for name, module in self.modules.items():
            tensors |= {f"module.{name}.{k}": unshard(v) for k, v in module.network.state_dict().items()}
            tensors |= {f"optimizer.{name}.{k}": v for k, v in module.state().items()}
        if context.is_first:
            metadata = {"stage": self.task.name, "processes": str(context.world_size)}
            if self.stopping:
                metadata["evaluations"] = json.dumps(self.evaluations)
            limit = self.config.save_total_limit
            write_checkpoint(self.folder / "checkpoints", self.step, tensors, limit=limit, metadata=metadata)
        context.barrier()

    def _resume(self) -> None:
        context, name = self._main.context, self.task.name
        found = newest_checkpoint(self.folder / "checkpoints") if context.is_first else None
        path = context.broadcast(found.path if found else None)
        if path is None:
            return
        if found is None:
            try:
                found = read_checkpoint(path)
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path} is not there for all processes ({error}): share the run folder") from error
        then, now = found.metadata.get("processes", "1"), str(context.world_size)
        if then != now and context.is_first:
            log.warning(
                "%s goes on with %s processes, before there were %s: the batch of each step stays the same, each of "
                "them computes 1/%s of its rows", name, now, then, now,
            )  # fmt: skip
        self.step, source = found.step, f"{path} (--no-resume starts over)"
        if self.stopping:
            evaluations = parse_json(found.metadata.get("evaluations", "[]"), nan=True)
            self.evaluations = [(step, metrics) for step, metrics in evaluations]
        log.info("%s goes on from step %d (%s)", name, self.step, path.name)
        for name, module in self.modules.items():
            load_strictly(module.network, _under(found.tensors, f"module.{name}."), source)
            module.load_state(_under(found.tensors, f"optimizer.{name}."))
        self.ema = {k: shard_like(self.ema[k], v) for k, v in _under(found.tensors, "ema.").items()}
        self.best = {k: shard_like(self.ema[k], v) for k, v in _under(found.tensors, "best.").items()}


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


# ---- from a configuration to weights --------------------------------------------------------------------------------


def read_run(stage: str, config: Path, overrides: list[str] | None = None) -> Run:
    """The run that a configuration file describes.

    ``stage``: one of `chelys.training.tasks.RUNS`; ``config``: YAML with the keys of that stage's run; ``overrides``:
    ``key.inner=value`` each, read as YAML, laid over the file. Raises ConfigError if the stage or a key is unknown, or
    a value is wrong.
    """
    from chelys.training.tasks import RUNS

    if stage not in RUNS:
        raise ConfigError(f"unknown stage {stage!r}: choose from {', '.join(RUNS)}")
    run = from_mapping(RUNS[stage], read_config_file(config, overrides or []), where=str(config))
    for part in fields(run):
        if part.name != "loop" and is_dataclass(value := getattr(run, part.name)):
            check_sizes(value, where=str(config), key=f"{part.name}.")
    return run


def run_stage(
    stage: str, config: Path, overrides: list[str] | None = None, *, resume: bool = True,
    progress: Progress | None = None,
) -> Path:  # fmt: skip
    """Train a stage and leave its averaged weights in ``RUN/STAGE.safetensors``; see `read_run` and `execute`."""
    return train_run(stage, read_run(stage, config, overrides), resume=resume, progress=progress)


def train_run(
    stage: str, run: Run, *, resume: bool = True, progress: Progress | None = None, listener: Listener | None = None
) -> Path:
    """The same of a run that has been read."""
    return execute(
        stage, run.build_or_load, run.loop, run.run, to_mapping(run), resume=resume, progress=progress,
        listener=listener,
    )  # fmt: skip


def execute(
    name: str, build: Callable[[], Task], loop: LoopConfig, folder: Path, settings: dict[str, Any], *,
    resume: bool = True, progress: Progress | None = None, stopping: EarlyStopping | None = None,
    listener: Listener | None = None,
) -> Path:  # fmt: skip
    """Train a task and leave its averaged weights in ``folder/NAME.safetensors``.

    ``build``: makes it; its network's weights come from torch's global generator. ``settings``: configuration of the
    run, for ``config.json``. ``resume``: continue from the newest checkpoint. ``progress``: called with
    (step, steps, metrics). ``stopping``: ends the run early; the best weights are left in place of the last.
    ``listener``: hears the samples of each evaluation. Returns path of the weights. Raises OutputError if the run
    folder or the weights cannot be written, or another process trains in the folder.
    """
    context = make_context(loop)
    torch.manual_seed(loop.seed)  # fresh weights; later the trainer seeds every step
    try:
        task = build()
    except UserError:
        raise
    except OSError as error:
        raise ConfigError(f"{name}: cannot read {str(error.filename)[:200]}: {error.strerror or error}") from error
    except (RuntimeError, ValueError, TypeError, AssertionError, ArithmeticError, IndexError, MemoryError) as error:
        raise ConfigError(f"{name}: these settings describe nothing that can be built ({first_line(error)})") from error
    with _opened(folder, settings, resume=resume) if context.is_first else nullcontext():
        context.barrier()
        trainer = Trainer(task, loop, folder, progress, context, stopping, listener)
        bad = task.data.bad_clips
        if context.is_first:
            bad.write(folder / BAD_CLIPS_FILE)
            if len(bad):
                log.warning("%d clips are left out (%s): see %s", len(bad), bad.summary(), folder / BAD_CLIPS_FILE)
        trainer.run(resume=resume)
        weights = trainer.weights()
        path = folder / f"{name}.safetensors"
        if context.is_first:
            _write_weights(path, weights)
        context.barrier()
    return path


@contextmanager
def _opened(folder: Path, settings: dict[str, Any], *, resume: bool) -> Iterator[None]:
    """The run folder, made if need be, for this process alone: two runs in one would mix their logs and checkpoints."""
    path = folder / "config.json"
    with output_errors(path, "choose another with run=FOLDER"):
        folder.mkdir(parents=True, exist_ok=True)
    busy = f"another process trains in {folder}: wait for it, or choose another folder with run=FOLDER"
    with file_lock(folder / ".lock", busy):
        with output_errors(path, "choose another with run=FOLDER"):
            if resume and (changed := _changes(path, settings)) and checkpoint_files(folder / "checkpoints"):
                log.warning("%s goes on with other settings than it began with: %s", folder, ", ".join(changed))
            remove_partial_files(folder)
            write_json(path, settings)
        yield


def _changes(path: Path, settings: dict[str, Any]) -> list[str]:
    """Settings that differ from those in a run's ``config.json``, apart from how long it runs and where."""
    try:
        before = _flat(read_json(path))
    except (OSError, ValueError, AttributeError):
        return []
    now = _flat(settings)
    harmless = {"run", *(f"loop.{key}" for key in ("steps", "threads", "strategy", "device"))}
    harmless |= {f"loop.{key}" for key in ("save_total_limit", "data_workers", "prefetch")}
    odd = [key for key in now.keys() & before.keys() if now[key] != before[key] and key not in harmless]
    return [f"{key}={now[key]} (was {before[key]})" for key in sorted(odd)]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _write_weights(path: Path, weights: dict[str, Tensor]) -> None:
    try:
        with atomic_path(path) as partial:
            save_file({name: tensor.contiguous() for name, tensor in weights.items()}, partial)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"cannot write {path} ({error}): make room and start the run again; it goes on from its last checkpoint"
        ) from error
