"""One training loop for every stage: step, clip, average, log, evaluate, checkpoint, resume.

A stage says what is trained, what a batch is and what its losses are. Batches and all that is random within a step are
functions of the seed and the step's number, so a run that was killed at any instruction goes on from its newest
checkpoint as if nothing had happened.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from chelys.data.loader import StepLoader, default_workers
from chelys.errors import ConfigError, UserError
from chelys.training.checkpoint import drop_checkpoints, newest_checkpoint, read_checkpoint, write_checkpoint
from chelys.training.distributed import make_ranks
from chelys.training.faults import save_broken_batch
from chelys.training.journal import Journal
from chelys.training.noise import RowGenerator, mixed
from chelys.training.pictures import draw_pictures, plot_losses
from chelys.training.player import Player, like, whole
from chelys.training.ranks import Ranks, Share
from chelys.training.recompute import recompute_blocks
from chelys.training.samples import write_samples
from chelys.training.schedule import LoopConfig
from chelys.training.stage import Stage, map_tensors
from chelys.training.stopping import EarlyStopping, Evaluation

__all__ = ["LoopConfig", "Stage", "Trainer", "load_strictly"]

log = logging.getLogger(__name__)


@dataclass
class Trainer:
    """Drives a stage through its steps.

    Attributes:
        stage: What to train.
        config: How.
        folder: Run folder: ``log.jsonl``, ``checkpoints/``, ``pictures/``.
        progress: Called with (step, steps, figures) at each log line, in the first process alone; where something ends
            the run early, with the figures of each evaluation as well.
        ranks: The processes that train together; those of the environment where it is not given.
        stopping: Ends the run early, and keeps the best weights; without it a run takes all its steps and its last
            weights count.
        evaluations: Of this run so far, where something ends it early.
    """

    stage: Stage
    config: LoopConfig
    folder: Path
    progress: Callable[[int, int, dict[str, float]], None] | None = None
    ranks: Ranks | None = None
    stopping: EarlyStopping | None = None
    step: int = field(default=0, init=False)
    evaluations: list[Evaluation] = field(default_factory=list, init=False)
    best: dict[str, Tensor] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        torch.set_num_threads(self.config.threads)
        stage, config = self.stage, self.config
        if config.accumulate > 1 and not stage.splits:
            raise ConfigError(
                f"loop.accumulate is {config.accumulate}, but {stage.name} compares every row of a batch with all "
                "others: say loop.accumulate=1 and spread the batch over processes with torchrun"
            )
        ranks = self.ranks = self.ranks or make_ranks(config)
        if config.recompute and not sum(recompute_blocks(player) for player in stage.players.values()):
            log.warning("loop.recompute changes nothing: %s has no blocks that could be computed again", stage.name)
        for module in stage.frozen.values():
            module.to(ranks.device)
        self.players = {name: Player(module, config, ranks) for name, module in stage.players.items()}
        self.optimizers = {name: player.optimizer for name, player in self.players.items()}
        self.averaged = {k: v.detach().clone() for k, v in stage.network.state_dict().items()}
        self.journal = Journal(self.folder, tensorboard=config.tensorboard)

    @property
    def _first(self) -> bool:
        assert self.ranks is not None
        return self.ranks.rank == 0

    def run(self, *, resume: bool = True) -> None:
        """Train to the last step, from the newest checkpoint if there is one.

        Raises:
            UserError: If a loss is not finite; the log names it.
        """
        config, ranks = self.config, self.ranks
        assert ranks is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume:
            self._resume()
        elif self._first:
            drop_checkpoints(self.folder / "checkpoints")
        if self._first:
            self.journal.open(self.step)
        ranks.wait()
        start, first = time.monotonic(), self.step
        if self.stopping and not self.evaluations:
            self._judge()  # what is to be improved upon
        batches = iter(self._loader())
        while self.step < config.steps and not self.stopped:
            figures = self._train_step(*next(batches))
            self.step += 1
            done = self.step == config.steps
            if self.step % config.log_every == 0 or done:
                figures["seconds_per_step"] = (time.monotonic() - start) / (self.step - first)
                self._tell(figures)
            if self.step % config.evaluate_every == 0 or done:
                self._judge()
            if self.step % config.checkpoint_every == 0 or done or self.stopped:
                self._checkpoint()
        if self._first:
            self.journal.close()
            if config.pictures and self.step > first:
                plot_losses(self.journal.path, self.folder / "losses.png")

    @property
    def stopped(self) -> str:
        """Why the run ends before its last step; empty while it goes on."""
        return self.stopping.reason(self.evaluations) if self.stopping and self.evaluations else ""

    def _judge(self) -> None:
        """Evaluate, note it, and keep the weights if they are the best so far."""
        held_out = self.evaluate()
        if self._first:
            self.journal.write(self.step, held_out)
        if self.stopping:
            self.evaluations.append((self.step, held_out))
            if self.progress and self._first:
                self.progress(self.step, self.config.steps, held_out)  # who may end it early shall be seen at it
            if self.stopping.best(self.evaluations) == len(self.evaluations) - 1:
                self.best = {name: tensor.clone() for name, tensor in self.averaged.items()}

    def _tell(self, figures: dict[str, float]) -> None:
        if self._first:
            self.journal.write(self.step, figures)
            if self.progress:
                self.progress(self.step, self.config.steps, figures)

    # ---- a step ---------------------------------------------------------------------------------------------------

    def _loader(self) -> StepLoader[tuple[Share, list[Any]]]:
        """What this process computes in each step from here on, made ahead of time."""
        config, ranks = self.config, self.ranks
        assert ranks is not None
        gpu = ranks.device.type == "cuda"
        workers = config.data_workers
        if workers is None:
            workers = default_workers(ranks.device, ranks.local_world)
        load = partial(load_step, self.stage, ranks.rank, ranks.world, config.accumulate)
        return StepLoader(
            load, self.step, config.steps, workers=workers, prefetch=config.prefetch, pin_memory=gpu and bool(workers)
        )

    def _train_step(self, share: Share, parts: list[Any]) -> dict[str, float]:
        stage, config, ranks = self.stage, self.config, self.ranks
        assert ranks is not None
        stage.ranks = ranks if share.split else Ranks(ranks.device)
        parts = [map_tensors(part, partial(Tensor.to, device=ranks.device, non_blocking=True)) for part in parts]
        generators = [RowGenerator(config.seed, self.step, rows) for rows in share.parts]
        figures: dict[str, float] = {"rate": config.rate(self.step)}
        for module in stage.players.values():
            module.train()
        for name, player in self.players.items():
            player.begin(figures["rate"])
            losses = self._backward(name, parts, generators, share)
            if not losses:
                continue
            if not all(map(math.isfinite, losses.values())):
                found = ", ".join(f"{k}={v}" for k, v in losses.items())
                self._break(f"the loss is not finite ({found})")
            norms = player.step()
            if not math.isfinite(norms["gradient"]):
                if not player.may_lose:  # else the weights would be lost, and the next checkpoint with them
                    self._break("the gradient is not finite")
                norms = {"lost": 1.0}  # JSON knows no infinity
            figures |= losses | {f"{name}_{kind}": value for kind, value in norms.items()}
            if config.precision == "float16":
                figures[f"{name}_loss_scale"] = player.scale
        after = torch.Generator().manual_seed(mixed(config.seed, self.step))
        figures |= self.players[next(iter(self.players))].look(
            lambda: stage.after_step(self.step, parts[-1], after), precision="float32"
        )
        self._average()
        return figures

    def _backward(self, name: str, parts: list[Any], generators: list[RowGenerator], share: Share) -> dict[str, float]:
        """Add up a player's gradients over the parts of a batch; its losses over the whole batch, of all processes."""
        stage, player, ranks = self.stage, self.players[name], self.stage.ranks
        weights = self._weights(name, parts, share)
        sums: dict[str, Tensor] = {}
        for index, (part, generator, weight) in enumerate(zip(parts, generators, weights, strict=True)):
            torch.manual_seed(mixed(self.config.seed, self.step, ranks.rank, index))  # dropout knows this one alone
            with player.without_sync(last=index == len(parts) - 1):
                losses = player.run(partial(stage.losses, name, part, generator))
                if not losses:
                    return {}
                shares = {k: loss.float() * weight.get(k, weight[""]) for k, loss in losses.items()}
                total = torch.stack(list(shares.values())).sum()
                (total * (ranks.world * player.scale)).backward()  # several processes take the mean of gradients
            sums = {k: sums.get(k, 0.0) + v.detach() for k, v in shares.items()}
        figures = ranks.sum(torch.stack(list(sums.values())))
        return dict(zip(sums, figures.tolist(), strict=True))

    def _weights(self, name: str, parts: list[Any], share: Share) -> list[dict[str, float]]:
        """What each loss of each part is worth: its share of all the elements that the loss is a mean over."""
        ranks = self.stage.ranks
        counts = [
            {"": float(len(rows)), **self.stage.counts(name, part)}
            for rows, part in zip(share.parts, parts, strict=True)
        ]
        if len(parts) == ranks.world == 1:
            return [dict.fromkeys(counts[0], 1.0)]
        totals = ranks.sum(torch.tensor([[c[k] for k in counts[0]] for c in counts], device=ranks.device).sum(0))
        return [{k: c[k] / max(1.0, t) for k, t in zip(c, totals.tolist(), strict=True)} for c in counts]

    def _break(self, what: str) -> None:
        """End the run over a step that cannot be used.

        Raises:
            UserError: Always.
        """
        kept = save_broken_batch(self.folder, self.stage, self.step, what) if self._first else None
        raise UserError(
            f"{self.stage.name}: step {self.step}: {what}; lower loop.learning_rate"
            + (f", or look at the batch in {kept}" if kept else "")
        )

    @torch.no_grad()
    def _average(self) -> None:
        # the early steps count for less: an average over the first hundred steps has no memory of the start
        decay = min(self.config.average, (1 + self.step) / (10 + self.step)) if self.config.average else 0.0
        for key, value in self.stage.network.state_dict().items():
            if value.is_floating_point() and decay:
                self.averaged[key].lerp_(value, 1 - decay)
            else:
                self.averaged[key].copy_(value)

    # ---- looking at it --------------------------------------------------------------------------------------------

    def evaluate(self) -> dict[str, float]:
        """Held-out figures with the averaged weights; the weights in training come back afterwards.

        All processes compute all of it: a mean over a few dozen clips is not worth the risk of a wrong one.
        """
        network, player = self.stage.network, next(iter(self.players.values()))
        self.stage.ranks = Ranks(player.ranks.device)
        current = {k: v.detach().clone() for k, v in network.state_dict().items()}
        network.load_state_dict(self.averaged)
        network.eval()
        figures = player.look(self.stage.evaluate)
        if self.config.pictures:
            pictures, samples = player.look(self.stage.pictures), player.look(self.stage.samples)
            if self._first:
                draw_pictures(self.folder / "pictures", self.step, pictures)
                write_samples(self.folder / "samples", self.step, samples)
        network.load_state_dict(current)
        return {f"held_out/{name}": value for name, value in figures.items()}

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights, whole: the best, or else the last; all processes must ask for them."""
        return {name: whole(tensor).cpu() for name, tensor in (self.best or self.averaged).items()}

    def _checkpoint(self) -> None:
        assert self.ranks is not None
        tensors = {f"averaged.{k}": whole(v).cpu() for k, v in self.averaged.items()}
        tensors |= {f"best.{k}": whole(v).cpu() for k, v in self.best.items()}
        for name, player in self.players.items():
            tensors |= {f"player.{name}.{k}": whole(v) for k, v in player.network.state_dict().items()}
            tensors |= {f"optimizer.{name}.{k}": v for k, v in player.state().items()}
        if self._first:
            facts = {"stage": self.stage.name, "processes": str(self.ranks.world)}
            if self.stopping:
                facts["evaluations"] = json.dumps(self.evaluations)
            write_checkpoint(self.folder / "checkpoints", self.step, tensors, keep=self.config.keep, facts=facts)
        self.ranks.wait()

    def _resume(self) -> None:
        assert self.ranks is not None
        found = newest_checkpoint(self.folder / "checkpoints") if self._first else None
        path = self.ranks.agree(found.path if found else None)
        if path is None:
            return
        if found is None:
            try:
                found = read_checkpoint(path)
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path} is not there for all processes ({error}): share the run folder") from error
        then, now = found.facts.get("processes", "1"), str(self.ranks.world)
        if then != now and self._first:
            log.warning(
                "%s goes on with %s processes, before there were %s: the batch of each step stays the same, each of "
                "them computes 1/%s of its rows", self.stage.name, now, then, now,
            )  # fmt: skip
        self.step, tensors = found.step, found.tensors
        if self.stopping:
            self.evaluations = [(step, figures) for step, figures in json.loads(found.facts.get("evaluations", "[]"))]
        log.info("%s goes on from step %d (%s)", self.stage.name, self.step, path.name)
        self._load_checkpoint(tensors, f"{path} (--no-resume starts anew)")

    def _load_checkpoint(self, tensors: Mapping[str, Tensor], what: str) -> None:
        for name, player in self.players.items():
            load_strictly(player.network, _under(tensors, f"player.{name}."), what)
            player.load_state(_under(tensors, f"optimizer.{name}."))
        self.averaged = {k: like(self.averaged[k], v) for k, v in _under(tensors, "averaged.").items()}
        self.best = {k: like(self.averaged[k], v) for k, v in _under(tensors, "best.").items()}


def load_step(stage: Stage, rank: int, world: int, accumulate: int, step: int) -> tuple[Share, list[Any]]:
    """What a process computes in a step: which rows of the batch in which parts, and those parts."""
    share = Share.of(stage.rows(step), rank, world, accumulate)
    return share, [stage.part(step, slice(rows.start, rows.stop)) for rows in share.parts]


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Put weights into a network that must have these and no others.

    Raises:
        ConfigError: If names or shapes differ; ``what`` says whose weights they are.
    """
    own = module.state_dict()
    shapes, given = ({k: v.shape for k, v in state.items()} for state in (own, tensors))
    odd = sorted(k for k in shapes | given if shapes.get(k) != given.get(k))
    if odd:
        raise ConfigError(f"{what} does not fit the configured network: {len(odd)} tensors differ, {odd[0]} among them")
    module.load_state_dict({name: like(own[name], tensor) for name, tensor in tensors.items()})


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
