"""From a stage and its settings to weights on the disk: what the processes of a run do before and after the steps."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from chelys.data.bad_clips import FILE_NAME as BAD_CLIPS_FILE
from chelys.data.bad_clips import BadClips
from chelys.errors import OutputError
from chelys.training.distributed import make_ranks
from chelys.training.loop import LoopConfig, Stage, Trainer
from chelys.training.stopping import EarlyStopping

log = logging.getLogger(__name__)
Progress = Callable[[int, int, dict[str, float]], None]


def execute(
    name: str,
    build: Callable[[], Stage],
    loop: LoopConfig,
    folder: Path,
    facts: dict[str, Any],
    *,
    resume: bool = True,
    progress: Progress | None = None,
    stopping: EarlyStopping | None = None,
) -> Path:
    """Train a stage and leave its averaged weights in ``folder/NAME.safetensors``.

    Args:
        name: Of the stage.
        build: Makes it; its network's weights are drawn from torch's own generator.
        loop: How to train.
        folder: Run folder.
        facts: Configuration of the run, for ``config.json``.
        resume: Go on from the newest checkpoint.
        progress: Called with (step, steps, figures).
        stopping: Ends the run early; the best weights are left in place of the last.

    Returns:
        Path of the weights.

    Raises:
        OutputError: If the run folder or the weights cannot be written.
    """
    ranks = make_ranks(loop)
    torch.manual_seed(loop.seed)  # fresh weights; later the loop seeds every step
    stage = build()
    if ranks.rank == 0:
        _open_folder(folder, facts, resume=resume)
    ranks.wait()
    trainer = Trainer(stage, loop, folder, progress, ranks, stopping)
    try:
        _list_bad_clips(stage.bad_clips, folder, first=ranks.rank == 0)
        trainer.run(resume=resume)
    finally:
        if ranks.rank == 0:
            stage.bad_clips.write(folder / BAD_CLIPS_FILE)
    weights = trainer.weights()
    path = folder / f"{name}.safetensors"
    if ranks.rank == 0:
        _write_weights(path, weights)
    ranks.wait()
    return path


def _open_folder(folder: Path, facts: dict[str, Any], *, resume: bool) -> None:
    path = folder / "config.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if resume and (changed := _changes(path, facts)) and any((folder / "checkpoints").glob("*.safetensors")):
            log.warning("%s goes on with other settings than it began with: %s", folder, ", ".join(changed))
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf8")
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another with run=FOLDER") from error


def _changes(path: Path, facts: dict[str, Any]) -> list[str]:
    """Settings that differ from those in a run's ``config.json``, but for how long it runs and where."""
    try:
        before = _flat(json.loads(path.read_text(encoding="utf8")))
    except (OSError, ValueError):
        return []
    now = _flat(facts)
    harmless = {"run", "loop.steps", "loop.threads", "loop.strategy", "loop.device", "loop.keep"}
    harmless |= {"loop.data_workers", "loop.prefetch"}
    odd = [key for key in now | before if now.get(key) != before.get(key) and key not in harmless]
    return [f"{key}={now.get(key)} (was {before.get(key)})" for key in sorted(odd)]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _list_bad_clips(bad: BadClips, folder: Path, *, first: bool) -> None:
    if first:
        bad.write(folder / BAD_CLIPS_FILE)
        if len(bad):
            log.warning("%d clips are left out (%s): see %s", len(bad), bad.summary(), folder / BAD_CLIPS_FILE)


def _write_weights(path: Path, weights: dict[str, torch.Tensor]) -> None:
    partial = path.with_suffix(".part")
    try:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, partial)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {path} ({error}): make room and start the run again; it goes on from its last checkpoint"
        ) from error
