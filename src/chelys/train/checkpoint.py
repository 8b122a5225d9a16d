"""Checkpoints of a run: one safetensors file each, renamed into place when whole, the two newest kept."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

KEPT = 2
log = logging.getLogger(__name__)


def write_checkpoint(folder: Path, step: int, tensors: Mapping[str, Tensor]) -> Path:
    """Write the checkpoint of a step and drop all but the two newest."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{step:09d}.safetensors"
    partial = path.with_suffix(".part")
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, partial, metadata={"step": str(step)})
    with partial.open("rb") as file:
        os.fsync(file.fileno())  # the rename must not outrun the data
    partial.replace(path)
    steps = sorted(folder.glob("*.safetensors"))
    later = [p for p in steps if p > path]  # damaged ones that the run fell back from: never again the newest
    for old in (*later, *steps[: len(steps) - len(later) - KEPT]):
        old.unlink()
    return path


def drop_checkpoints(folder: Path) -> None:
    """Drop all checkpoints: a run that starts anew must not find, later on, those of the run before."""
    for old in folder.glob("*.safetensors"):
        old.unlink()


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that can be read, or None; one that cannot is named in the log and passed over."""
    for path in sorted(folder.glob("*.safetensors"), reverse=True):
        try:
            with safe_open(path, "pt"):
                return path
        except (SafetensorError, OSError) as error:
            log.warning("%s is damaged (%s); falling back to the one before", path, error)
    return None


def read_checkpoint(path: Path) -> tuple[int, dict[str, Tensor]]:
    """Step and tensors of a checkpoint."""
    return int(path.stem), load_file(path)
