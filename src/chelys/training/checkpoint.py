"""Checkpoints of a run, and the weights that earlier runs left.

A checkpoint is one safetensors file, renamed into place when whole, with the hash of its contents. One that cannot be
read, or whose hash differs, is passed over for the one before; if one cannot be written, for example on a full disk,
the run continues and the earlier ones stay.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from chelys.deprecation import current_tensor_name
from chelys.errors import ConfigError, ModelError, first_line
from chelys.files import atomic_path, remove_partial_files
from chelys.weights.tensor_file import read_head, read_tensors

log = logging.getLogger(__name__)
N = TypeVar("N", bound=nn.Module)

#: Prefixes of tensors in checkpoints of older releases -> of today's.
_OLD_PREFIXES = {"player.": "module.", "averaged.": "ema."}


class Checkpoint(NamedTuple):
    """Contents of a checkpoint."""

    path: Path  # the file
    step: int  # steps done
    tensors: dict[str, Tensor]  # by name
    metadata: dict[str, str]  # text that was stored beside them


def write_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], *, limit: int = 2, metadata: Mapping[str, str] | None = None
) -> Path | None:
    """Write the checkpoint of a step and drop all but the newest.

    ``folder``: made if need be; ``tensors``: what to store; ``limit``: how many checkpoints stay; ``metadata``: text to
    store beside them. Returns its path; None if it cannot be written, with a warning in the log.
    """
    path = folder / f"{step:09d}.safetensors"
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_partial_files(folder)
        with atomic_path(path) as partial:
            save_file(whole, partial, metadata=dict(metadata or {}) | {"step": str(step), "sha256": hash_of(whole)})
    except (OSError, SafetensorError) as error:
        before = max(checkpoint_files(folder), default=None)
        log.warning(
            "the checkpoint of step %d was not written (%s); the run goes on, and would resume from %s",
            step, error, before.name if before else "the start",
        )  # fmt: skip
        return None
    steps = checkpoint_files(folder)
    later = [p for p in steps if p > path]  # damaged ones that the run fell back from: never again the newest
    for old in (*later, *steps[: max(0, len(steps) - len(later) - limit)]):
        old.unlink()
    return path


def drop_checkpoints(folder: Path) -> None:
    """Drop all checkpoints: a run that starts over must not resume, later on, from those of the run before."""
    for old in checkpoint_files(folder):
        old.unlink()


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first; copies that somebody put beside them under other names are none."""
    return sorted(path for path in folder.glob("*.safetensors") if path.stem.isascii() and path.stem.isdecimal())


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest intact checkpoint, or None; damaged ones are named in the log and passed over."""
    for path in reversed(checkpoint_files(folder)):
        try:
            return read_checkpoint(path)
        except (SafetensorError, OSError) as error:
            log.warning("%s is damaged (%s); falling back to the one before", path, error)
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, of this release or an older one. Raises SafetensorError if it is damaged."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    tensors = load_file(path)
    if metadata.get("sha256") != hash_of(tensors):
        raise SafetensorError("its sha256 is not the one that was stored with it")
    for old, new in _OLD_PREFIXES.items():
        tensors = {new + k.removeprefix(old) if k.startswith(old) else k: v for k, v in tensors.items()}
    tensors = {current_tensor_name(name): tensor for name, tensor in tensors.items()}
    return Checkpoint(path, int(path.stem), tensors, metadata)


def hash_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and contents, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


# ---- weights into networks ------------------------------------------------------------------------------------------


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put weights into a network that must have these and no others.

    Raises ConfigError if names or shapes differ; ``source`` says whose weights they are.
    """
    own = module.state_dict()
    shapes, given = ({k: v.shape for k, v in state.items()} for state in (own, tensors))
    odd = sorted(k for k in shapes | given if shapes.get(k) != given.get(k))
    if odd:
        raise ConfigError(
            f"{source} does not fit the configured network: {len(odd)} tensors differ, {odd[0]} among them"
        )
    module.load_state_dict({name: shard_like(own[name], tensor) for name, tensor in tensors.items()})


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights that an earlier run left, in one file or in parts. Raises ConfigError if they are missing or damaged."""
    files = [path] if path.is_file() else sorted(path.parent.glob(f"{path.stem}-*-of-*.safetensors"))
    if not files or len(files) != int(files[0].stem.rpartition("-")[2] if files[0] != path else 1):
        raise ConfigError(f"no weights at {path}: train that stage first")
    try:
        return {name: tensor for file in files for name, tensor in read_tensors(file, read_head(file), None)}
    except (SafetensorError, ModelError) as error:
        reason = first_line(error.__cause__ or error)
        raise ConfigError(f"{path} is damaged ({reason}): train that stage again") from error


def kept_dtype(name: str, tensor: Tensor) -> torch.dtype:
    """What `write_parts` writes a tensor in: half precision, but a codebook as it is, for codes are decided by it."""
    return torch.float16 if tensor.is_floating_point() and not name.startswith("codebook.") else tensor.dtype


def write_parts(path: Path, tensors: Mapping[str, Tensor], max_bytes: int) -> list[Path]:
    """Write weights in half precision in as few files as hold ``max_bytes`` each: ``path``, or ``STEM-1-of-2``, ...

    `read_weights` finds them under ``path``.
    """
    parts: list[dict[str, Tensor]] = [{}]
    size, room = 0, max_bytes - 100_000  # for names and shapes
    for name, tensor in tensors.items():
        written = tensor.detach().to("cpu", kept_dtype(name, tensor)).contiguous()
        if parts[-1] and size + written.nbytes > room:
            parts.append({})
            size = 0
        parts[-1][name] = written
        size += written.nbytes
    stem = path.with_suffix("")
    files = [path] if len(parts) == 1 else [
        stem.with_name(f"{stem.name}-{n}-of-{len(parts)}.safetensors") for n in range(1, len(parts) + 1)
    ]  # fmt: skip
    for file, part in zip(files, parts, strict=True):
        with atomic_path(file) as partial:
            save_file(part, partial)
    return files


def load_trained(network: N, path: Path) -> N:
    """Put the weights of an earlier run in place, frozen and in evaluation mode.

    Raises ConfigError if they are missing, damaged, or of a network of other sizes.
    """
    if not any(parameter.is_meta for parameter in network.parameters()):  # which have no storage
        load_strictly(network, read_weights(path), str(path))
    return network.eval().requires_grad_(False)


def unshard(tensor: Tensor) -> Tensor:
    """A tensor that may be sharded over processes, in one piece; all processes must ask for it."""
    tensor = tensor.detach()
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def shard_like(pattern: Tensor, tensor: Tensor) -> Tensor:
    """A whole tensor laid out as another one is: on its device, sharded as it is."""
    tensor = tensor.to(pattern.device)
    if not hasattr(pattern, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, pattern.device_mesh, pattern.placements)  # type: ignore[attr-defined]
