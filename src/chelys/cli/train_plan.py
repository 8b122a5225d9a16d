"""``chelys train plan``: parameters, memory, operations and hours of a run, before it starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from chelys.cli.console import tell
from chelys.errors import ConfigError

if TYPE_CHECKING:
    from chelys.training.estimate import Estimate

HELP = "Estimate parameters, memory without activations, operations and hours of a run, from its configuration alone."
EXAMPLE = "Example: chelys train plan --config tortoise_v2/autoregressive --gpus 8"
GB = 10**9
STAGE = "stage"


class StageOrPlan(TyperGroup):
    """``train plan ...`` is a command of its own; everything else after ``train`` is for a stage."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the name of the hidden command where the user leaves it out."""
        return super().parse_args(ctx, args if args[:1] == ["plan"] else [STAGE, *args])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Keep that name out of what is printed."""
        name, command, rest = super().resolve_command(ctx, args)
        return "" if name == STAGE else name, command, rest


def train_app(train: Callable[..., None], help: str, epilog: str) -> typer.Typer:
    """The command ``train`` with ``plan`` beside the stages."""
    epilog = f"{epilog}\n\nHow long will it take? chelys train plan --help"
    app = typer.Typer(cls=StageOrPlan, help=help, epilog=epilog)
    app.command(STAGE, hidden=True, help=help, epilog=epilog)(train)
    app.command("plan", help=HELP, epilog=EXAMPLE)(plan)
    return app


def plan(
    config: Annotated[Path, typer.Option("--config", help="YAML file of the run.")],
    gpus: Annotated[int, typer.Option("--gpus", help="GPUs that share each batch.")] = 1,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Laid over the file, for example loop.grad_accum_steps=4."),
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", help="Which network, if the file's name does not say.")
    ] = None,
    clip_seconds: Annotated[float, typer.Option("--clip-seconds", help="Usual length of a clip.")] = 6.0,
    flops_per_second: Annotated[
        float | None, typer.Option("--flops-per-second", help="Of a GPU's matrix products; default: an A100's.")
    ] = None,
    utilisation: Annotated[float, typer.Option("--utilisation", help="Share of that which training reaches.")] = 0.4,
    gpu_memory: Annotated[float | None, typer.Option("--gpu-memory", hidden=True)] = None,
    hours_of_audio: Annotated[float | None, typer.Option("--hours-of-audio", hidden=True)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Read the run, count a step, print what follows."""
    from chelys.deprecation import warn_renamed
    from chelys.training.estimate import estimate
    from chelys.training.tasks import RUNS
    from chelys.training.trainer import read_run

    for option, value in (("--gpu-memory", gpu_memory), ("--hours-of-audio", hours_of_audio)):
        if value is not None:
            warn_renamed(option, None)
    name = stage or stage_of(config, tuple(RUNS))
    made = estimate(
        name, read_run(name, config, overrides or []), gpus=gpus, flops_per_second=flops_per_second,
        utilisation=utilisation, clip_seconds=clip_seconds,
    )  # fmt: skip
    if as_json:
        tell(json.dumps(asdict(made) | {"memory": made.memory}, indent=2))
        return
    rows = _rows(made)
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        tell(f"{label.ljust(width)}  {text}")
    tell(f"memory is without activations; hours are at {utilisation:.0%} of the GPUs' rate, loading not counted")


def stage_of(config: Path, stages: tuple[str, ...]) -> str:
    """The stage that a configuration file is named after: ``diffusion_latents.yaml`` is of ``diffusion``.

    Raises ConfigError if it is named after none.
    """
    found = [stage for stage in stages if config.stem == stage or config.stem.startswith((f"{stage}_", f"{stage}-"))]
    if not found:
        raise ConfigError(f"{config.name} is named after no stage: say --stage with one of {', '.join(stages)}")
    return max(found, key=len)


def _rows(made: Estimate) -> list[tuple[str, str]]:
    sizes = {"weights": made.weights, "gradients": made.gradients, "optimizer": made.optimizer, "EMA": made.ema}
    return [
        *((f"parameters of {name}", f"{count:,}") for name, count in made.parameters.items()),
        ("trained parameters", f"{made.trained:,}"),
        *((f"memory: {what}", f"{size / GB:.2f} GB") for what, size in sizes.items()),
        ("memory: total", f"{made.memory / GB:.2f} GB"),
        ("rows of a step", f"{made.rows:,}"),
        ("operations of a step", f"{made.flops_per_step:.3g} FLOP"),
        ("steps", f"{made.steps:,}"),
        ("hours", f"{made.hours:,.1f}" + (f" ({made.hours / 24:,.1f} days)" if made.hours > 72 else "")),
    ]
