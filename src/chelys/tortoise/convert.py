"""Published checkpoints to a model folder, and back.

All files are opened and held against the name tables before anything is written. Then network follows network, each
file under another name until it is whole, and noted in a journal; ``config.json`` comes last, and without it nothing
loads. A conversion that was stopped continues where it was: networks that the journal has, and whose files are still
what it says, are passed over.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from chelys.errors import ModelError, OutputError
from chelys.files import atomic_file, file_lock, output_errors, remove_partial_files, write_text
from chelys.parsing import read_json
from chelys.tortoise.model import SilenceTrimming, TortoiseConfig, published_config, published_skeleton
from chelys.tortoise.sizes import PUBLISHED, infer_config
from chelys.tortoise.state_dicts import TABLES, from_tortoise, read_checkpoint, to_tortoise
from chelys.tortoise.tokenizer import make_tortoise_tokenizer
from chelys.weights.checks import as_dtype, require_disk
from chelys.weights.folder import CONFIG_FILE, ModelConfig, contradiction, read_config, write_config
from chelys.weights.tensor_file import OUR_LENGTH, read_head, read_tensors, sha256, write_tensors

_JOURNAL, _LOCK = ".conversion.json", ".conversion.lock"


@dataclass
class Journal:
    """What is finished."""

    folder: Path  # what is being written
    #: Of the conversion; what was finished with others is of no use
    settings: dict[str, str] = field(default_factory=dict)
    #: Name of each finished file to the SHA-256 of what it was made from
    sources: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)  # name of each finished file to its own

    def note(self, name: str, source: str, file: str) -> None:
        """A file is finished."""
        self.sources[name], self.files[name] = source, file
        values = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_text(self.folder / _JOURNAL, json.dumps(values))

    def has(self, name: str, source: str) -> bool:
        """Whether a file was finished from such a source, and still is what it was."""
        file = self.folder / name
        return self.sources.get(name) == source and file.is_file() and sha256(file) == self.files[name]

    def begin(self, settings: dict[str, str]) -> None:
        """Go on with what was finished with the same settings; drop the rest."""
        if self.settings != settings:
            for name in self.files:
                (self.folder / name).unlink(missing_ok=True)
            self.settings, self.sources, self.files = settings, {}, {}


@contextmanager
def claimed(folder: Path, last: str) -> Iterator[Journal]:
    """Hold a folder alone while it is written, and give its journal; one in which nothing was finished stays as it was.

    The folder is new, empty, or left by a conversion that was stopped; the file ``last`` says that all is finished.

    Raises:
        OutputError: If the folder holds something else, cannot be written, or another process writes it.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = {path.name for path in folder.iterdir()}
        if there and not there & {_JOURNAL, _LOCK}:
            raise OutputError(f"{folder} is not empty: name a folder that is new or empty")
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from error
    with file_lock(folder / _LOCK, f"another conversion is writing {folder}: wait for it, or name another folder"):
        remove_partial_files(folder)
        (folder / last).unlink(missing_ok=True)  # of one that was killed while it tidied up
        journal = _read(folder)
        try:
            yield journal
        finally:
            if not journal.files:  # a file may be finished and not yet noted
                for name in _written() - there:
                    (folder / name).unlink(missing_ok=True)
            nothing = {path.name for path in folder.iterdir()} <= {_JOURNAL, _LOCK}
            if nothing or (folder / last).is_file():
                _tidy(folder)
            for path in made:
                if path.is_dir() and not any(path.iterdir()):
                    path.rmdir()


def _tidy(folder: Path) -> None:
    for name in (_JOURNAL, _LOCK):
        (folder / name).unlink(missing_ok=True)


def _read(folder: Path) -> Journal:
    """What was noted before; nothing, if that cannot be read."""
    try:
        values = read_json(folder / _JOURNAL, limit=1 << 20)
        settings, sources, files = (dict(values[key]) for key in ("settings", "sources", "files"))
        if not sources.keys() | files.keys() <= _written() or not all(isinstance(v, str) for v in files.values()):
            raise ValueError("it names other files than a conversion writes")
        return Journal(folder, settings, sources, files)
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.debug("the journal of %s is of no use: %s", folder, error)
        return Journal(folder)


def _written() -> set[str]:
    """Names of the files that a conversion or an export notes in its journal: no others are ever deleted."""
    return {file_of(network) for network in TABLES} | {table.file for table in TABLES.values()}


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
    """The published files in a folder or in its ``.models``: network to file, but for optional ones to leave out.

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
class _Network:
    """One network on its way."""

    network: str
    path: Path
    state: Mapping[str, Tensor]  # mapped
    sizes: Any
    model: nn.Module  # names and shapes
    written: int  # bytes it will take

    def write(self, file: Path, dtype: torch.dtype, progress: Callable[[int], None]) -> str:
        """Under our names; gives the file's SHA-256."""
        try:
            tensors = from_tortoise(self.network, self.state, self.model)
            return write_tensors(file, tensors, network=file.stem, dtype=dtype, progress=progress)
        except ModelError as error:
            raise ModelError(f"{self.path}: {error}") from error


