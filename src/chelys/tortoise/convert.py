"""Published checkpoints to a model folder, and back.

All files are opened and held against the name tables before anything is written. Then network follows network, each
file under another name until it is whole, and noted in a journal; ``config.json`` comes last, and without it nothing
loads. A conversion that was stopped goes on where it was: networks that the journal has, and whose files are still
what it says, are passed over.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from chelys.errors import ModelError
from chelys.tortoise.checkpoint import read_checkpoint
from chelys.tortoise.journal import Journal, claimed
from chelys.tortoise.model import TortoiseConfig, published_config, published_skeleton
from chelys.tortoise.name_tables import TABLES
from chelys.tortoise.silence_trimming import SilenceTrimming
from chelys.tortoise.sizes import PUBLISHED, infer_config
from chelys.tortoise.state_dicts import from_tortoise
from chelys.tortoise.tokenizer import make_tortoise_tokenizer
from chelys.weights.checks import require_disk
from chelys.weights.folder import (
    CONFIG_FILE,
    ModelConfig,
    contradiction,
    read_config,
    write_config,
)
from chelys.weights.placement import as_dtype
from chelys.weights.tensor_file import OUR_LENGTH, read_head, sha256, write_tensors

REQUIRED = ("autoregressive", "clvp", "diffusion", "univnet")
OPTIONAL = ("cvvp", "hifigan", "autoregressive_prior", "diffusion_prior", "detector", "dvae")
FOLDERS = ("", ".models")  # where the two published repositories have their files
WeightNorm = Literal["keep", "fold"]

#: Called with what is done just now, and the megabytes done and in all.
Progress = Callable[[str, int, int], None]

log = logging.getLogger(__name__)


def file_of(network: str) -> str:
    """Name in a model folder of a network's file."""
    return f"{'vocoder' if network == 'univnet' else network}.safetensors"


def find_checkpoints(source: Path, without: Collection[str] = ()) -> dict[str, Path]:
    """The published files in a folder: network to file.

    Args:
        source: The folder; the files may lie in it or in ``.models`` inside it.
        without: Optional networks to leave out.

    Raises:
        ModelError: If the folder lacks a file that is required, or a name of ``without`` is no optional network.
    """
    for network in without:
        if network not in OPTIONAL:
            raise ModelError(f"cannot leave out {network!r}: choose from {', '.join(OPTIONAL)}")
    if not source.is_dir():
        raise ModelError(f"no folder at {source}: give the one that has {TABLES['autoregressive'].file}")
    found = [{n: source / sub / TABLES[n].file for n in (*REQUIRED, *OPTIONAL)} for sub in FOLDERS]
    there = [{n: path for n, path in files.items() if path.is_file() and n not in without} for files in found]
    best = max(there, key=lambda files: sum(n in files for n in REQUIRED))
    missing = [TABLES[n].file for n in REQUIRED if n not in best]
    if missing:
        raise ModelError(f"{source} lacks {', '.join(missing)}: give a folder of TorToise v2's files, by those names")
    return best


# ---- there ------------------------------------------------------------------------------------------------------


@dataclass
class _Part:
    """One network on its way."""

    network: str
    path: Path
    state: Mapping[str, Tensor]  # mapped
    sizes: Any
    model: nn.Module  # names and shapes
    written: int  # bytes it will take

    def tensors(self) -> dict[str, Tensor]:
        """Under our names."""
        return from_tortoise(self.network, self.state, self.model)


def convert(
    files: Mapping[str, Path],
    target: Path,
    *,
    dtype: str = "float32",
    weight_norm: WeightNorm = "keep",
    origin: str = "",
    spare: bool = False,
    progress: Progress | None = None,
) -> ModelConfig:
    """Write a model folder from published files.

    Args:
        files: Network to file, from `find_checkpoints`.
        target: The folder; new, empty, or left by a conversion that was stopped.
        dtype: Of the weights on disk. Anything but float32 is smaller, and does not come back the same.
        weight_norm: ``keep`` the kernels as the files have them, as direction and length, or ``fold`` them. A model
            that speaks folds them in any case.
        origin: Noted in ``config.json``: where the files were fetched from.
        spare: Leave out an optional network whose file does not fit, with a warning, where all else is refused.
        progress: Called as the work goes on.

    Returns:
        The configuration that was written.

    Raises:
        ModelError: If a file is no checkpoint, or not the one that its name says; nothing is written then.
        OutputError: If the folder holds something else, or the disk has no room.
    """
    kind = as_dtype(dtype)
    if weight_norm not in ("keep", "fold"):
        raise ModelError(f"unknown weight norm {weight_norm!r}: choose keep or fold")
    parts = []
    for network, path in files.items():
        try:
            parts.append(_open(network, path, kind, weight_norm))
        except ModelError as error:
            if not spare or network in REQUIRED:
                raise
            log.warning("%s; the model goes without it", error)
    config = _config(parts, origin)
    done = _converted(target, parts, kind, weight_norm)
    if done is not None:
        return done
    with claimed(target, last=CONFIG_FILE) as journal:
        journal.begin({"dtype": dtype, "weight_norm": weight_norm})
        todo = [part.written for part in parts if file_of(part.network) not in journal.files]
        require_disk(target, sum(todo), "the model takes")
        meter = Meter(progress, sum(part.path.stat().st_size + part.written for part in parts))
        for part in parts:
            _write(part, target, kind, journal, meter)
            part.state = {}  # its pages need stay in memory no longer
        make_tortoise_tokenizer().save(target)
        sources = {part.path.name: journal.sources[file_of(part.network)] for part in parts}
        hashes = {file_of(part.network): journal.files[file_of(part.network)] for part in parts}
        return write_config(target, replace(config, source_hashes=sources), hashes)


