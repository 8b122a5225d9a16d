"""From a stage's name and its configuration file to a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from chelys.audio.mel import MelRange
from chelys.config import from_mapping, read_config_file, to_mapping
from chelys.errors import ConfigError
from chelys.models.dvae import DVAE
from chelys.training.execute import execute
from chelys.training.runs import RUNS, DiffusionRun, DVAERun, Run
from chelys.training.trained import load_trained

__all__ = ["RUNS", "DiffusionRun", "Run", "load_trained", "run_stage", "trained_dvae"]


def run_stage(
    stage: str,
    config_path: Path,
    overrides: list[str] | None = None,
    *,
    resume: bool = True,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> Path:
    """Train a stage and leave its averaged weights in ``RUN/STAGE.safetensors``.

    Args:
        stage: One of RUNS.
        config_path: YAML with the keys of that stage's run.
        overrides: ``key.inner=value`` each, read as YAML, laid over the file.
        resume: Go on from the run folder's newest checkpoint.
        progress: Called with (step, steps, figures).

    Returns:
        Path of the weights.

    Raises:
        ConfigError: If the stage or a key is unknown, or a value is wrong.
    """
    if stage not in RUNS:
        raise ConfigError(f"unknown stage {stage!r}: choose from {', '.join(RUNS)}")
    values = read_config_file(config_path, overrides or [])
    run = from_mapping(RUNS[stage], values, where=str(config_path))
    return execute(stage, run.begin, run.loop, run.run, to_mapping(run), resume=resume, progress=progress)


def trained_dvae(run: Path) -> tuple[DVAE, MelRange]:
    """The VQ-VAE of a finished run, and the mel range that it was trained with.

    Raises:
        ConfigError: If the run is missing or not finished.
    """
    config = run / "config.json"
    if not config.is_file():
        raise ConfigError(f"no run of the dvae stage in {run}: train it first")
    built = from_mapping(DVAERun, json.loads(config.read_text(encoding="utf8")), where=str(config))
    return load_trained(DVAE(built.network), run / "dvae.safetensors"), built.mel_range
