"""Checkpoints of a run: one safetensors file each, renamed into place when whole, with the hash of what it holds.

One that cannot be read, or whose hash is another, is passed over for the one before; one that cannot be written, for
want of room, leaves those before in place.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from chelys.deprecation import current_tensor_name

KEPT = 2
log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        path: The file.
        step: Steps done.
        tensors: By name.
        facts: What else was written down.
    """

    path: Path
    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, str]


def write_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], *, keep: int = KEPT, facts: Mapping[str, str] | None = None
) -> Path | None:
    """Write the checkpoint of a step and drop all but the newest.

    Args:
        folder: Made if need be.
        step: Steps done.
        tensors: What to keep.
        keep: How many checkpoints stay.
        facts: What else to write down.

    Returns:
        Its path; None where the disk has no room, of which the log tells.
    """
    path = folder / f"{step:09d}.safetensors"
    partial = path.with_suffix(".part")
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(whole, partial, metadata=dict(facts or {}) | {"step": str(step), "sha256": hash_of(whole)})
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # the rename must not outrun the data
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        before = max(folder.glob("*.safetensors"), default=None)
        log.warning(
            "the checkpoint of step %d was not written (%s); the run goes on, and would resume from %s",
            step, error, before.name if before else "the start",
        )  # fmt: skip
        return None
    steps = sorted(folder.glob("*.safetensors"))
    later = [p for p in steps if p > path]  # damaged ones that the run fell back from: never again the newest
    for old in (*later, *steps[: max(0, len(steps) - len(later) - keep)]):
        old.unlink()
    return path


def drop_checkpoints(folder: Path) -> None:
    """Drop all checkpoints: a run that starts anew must not find, later on, those of the run before."""
    for old in folder.glob("*.safetensors"):
        old.unlink()


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is as it was written, or None; one that is not is named in the log and passed over."""
    for path in sorted(folder.glob("*.safetensors"), reverse=True):
        try:
            return read_checkpoint(path)
        except (SafetensorError, OSError) as error:
            log.warning("%s is damaged (%s); falling back to the one before", path, error)
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        SafetensorError: If it is damaged.
    """
    with safe_open(path, "pt") as file:
        facts = file.metadata() or {}
    tensors = load_file(path)
    if facts.get("sha256") != hash_of(tensors):
        raise SafetensorError("its sha256 is not the one that was written down")
    tensors = {current_tensor_name(name): tensor for name, tensor in tensors.items()}
    return Checkpoint(path, int(path.stem), tensors, facts)


def hash_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, kinds, shapes and contents, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
