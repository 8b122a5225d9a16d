"""What a run will take before it is begun: memory, steps, hours, and what to change where it does not fit.

Everything rests on a rehearsed step (`training.rehearsal`). What is assumed beyond that is said with the plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from rehearsal import StepCost, rehearse

from chelys.audio.rates import MEL_22K, SAMPLES_PER_CODE
from chelys.errors import ConfigError
from chelys.training.config import LoopConfig, Run

GB = 10**9
#: What CUDA and its libraries take of a graphics processor before the first tensor.
CONTEXT = GB
#: FLOP/s of an A100 in matrix products, by precision; its float32 products do not use the tensor cores.
A100 = {"float32": 19.5e12, "bfloat16": 312e12, "float16": 312e12}
MOST_PARTS = 4096


@dataclass(frozen=True)
class Machine:
    """What trains.

    Attributes:
        gpus: Graphics processors, a process each; 0 is a machine without any.
        memory: Of each, or of the machine without any (bytes).
        flops: FLOP/s of each in matrix products of the run's precision.
        utilisation: Share of that which training reaches.
    """

    gpus: int
    memory: float
    flops: float
    utilisation: float = 0.4

    def __post_init__(self) -> None:
        if not 0 <= self.gpus <= 10**5:
            raise ConfigError(f"--gpus is {self.gpus}; it must be 0 (none) to 100000")
        if not 0 < self.memory < math.inf:
            raise ConfigError(f"--gpu-memory is {self.memory / GB:g} GB; it must be above 0")
        if not 0 < self.flops < math.inf:
            raise ConfigError(f"--flops-per-second is {self.flops:g}; it must be above 0, for example 312e12")
        if not 0 < self.utilisation <= 1:
            raise ConfigError(f"--utilisation is {self.utilisation:g}; it must be above 0 and at most 1")

    @property
    def processes(self) -> int:
        """How many share a batch."""
        return max(1, self.gpus)


@dataclass(frozen=True)
class Memory:
    """Bytes of one process, by what they are for.

    Attributes:
        weights: Of the players, and of frozen networks.
        gradients: One for each trained weight, float32.
        optimizer: AdamW's two moments, float32.
        average: Moving average of the network.
        exchange: Copies of gradients (DDP), or weights of the blocks at work in one piece (FSDP).
        batch: What the step reads.
        working: Activations and all else that passes.
        context: Of the graphics processor's libraries.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    exchange: int
    batch: int
    working: int
    context: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class Plan:
    """A run foretold.

    Attributes:
        stage: Name.
        machine: What it was asked for.
        loop: The run's own settings of it.
        parameters: Of each player.
        cost: Of a step of clips of usual length, of one process.
        memory: Of the costliest step.
        flops: Operations of a process in a step, the mean over the run.
        hours_of_audio: Of the corpus, if it was told.
        changes: Settings that would make it fit, ``key=value``; empty if it fits, None if nothing does.
        changed: Memory with these.
        least_gpus: Processors that would do where nothing else does; None if none can.
        assumptions: What the numbers stand on.
    """

    stage: str
    machine: Machine
    loop: LoopConfig
    parameters: dict[str, int]
    cost: StepCost
    memory: Memory
    flops: float
    hours_of_audio: float | None
    changes: tuple[str, ...] | None
    changed: Memory | None
    least_gpus: int | None
    assumptions: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether it does as it stands."""
        return self.memory.total <= self.machine.memory

    @property
    def hours(self) -> float:
        """Of the whole run."""
        return self.loop.steps * self.flops / (self.machine.flops * self.machine.utilisation) / 3600

    @property
    def flops_a_step(self) -> float:
        """Operations of all processes."""
        return self.flops * self.machine.processes

    @property
    def audio_a_step(self) -> float:
        """Seconds of speech in a step's batch."""
        return self.cost.audio * self.cost.world

    @property
    def passes(self) -> float | None:
        """How often the run goes through the corpus."""
        return self.loop.steps * self.audio_a_step / 3600 / self.hours_of_audio if self.hours_of_audio else None

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, ready for JSON; memory in bytes."""
        return {
            "stage": self.stage,
            "gpus": self.machine.gpus,
            "gpu_memory": self.machine.memory,
            "strategy": self.loop.strategy,
            "precision": self.loop.precision,
            "grad_accum_steps": self.loop.grad_accum_steps,
            "activation_checkpointing": self.loop.activation_checkpointing,
            "parameters": self.parameters,
            "trained_parameters": self.cost.trained,
            "memory": vars(self.memory) | {"total": self.memory.total},
            "fits": self.fits,
            "changes": None if self.changes is None else list(self.changes),
            "memory_changed": self.changed.total if self.changed else None,
            "least_gpus": self.least_gpus,
            "rows_a_gpu": self.cost.rows,
            "audio_seconds_a_step": self.audio_a_step,
            "steps": self.loop.steps,
            "flops_a_step": self.flops_a_step,
            "flops": self.loop.steps * self.flops_a_step,
            "hours": self.hours,
            "passes": self.passes,
            "assumptions": list(self.assumptions),
        }


def make_plan(
    stage: str, run: Run, machine: Machine, *, clip_seconds: float = 6.0, hours_of_audio: float | None = None
) -> Plan:
    """Foretell a run.

    Args:
        stage: Its name.
        run: Its settings.
        machine: What trains.
        clip_seconds: Usual length of a clip.
        hours_of_audio: Of the corpus.

    Raises:
        ConfigError: If a number makes no sense.
    """
    if not 0.1 <= clip_seconds <= 60:
        raise ConfigError(f"--clip-seconds is {clip_seconds:g}; it must be 0.1 to 60")
    if hours_of_audio is not None and not 0 < hours_of_audio < math.inf:
        raise ConfigError(f"--hours-of-audio is {hours_of_audio:g}; it must be above 0")
    longest = _longest(run)
    usual = min(clip_seconds, longest or clip_seconds)
    lengths = (usual, longest) if longest else (usual,)
    joined = min(getattr(getattr(run, "stage", None), "discriminator_start", 0), run.loop.steps)
    last = joined if joined < run.loop.steps else 0
    costs = {step: _rehearse(run, usual, machine, step) for step in {0, last}}
    flops = (costs[0].flops * joined + costs[last].flops * (run.loop.steps - joined)) / run.loop.steps
    cost, needs = costs[last], _Needs(lengths, last)
    memory, _ = needs.of(run, machine)
    changes: tuple[str, ...] | None = ()
    changed, least = None, None
    if memory.total > machine.memory:
        changes, changed = _make_it_fit(run, machine, needs)
        least = _least_gpus(run, machine, needs) if changes is None else None
    return Plan(
        stage, machine, run.loop, cost.parameters, cost, memory, flops,
        hours_of_audio, changes, changed, least,
        tuple(_assumptions(run, machine, cost, usual, longest)),
    )  # fmt: skip


def memory_of(cost: StepCost, loop: LoopConfig, machine: Machine) -> Memory:
    """Memory of one process whose step costs so much."""
    several, gpu = machine.processes > 1, machine.gpus > 0
    cut = machine.processes if several and loop.strategy == "fsdp" else 1
    gradients, average = cost.gradients // cut, cost.averaged // cut
    working = cost.working if cut == 1 else cost.working_apart
    # AdamW takes the roots of all second moments at once on a graphics processor; gradients are there, activations not.
    # An evaluation puts the weights aside.
    working = max(working, gradients if gpu else 0, average)
    exchange = 0
    if several:
        exchange = cost.gradients if cut == 1 else cost.unblocked + 2 * cost.largest_block
    return Memory(
        weights=cost.weights // cut + cost.frozen, gradients=gradients, optimizer=2 * gradients, average=average,
        exchange=exchange, batch=cost.batch, working=working, context=CONTEXT if gpu else 0,
    )  # fmt: skip


def _rehearse(run: Run, seconds: float, machine: Machine, step: int) -> StepCost:
    return rehearse(run, seconds, step=step, world=machine.processes, fused=machine.gpus > 0)


@dataclass(frozen=True)
class _Needs:
    """Asks what a run needs at its costliest.

    Attributes:
        seconds: Lengths of clips to try: a batch of short ones has more rows, one of long ones longer ones.
        step: Which step.
    """

    seconds: tuple[float, ...]
    step: int

    def of(self, run: Run, machine: Machine) -> tuple[Memory, StepCost]:
        """Memory of one process, and the step that needs it."""
        costs = [_rehearse(run, seconds, machine, self.step) for seconds in self.seconds]
        return max(((memory_of(c, run.loop, machine), c) for c in costs), key=lambda need: need[0].total)


def _longest(run: Run) -> float | None:
    """Seconds of the longest clip of a run on pairs; the others cut pieces of one length."""
    pairs = getattr(run, "pairs", None)
    # one code less, so that no rounding makes the clip too long; at the lower rate, a code lasts longer
    return (
        (pairs.max_codes - 1) * SAMPLES_PER_CODE / (24_000 if _shared(run) else MEL_22K.sample_rate) if pairs else None
    )


def _shared(run: Run) -> bool:
    sizes = [getattr(run, key, None) for key in ("network", "decoder_network")]
    return not any(getattr(size, "bands", 0) == MEL_22K.bands for size in sizes)


# ---- what to change -------------------------------------------------------------------------------------------------


def _make_it_fit(run: Run, machine: Machine, needs: _Needs) -> tuple[tuple[str, ...] | None, Memory | None]:
    """The gentlest settings with which a run fits, and its memory with them; None if there are none."""
    for changed in _gentlest_first(run, machine, needs):
        memory, _ = needs.of(changed, machine)
        if memory.total <= machine.memory:
            return _difference(run.loop, changed.loop), memory
    return None, None


def _gentlest_first(run: Run, machine: Machine, needs: _Needs) -> Iterator[Run]:
    """Runs that need less and less: parts first, which cost nothing, then blocks again, then both in pieces."""
    strategies = [run.loop.strategy]
    if machine.gpus > 1 and run.loop.strategy != "fsdp":
        strategies.append("fsdp")
    for strategy in strategies:
        for recompute in sorted({run.loop.activation_checkpointing, True}):
            loop = replace(run.loop, strategy=strategy, activation_checkpointing=recompute)
            memory, cost = needs.of(replace(run, loop=loop), machine)
            for parts in _parts(memory, cost, loop, machine):
                yield replace(run, loop=replace(loop, grad_accum_steps=parts))


def _parts(memory: Memory, cost: StepCost, loop: LoopConfig, machine: Machine) -> Iterator[int]:
    """Numbers of parts worth a try: what passes is shared among them, the rest is not."""
    if memory.total <= machine.memory:
        yield loop.grad_accum_steps
        return
    room = machine.memory - (memory.total - memory.working)
    if room <= 0 or not cost.splits:
        return
    parts = loop.grad_accum_steps * 2 ** max(1, math.ceil(math.log2(memory.working / room)))
    for _ in range(3):  # not all that passes is shared
        if parts > min(MOST_PARTS, cost.rows):
            return
        yield parts
        parts *= 2


def _least_gpus(run: Run, machine: Machine, needs: _Needs) -> int | None:
    """Processors over which the run fits, cut into pieces, with a row at a time in each."""

    def fits(gpus: int) -> bool:
        more = replace(machine, gpus=gpus)
        _, cost = needs.of(run, more)
        parts = min(cost.rows, MOST_PARTS) if cost.splits else 1
        changed = replace(
            run, loop=replace(run.loop, strategy="fsdp", activation_checkpointing=True, grad_accum_steps=parts)
        )
        return needs.of(changed, more)[0].total <= machine.memory

    numbers = [gpus for gpus in (2**power for power in range(1, 11)) if gpus > machine.gpus]
    if not numbers or not fits(numbers[-1]):
        return None
    return next((gpus for gpus in numbers[:-1] if fits(gpus)), numbers[-1])


def _difference(before: LoopConfig, after: LoopConfig) -> tuple[str, ...]:
    return tuple(
        f"loop.{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in vars(after).items()
        if value != getattr(before, key)
    )


# ---- what it stands on ----------------------------------------------------------------------------------------------


def _assumptions(run: Run, machine: Machine, cost: StepCost, usual: float, longest: float | None) -> Iterator[str]:
    yield "parameters, operations and memory are counted: a step was computed by the code that trains, without numbers"
    if getattr(run, "pairs", None):
        yield f"operations: clips of {usual:g} s; memory: the costlier of batches of such clips and of {longest:.0f} s"
    else:
        yield "operations: those of the pieces that the stage cuts out of clips"
    if cost.world < machine.processes:
        yield f"a batch has {cost.rows} rows, fewer than there are GPUs: each computes all of them, in vain"
    if machine.gpus:
        yield "attention is computed by fused kernels; 1 GB of each GPU is its libraries'; fragments are not counted"
    if machine.gpus > 1:
        yield "exchange: DDP holds gradients twice; FSDP holds two blocks and what belongs to none in one piece"
    yield (
        f"hours: {machine.flops / 1e12:.4g} TFLOP/s each in {run.loop.precision}, of which {machine.utilisation:.0%} "
        "are reached; reading data, evaluating and waiting for the slowest are not counted"
    )
