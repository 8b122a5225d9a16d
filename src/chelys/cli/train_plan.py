"""``chelys train plan``: what a run will take, before it is begun."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from chelys.cli.console import tell
from chelys.errors import ConfigError

if TYPE_CHECKING:
    from chelys.training.plan import Plan

HELP = "Foretell memory, steps, hours and operations of a run, from a step that is counted and not computed."
EXAMPLE = "Example: chelys train plan --config tortoise_v2/autoregressive --gpus 8 --gpu-memory 24"
GB = 10**9
STAGE = "stage"


class StageOrPlan(TyperGroup):
    """``train plan ...`` is a verb of its own; all else after ``train`` is for a stage."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the hidden verb where the user leaves it out."""
        return super().parse_args(ctx, args if args[:1] == ["plan"] else [STAGE, *args])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Keep that name out of what is printed."""
        name, command, rest = super().resolve_command(ctx, args)
        return "" if name == STAGE else name, command, rest


def train_app(train: Callable[..., None], help: str, epilog: str) -> typer.Typer:
    """The verb ``train`` with ``plan`` beside the stages."""
    epilog = f"{epilog}\n\nWhat would it take? chelys train plan --help"
    app = typer.Typer(cls=StageOrPlan, help=help, epilog=epilog)
    app.command(STAGE, hidden=True, help=help, epilog=epilog)(train)
    app.command("plan", help=HELP, epilog=EXAMPLE)(plan)
    return app


def plan(
    config: Annotated[Path, typer.Option("--config", help="YAML file of the run.")],
    gpus: Annotated[int, typer.Option("--gpus", help="GPUs; 0 is this machine's processor alone.")],
    gpu_memory: Annotated[float, typer.Option("--gpu-memory", metavar="GB", help="Of each GPU, or of the machine.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Laid over the file, for example loop.accumulate=4.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", help="Which network, if the file's name does not say.")
    ] = None,
    hours_of_audio: Annotated[
        float | None, typer.Option("--hours-of-audio", help="Of the corpus: how often will the run go through it?")
    ] = None,
    clip_seconds: Annotated[float, typer.Option("--clip-seconds", help="Usual length of a clip.")] = 6.0,
    flops_per_second: Annotated[
        float | None,
        typer.Option("--flops-per-second", help="Of a GPU's matrix products; default an A100's (or what is measured)."),
    ] = None,
    utilisation: Annotated[float, typer.Option("--utilisation", help="Share of that which is reached.")] = 0.4,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Read the run, count a step, print what follows."""
    from chelys.config import from_mapping, read_config_file
    from chelys.training.plan import A100, Machine, make_plan
    from chelys.training.runs import RUNS

    name = stage or stage_of(config, tuple(RUNS))
    if name not in RUNS:
        raise ConfigError(f"unknown stage {name!r}: choose from {', '.join(RUNS)}")
    run = from_mapping(RUNS[name], read_config_file(config, overrides or []), where=str(config))
    if flops_per_second is None:
        flops_per_second = A100[run.loop.precision] if gpus else _matrix_rate(run.loop.precision)
    machine = Machine(gpus, gpu_memory * GB, flops_per_second, utilisation)
    made = make_plan(name, run, machine, clip_seconds=clip_seconds, hours_of_audio=hours_of_audio)
    if as_json:
        tell(json.dumps(made.to_mapping(), indent=2))
    else:
        _show(made)


def stage_of(config: Path, stages: tuple[str, ...]) -> str:
    """The stage that a configuration file is named after: ``diffusion_latents.yaml`` is of ``diffusion``.

    Raises:
        ConfigError: If it is named after none.
    """
    found = [stage for stage in stages if config.stem == stage or config.stem.startswith((f"{stage}_", f"{stage}-"))]
    if not found:
        raise ConfigError(f"{config.name} is named after no stage: say --stage with one of {', '.join(stages)}")
    return max(found, key=len)


def _matrix_rate(precision: str) -> float:
    from chelys.training.counting import matrix_rate

    return matrix_rate(precision)


def _show(plan: Plan) -> None:
    """Tables for people."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    where = f"{plan.machine.gpus} GPU{'s' * (plan.machine.gpus > 1)}" if plan.machine.gpus else "this machine"
    memory = Table("memory of each process", "GB", title=f"{plan.stage} on {where}", title_justify="left")
    memory.columns[1].justify = "right"
    for what, size in vars(plan.memory).items():
        memory.add_row(what, f"{size / GB:.2f}")
    memory.add_section()
    memory.add_row("total", f"{plan.memory.total / GB:.2f}")
    memory.add_row("there is", f"{plan.machine.memory / GB:.2f}")
    console.print(memory)
    facts = Table("run", "")
    for what, value in _facts(plan):
        facts.add_row(what, value)
    console.print(facts)
    console.print(f"[bold]{escape(verdict(plan))}[/bold]")
    for assumption in plan.assumptions:
        console.print(f"- {escape(assumption)}")


def _facts(plan: Plan) -> list[tuple[str, str]]:
    loop, cost = plan.loop, plan.cost
    facts = [(f"parameters of {name}", f"{count:,}") for name, count in plan.parameters.items()]
    facts += [
        ("trained", f"{cost.trained:,}"),
        ("rows of each process", f"{cost.rows} in {min(loop.accumulate, cost.rows) if cost.splits else 1} part(s)"),
        ("speech in a step", f"{plan.audio_a_step:,.0f} s"),
        ("steps", f"{loop.steps:,}"),
        ("operations of a step", f"{plan.flops_a_step:.3g}"),
        ("operations of the run", f"{plan.flops_a_step * loop.steps:.3g}"),
        ("hours", f"{plan.hours:,.1f}" + (f" ({plan.hours / 24:,.1f} days)" if plan.hours > 72 else "")),
    ]
    if plan.passes is not None:
        facts.append(("passes through the corpus", f"{plan.passes:,.2f}"))
    return facts


def verdict(plan: Plan) -> str:
    """Whether it fits, or what would."""
    if plan.fits:
        return "It fits."
    if plan.changes and plan.changed:
        return f"It does not fit; it does with {' '.join(plan.changes)}: {plan.changed.total / GB:.2f} GB."
    if plan.least_gpus:
        return (
            f"It does not fit, whatever is set; over {plan.least_gpus} such GPUs it does, with loop.strategy=fsdp "
            "loop.recompute=true and a large loop.accumulate."
        )
    return "It does not fit, whatever is set: it needs more memory, smaller batches or a smaller network."
