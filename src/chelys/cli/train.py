"""``chelys train``: one stage of training."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from chelys.cli.console import tell
from chelys.errors import ConfigError

HELP = "Train one network; a run that was stopped goes on from its last checkpoint."
EXAMPLE = (
    "Example: chelys train dvae --config nano/dvae loop.steps=1000. "
    "On several processors: torchrun --nproc-per-node 8 -m chelys train dvae --config nano/dvae"
)


def train(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="Which network, for example dvae.")],
    config: Annotated[Path, typer.Option("--config", help="YAML file of the run.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Laid over the file, for example loop.steps=10."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on from the newest checkpoint.")] = True,
) -> None:
    """Read the run, and train it."""
    for override in overrides or []:
        if not override.partition("=")[0] or "=" not in override:
            raise ConfigError(f"{override!r} is not KEY=VALUE: write for example loop.steps=1000")
    from chelys.training.trainer import read_run, train_run

    run = read_run(stage, config, overrides or [])
    set_threads(run.loop.threads)
    first = os.environ.get("RANK", "0") == "0"  # one of several processes prints
    with training_bar(stage, shown=first and sys.stderr is not None and sys.stderr.isatty()) as progress:
        weights = train_run(stage, run, resume=resume, progress=progress)
    if first:
        tell(str(weights))


@contextmanager
def training_bar(stage: str, *, shown: bool) -> Iterator[Callable[[int, int, dict[str, float]], None] | None]:
    """A progress bar on standard error: steps done, time left, the losses of the moment.

    ``stage``: what is trained; ``shown``: whether standard error is a terminal. Yields the trainer's progress callback,
    called with (step, steps, metrics), or None.
    """
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as TimeLeftColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeLeftColumn(compact=True), TextColumn("{task.fields[losses]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, speed_estimate_period=300) as progress:
        task = None

        def update(step: int, steps: int, metrics: dict[str, float]) -> None:
            nonlocal task
            losses = _losses(metrics, console.width - len(stage) - 2 * len(str(steps)) - 45)
            if task is None:  # a resumed run did not do its first steps just now
                task = progress.add_task(stage, total=steps, completed=step, losses=losses)
            progress.update(task, completed=step, total=steps, losses=losses, refresh=True)

        yield update


def set_threads(threads: int) -> None:
    """Let torch use so many CPU threads in this process; 0 leaves its own choice."""
    if threads:
        import torch

        torch.set_num_threads(threads)


def _losses(metrics: dict[str, float], width: int) -> str:
    """As many of a step's losses as there is room for."""
    from chelys.training.logging import NO_LOSS

    shown = ""
    for name, value in metrics.items():
        if name.endswith(NO_LOSS):
            continue
        longer = f"{shown} {name} {value:.3g}".strip()
        if len(longer) > width:
            break
        shown = longer
    return shown
