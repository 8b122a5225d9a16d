"""The training loop: load, forward, backward, clip, step, average, log, evaluate, checkpoint, resume.

A `Task` says what is trained, what a batch is and what its losses are. Batches and all that is random within a step are
functions of the seed and the step's number, so a run that is killed at any instruction and resumed from its newest
checkpoint ends in the same weights, bit for bit.

`chelys.training.run_stage` (configuration file to weights) -> `Trainer` (the steps) -> `chelys.training.optimizer` (a
network and its optimizer).
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from chelys.data.loader import StepLoader, default_workers
from chelys.errors import ConfigError, UserError
from chelys.parsing import parse_json
from chelys.training.checkpoint import (
    drop_checkpoints,
    load_strictly,
    newest_checkpoint,
    read_checkpoint,
    shard_like,
    unshard,
    write_checkpoint,
)
from chelys.training.config import EarlyStopping, Evaluation, LoopConfig
from chelys.training.distributed import DistributedContext, MicroBatches, checkpoint_activations, make_context
from chelys.training.logging import Listener, RunLog, draw_pictures, plot_losses, save_broken_batch, write_samples
from chelys.training.optimizer import TrainableModule, averaged, update_ema
from chelys.training.task import RowGenerator, Task, TaskData, map_tensors, mix_seed, tensors_of

log = logging.getLogger(__name__)

#: Called with (step, steps, metrics).
Progress = Callable[[int, int, dict[str, float]], None]


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
