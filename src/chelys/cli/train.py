"""``chelys train``: one stage of training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chelys.cli.console import counting, progress_bar, tell
from chelys.errors import ConfigError

HELP = "Train one network; a run that was stopped goes on from its last checkpoint."
EXAMPLE = "Example: chelys train dvae --config configs/nano/dvae.yaml loop.steps=1000"


def train(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="Which network, for example dvae.")],
    config: Annotated[Path, typer.Option("--config", help="YAML file of the run.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Laid over the file, for example loop.steps=10."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on from the newest checkpoint.")] = True,
) -> None:
    """Hand the run over to the trainer."""
    for override in overrides or []:
        if not override.partition("=")[0] or "=" not in override:
            raise ConfigError(f"{override!r} is not KEY=VALUE: write for example loop.steps=1000")
    from chelys.train.run import run_stage

    with progress_bar() as update:
        weights = run_stage(
            stage,
            config,
            overrides or [],
            resume=resume,
            progress=counting(update, stage),
        )
    tell(str(weights))
