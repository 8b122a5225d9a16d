"""From a configuration file to the weights of a stage: reads the run, opens its folder, trains, writes the weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from chelys.config import check_sizes, from_mapping, to_mapping
from chelys.configs import read_config_file
from chelys.data.manifest import BAD_CLIPS_FILE
from chelys.errors import ConfigError, OutputError, UserError, first_line
from chelys.files import atomic_path, file_lock, output_errors, remove_partial_files, write_json
from chelys.parsing import read_json
from chelys.training.checkpoint import checkpoint_files
from chelys.training.config import EarlyStopping, LoopConfig, Run
from chelys.training.distributed import make_context
from chelys.training.logging import Listener
from chelys.training.task import Task
from chelys.training.trainer import Progress, Trainer

log = logging.getLogger(__name__)


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