def convert(
    files: Mapping[str, Path], target: Path, *, dtype: str = "float32", weight_norm: WeightNorm = "keep",
    origin: str = "", spare: bool = False, progress: Progress | None = None,
) -> ModelConfig:  # fmt: skip
    """Write a model folder from published files, and give its configuration.

    Args:
        files: Network to file, from `find_checkpoints`.
        target: The folder; new, empty, or left by a conversion that was stopped.
        dtype: Of the weights on disk. Anything but float32 is smaller, and does not come back the same.
        weight_norm: ``keep`` the kernels as the files have them, as direction and length, or ``fold`` them. A model
            that speaks folds them in any case.
        origin: Noted in ``config.json``: where the files were fetched from.
        spare: Leave out an optional network whose file does not fit, with a warning, where all else is refused.
        progress: Called as the work goes on.

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
        _tidy(target)  # a conversion may have been killed at its very end
        return done
    with claimed(target, last=CONFIG_FILE) as journal, output_errors(target):
        journal.begin({"dtype": dtype, "weight_norm": weight_norm})
        todo = [part.written for part in parts if file_of(part.network) not in journal.files]
        require_disk(target, sum(todo), "the model takes")
        meter = Meter(progress, sum(part.path.stat().st_size + part.written for part in parts))
        for part in parts:
            write = partial(part.write, dtype=kind, progress=meter.add)
            if not _made(journal, meter, part.path, target / file_of(part.network), write):
                meter.add(part.written)
            part.state = {}  # its pages need stay in memory no longer
        make_tortoise_tokenizer().save(target)
        sources = {part.path.name: journal.sources[file_of(part.network)] for part in parts}
        hashes = {file_of(part.network): journal.files[file_of(part.network)] for part in parts}
        return write_config(target, replace(config, source_hashes=sources), hashes)


def _converted(target: Path, parts: list[_Network], dtype: torch.dtype, weight_norm: str) -> ModelConfig | None:
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


def _open(network: str, path: Path, dtype: torch.dtype, weight_norm: WeightNorm) -> _Network:
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
            return _Network(network, path, state, sizes, model, written)
    # one wrong tensor makes many look wrong beside sizes that were read off it
    raise ModelError(f"{path} does not fit: {min(faults, key=_faults)}")


def _faults(message: str) -> int:
    """How many tensors a refusal speaks of, and with it how far the sizes were from right."""
    return sum(int(n) for n in re.findall(r"and (\d+) more", message)) + (10**6 if "no network" in message else 0)


def _config(parts: list[_Network], origin: str) -> TortoiseConfig:
    sizes = {network: None for network in OPTIONAL} | {part.network: part.sizes for part in parts}
    config = published_config(**sizes, origin=origin)
    codes = config.autoregressive.codes
    rules = SilenceTrimming()
    if codes != PUBLISHED["autoregressive"].codes:  # another codebook has its silence elsewhere, or its start
        fit = max(rules.silence, *rules.tail) < codes
        config = replace(config, silence_trimming=replace(rules, sampled_before=(1, codes)) if fit else None)
    fault = contradiction(config)
    if fault:
        files = [str(part.path) for part in parts if f"{part.network}." in fault.replace("vocoder", "univnet.")]
        raise ModelError(f"{' and '.join(files)} do not belong together: {fault}")
    return config


def _made(journal: Journal, meter: Meter, source: Path, file: Path, write: Callable[[Path], str]) -> bool:
    """Write a file and note it, unless that was done before; says whether it was written now."""
    meter.stage = f"reading {source.name}"
    digest = sha256(source, meter.add)
    if journal.has(file.name, digest):
        log.info("%s is there already", file)
        return False
    meter.stage = f"writing {file.name}"
    journal.note(file.name, digest, write(file))
    log.info("wrote %s", file)
    return True


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


def export(source: Path, target: Path, *, dtype: str = "float32", progress: Progress | None = None) -> list[Path]:
    """Write the published files of a model folder of TorToise v2's kind, each network under its names; names the files.

    The target is new, empty, or left by an export that was stopped.

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
    with claimed(target, last=last) as journal, output_errors(target):
        journal.begin({"dtype": dtype})
        todo = [network for network in networks if TABLES[network].file not in journal.files]
        require_disk(target, sum(sizes[network] for network in todo), "the checkpoints take")
        meter = Meter(progress, sum((source / file_of(n)).stat().st_size + sizes[n] for n in networks))
        for network in networks:
            path = source / file_of(network)

            def write(file: Path, network: str = network, path: Path = path) -> str:
                state = to_tortoise(network, dict(read_tensors(path, heads[network], kind)))
                _check(path, state, names[network])
                _save(state, file, TABLES[network].entry)
                return sha256(file)

            _made(journal, meter, path, target / TABLES[network].file, write)
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
    plain = {name: t if t.untyped_storage().nbytes() == t.nbytes else t.clone() for name, t in state.items()}
    with atomic_file(file) as opened:
        torch.save({entry: plain} if entry else plain, opened)
