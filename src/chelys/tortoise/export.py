"""A model folder to published checkpoints: the way back of `tortoise.convert`."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from chelys.errors import ModelError
from chelys.files import atomic_file
from chelys.tortoise.convert import OPTIONAL, REQUIRED, Meter, Progress, file_of
from chelys.tortoise.journal import claimed
from chelys.tortoise.model import published_skeleton
from chelys.tortoise.name_tables import TABLES
from chelys.tortoise.state_dicts import to_tortoise
from chelys.weights.checks import require_disk
from chelys.weights.folder import ModelConfig, read_config
from chelys.weights.placement import as_dtype
from chelys.weights.tensor_file import read_head, read_tensors, sha256

log = logging.getLogger(__name__)


def export(source: Path, target: Path, *, dtype: str = "float32", progress: Progress | None = None) -> list[Path]:
    """Write the published files of a model folder, each network under its published names.

    Args:
        source: The model folder; of TorToise v2's kind.
        target: Folder for the files; new, empty, or left by an export that was stopped.
        dtype: Of the tensors.
        progress: Called as the work goes on.

    Returns:
        The files.

    Raises:
        ModelError: If the model has a part that the published layout has no names for; nothing is written then.
        OutputError: If the folder holds something else, or the disk has no room.
    """
    kind = as_dtype(dtype)
    config = read_config(source)
    networks = [network for network in (*REQUIRED, *OPTIONAL) if (source / file_of(network)).is_file()]
    names = {network: _names(config, network, source) for network in networks}
    missing = [file_of(network) for network in REQUIRED if network not in networks]
    if missing:
        raise ModelError(f"{source} lacks {missing[0]}; get the model again")
    heads = {network: read_head(source / file_of(network)) for network in networks}
    sizes = {network: sum(entry.size(kind) for entry in head.values()) for network, head in heads.items()}
    last = TABLES[networks[-1]].file
    with claimed(target, last=last) as journal:
        journal.begin({"dtype": dtype})
        todo = [network for network in networks if TABLES[network].file not in journal.files]
        require_disk(target, sum(sizes[network] for network in todo), "the checkpoints take")
        meter = Meter(progress, sum((source / file_of(n)).stat().st_size + sizes[n] for n in networks))
        for network in networks:
            path, file = source / file_of(network), target / TABLES[network].file
            meter.stage = f"reading {path.name}"
            digest = sha256(path, meter.add)
            if (
                journal.sources.get(file.name) != digest
                or not file.is_file()
                or sha256(file) != journal.files[file.name]
            ):
                meter.stage = f"writing {file.name}"
                state = to_tortoise(network, dict(read_tensors(path, heads[network], kind)))
                _check(path, state, names[network])
                _save(state, file, TABLES[network].entry)
                journal.note(file.name, digest, sha256(file))
                log.info("wrote %s", file)
            meter.add(sizes[network])
    return [target / TABLES[network].file for network in networks]


def _names(config: ModelConfig, network: str, source: Path) -> dict[str, tuple[int, ...]]:
    """Published names and shapes that a network of the model will have."""
    sizes = getattr(config, network, None)
    if sizes is None:
        raise ModelError(
            f"{source} has no {network}: only a model of TorToise v2's kind can be written as it was published"
        )
    try:
        model = published_skeleton(network, sizes, weight_norm=TABLES[network].weight_norm)
        published = to_tortoise(network, model.state_dict())
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error
    return {name: tuple(tensor.shape) for name, tensor in published.items()}


def _check(path: Path, state: dict[str, Tensor], names: dict[str, tuple[int, ...]]) -> None:
    for name in sorted(state.keys() ^ names.keys()):
        raise ModelError(f"{path} does not fit config.json: {name} is {'unexpected' if name in state else 'missing'}")
    for name, shape in names.items():
        if tuple(state[name].shape) != shape:
            raise ModelError(
                f"{path} does not fit config.json: {name} has shape {tuple(state[name].shape)}, not {shape}"
            )


def _save(state: dict[str, Tensor], file: Path, entry: str) -> None:
    """Plain tensors, each with a storage of its own: one that is a stretch of a map would bring the whole map along."""
    plain = {
        name: tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
        for name, tensor in state.items()
    }
    with atomic_file(file) as opened:
        torch.save({entry: plain} if entry else plain, opened)