def _converted(target: Path, parts: list[_Part], dtype: torch.dtype, weight_norm: str) -> ModelConfig | None:
    """The configuration of a folder that holds just what would be written."""
    if not (target / CONFIG_FILE).is_file():
        return None
    there = read_config(target)
    if there.source_hashes.keys() != {part.path.name for part in parts}:
        return None
    for part in parts:
        head = read_head(target / file_of(part.network))
        split = any(name.endswith(OUR_LENGTH) for name in head)
        wanted = weight_norm == "keep" and TABLES[part.network].weight_norm
        if split != wanted or {entry.dtype for entry in head.values()} != {dtype}:
            return None
    if any(sha256(part.path) != there.source_hashes[part.path.name] for part in parts):
        return None
    log.info("%s is converted already", target)
    return there


def _open(network: str, path: Path, dtype: torch.dtype, weight_norm: WeightNorm) -> _Part:
    """A file, known to fit; the published sizes are tried first where those that it shows do not."""
    state = read_checkpoint(path, network)
    options = {"weight_norm": True} if TABLES[network].weight_norm and weight_norm == "keep" else {}
    faults = []
    for sizes in dict.fromkeys((infer_config(network, state), PUBLISHED[network])):
        try:
            model = published_skeleton(network, sizes, **options)
            # small ones as they are, for folding on the meta device would import the compiler
            shown = state if TABLES[network].weight_norm else {name: value.to("meta") for name, value in state.items()}
            wanted = from_tortoise(network, shown, model)
        except ModelError as error:
            faults.append(str(error))
        except (ValueError, RuntimeError, ZeroDivisionError, AssertionError) as error:
            faults.append(f"{network}: no network has such sizes ({(str(error).splitlines() or ['?'])[0]})")
        else:
            written = sum(t.numel() * (dtype if t.is_floating_point() else t.dtype).itemsize for t in wanted.values())
            whole = [name for name, tensor in wanted.items() if not tensor.is_floating_point()]
            if whole:
                raise ModelError(f"{path}: tensor {whole[0]} holds whole numbers: give TorToise v2's file")
            return _Part(network, path, state, sizes, model, written)
    # one wrong tensor makes many look wrong beside sizes that were read off it
    raise ModelError(f"{path} does not fit: {min(faults, key=_faults)}")


def _faults(message: str) -> int:
    """How many tensors a refusal speaks of, and with it how far the sizes were from right."""
    return sum(int(n) for n in re.findall(r"and (\d+) more", message)) + (10**6 if "no network" in message else 0)


def _config(parts: list[_Part], origin: str) -> TortoiseConfig:
    sizes = {network: None for network in OPTIONAL} | {part.network: part.sizes for part in parts}
    config = published_config(**sizes, origin=origin)
    codes = config.autoregressive.codes
    rules = SilenceTrimming()
    if codes != PUBLISHED["autoregressive"].codes:  # another code book has its silence elsewhere, or its start
        fit = max(rules.silence, *rules.tail) < codes
        config = replace(config, silence_trimming=replace(rules, sampled_before=(1, codes)) if fit else None)
    fault = contradiction(config)
    if fault:
        files = [str(part.path) for part in parts if f"{part.network}." in fault.replace("vocoder", "univnet.")]
        raise ModelError(f"{' and '.join(files)} do not belong together: {fault}")
    return config


def _write(part: _Part, target: Path, dtype: torch.dtype, journal: Journal, meter: Meter) -> None:
    """Write a network and note it, unless that was done before."""
    file = target / file_of(part.network)
    meter.stage = f"reading {part.path.name}"
    source = sha256(part.path, meter.add)
    same = journal.sources.get(file.name) == source and file.is_file() and sha256(file) == journal.files[file.name]
    if same:
        log.info("%s is there already", file)
        meter.add(part.written)
        return
    meter.stage = f"writing {file.name}"
    try:
        digest = write_tensors(file, part.tensors(), network=file.stem, dtype=dtype, progress=meter.add)
    except ModelError as error:
        raise ModelError(f"{part.path}: {error}") from error
    journal.note(file.name, source, digest)
    log.info("wrote %s", file)


@dataclass
class Meter:
    """Bytes to what a progress bar shows."""

    progress: Progress | None
    total: int
    stage: str = ""
    done: int = 0

    def add(self, count: int) -> None:
        self.done += count
        if self.progress is not None:
            self.progress(self.stage, self.done // 1_000_000, max(1, self.total // 1_000_000))
