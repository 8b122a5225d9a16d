"""Clips and codes in WebDataset shards, read where they lie.

A shard is a tar file in which the files of one sample stand together and share a name up to its first dot:
``ID.flac`` or ``ID.codes.npy`` or both, and ``ID.json`` (with ``id``, ``text``, ``speaker``, ``seconds`` ...). An index
finds each sample without the tar's own table, so that shards are a map-style dataset like a feature folder. It lies
beside the shards, ``offsets.json`` and ``offsets-*.npz``; shards that were added or changed are indexed anew, the
others are not opened. In a folder that cannot be written to, the index is made again at each start.

Log-mels are computed from the sound when they are asked for, in a thousandth of the time that the sound lasts.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import tarfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch

from chelys import parsing
from chelys.audio.io import decode, resample
from chelys.audio.rates import FRAMES_PER_CODE, HOP, MEL_22K, MEL_24K, OUTPUT_RATE, SAMPLES_PER_CODE
from chelys.data.arrays import read_npy, read_npz
from chelys.data.dataset import (
    MEL_SPECS,
    Clip,
    ClipDataset,
    ClipTable,
    Codes,
    Features,
    MelSpecName,
    TextColumn,
    fitted,
    mel_of,
)
from chelys.data.manifest import BadClips
from chelys.errors import ManifestError, OutputError, first_line
from chelys.files import open_regular, output_file
from chelys.machine import available_cores, worker_pool
from chelys.parsing import ParseError, parse_json

log = logging.getLogger(__name__)

#: A sample: where its first header begins, how many bytes its files take (headers included), its seconds, how many
#: codes it has and the largest of them.
ENTRY = np.dtype([("offset", "<i8"), ("size", "<i8"), ("seconds", "<f8"), ("codes", "<i4"), ("largest", "<i4")])
#: Text columns of an index; those of speakers and shards repeat themselves.
_TEXTS = ("id", "text", "speaker")

_BLOCK = 512  # bytes; what tar counts in
_MAX_FILE = 1 << 24  # bytes of a description or of codes; more is neither
_OPEN_FILES = 64
_CACHED = 64  # samples: those of a batch are asked for more than once
_MARGIN = 2  # frames to either side that a window reaches into
_ROUNDING = 0.001  # seconds are written to the millisecond; a code that may not be whole is left out


class Shard(NamedTuple):
    """A shard and what is known of it."""

    name: str  # of the file
    size: int  # bytes; with the time it tells whether it is the one that was indexed
    modified: int  # nanoseconds
    first: int  # its first sample's number among all samples
    samples: int  # how many
    left_out: dict[str, int]  # fault -> samples that cannot be used for it


class ShardIndex:
    """The samples of a folder of shards, in the order of the shards' names: each has a row of ENTRY and `_TEXTS`."""

    def __init__(self, folder: Path, shards: list[Shard], entries: np.ndarray, texts: dict[str, TextColumn]) -> None:
        self.folder, self.shards, self.entries, self.texts = folder, shards, entries, texts
        self._firsts = np.array([shard.first for shard in shards])

    def __len__(self) -> int:
        return len(self.entries)

    def shard_of(self, sample: int) -> Shard:
        """The shard that a sample lies in."""
        return self.shards[int(np.searchsorted(self._firsts, sample, side="right")) - 1]

    def left_out(self) -> dict[str, int]:
        return dict(sum((Counter(shard.left_out) for shard in self.shards), Counter()))


class _Row(NamedTuple):
    entry: tuple[int, int, float, int, int]
    texts: tuple[str, str, str]


def holds_shards(path: Path) -> bool:
    """Whether a path is a folder of shards, or one that ``chelys data prepare`` wrote."""
    return path.is_dir() and any(next(folder.glob("*.tar"), None) for folder in (path, path / "shards"))


def open_shards(folder: Path, *, progress: Callable[[int, int], None] | None = None) -> ShardIndex:
    """Index a folder of tar files, or what ``chelys data prepare`` wrote, or read the index that is there.

    ``progress`` gets (shards done, shards in all). Raises ManifestError if there is no shard, or no sample in any.
    """
    if not any(folder.glob("*.tar")) and (folder / "shards").is_dir():
        folder = folder / "shards"
    paths = sorted(folder.glob("*.tar"))
    if not paths:
        raise ManifestError(f"no shards in {folder}: make them with 'chelys data prepare RAW OUT'")
    known = _read(folder)
    old = {(shard.name, shard.size, shard.modified): shard for shard in known.shards}
    status = [path.stat() for path in paths]
    identities = [(path.name, s.st_size, s.st_mtime_ns) for path, s in zip(paths, status, strict=True)]
    index = known
    if list(old) != identities:
        unknown = [path for path, identity in zip(paths, identities, strict=True) if identity not in old]
        scanned = _scan_all(unknown)
        shards: list[Shard] = []
        rows: list[_Row] = []
        for done, identity in enumerate(identities, 1):
            shard = old.get(identity)
            part, left_out = (_rows(known, shard), shard.left_out) if shard else next(scanned)
            shards.append(Shard(*identity, len(rows), len(part), left_out))
            rows += part
            if progress:
                progress(done, len(paths))
        texts = {
            name: TextColumn.of((row.texts[i] for row in rows), repeated=name == "speaker")
            for i, name in enumerate(_TEXTS)
        }
        index = ShardIndex(folder, shards, np.array([row.entry for row in rows], ENTRY), texts)
        _write(index)
    left = ", ".join(f"{count} {fault}" for fault, count in index.left_out().items())
    if not len(index):
        raise ManifestError(f"no usable sample in the shards of {folder}: {left or 'all are empty'}")
    if left:
        log.warning("samples of %s that cannot be used: %s", folder, left)
    return index


def _rows(index: ShardIndex, shard: Shard) -> list[_Row]:
    numbers = range(shard.first, shard.first + shard.samples)
    columns = [index.texts[name] for name in _TEXTS]
    return [_Row(index.entries[n].item(), tuple(column[n] for column in columns)) for n in numbers]  # type: ignore[arg-type]


def _read(folder: Path) -> ShardIndex:
    """The index of a folder, empty if there is none that can be used."""
    try:
        saved = parsing.read_json(folder / "offsets.json")
        shards = [Shard(*row) for row in saved["shards"]]
        arrays = read_npz(folder / Path(saved["entries"]).name)
        entries = arrays["entries"]
        texts = {
            name: TextColumn(arrays[f"{name}.data"], arrays[f"{name}.ends"], arrays.get(f"{name}.numbers"))
            for name in _TEXTS
        }
        ends = np.repeat([shard.size for shard in shards], [shard.samples for shard in shards])
        whole = entries.dtype == ENTRY and {*map(len, texts.values()), len(ends)} == {len(entries)}
        whole = whole and [s.first for s in shards] == list(accumulate((s.samples for s in shards), initial=0))[:-1]
        if whole and (entries["offset"] >= 0).all() and (entries["size"] <= ends - entries["offset"]).all():
            if (
                (entries["size"] > 0).all()
                and (entries["seconds"] > 0).all()
                and all(t.is_whole for t in texts.values())
            ):
                return ShardIndex(folder, shards, entries, texts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        log.debug("the index of %s is made again: %s", folder, error)
    return ShardIndex(folder, [], np.zeros(0, ENTRY), {name: TextColumn.of([]) for name in _TEXTS})


def _write(index: ShardIndex) -> None:
    """Keep an index beside the shards; several processes may do so at once, and all write the same."""
    arrays = {"entries": index.entries}
    for name, column in index.texts.items():
        arrays |= {f"{name}.data": column.data, f"{name}.ends": column.ends}
        if column.numbers is not None:
            arrays[f"{name}.numbers"] = column.numbers
    digest = hashlib.blake2b(repr(index.shards).encode(), digest_size=8)
    for array in arrays.values():
        digest.update(array.tobytes())
    path = index.folder / f"offsets-{digest.hexdigest()}.npz"
    try:
        with output_file(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        with output_file(index.folder / "offsets.json") as file:
            file.write((json.dumps({"entries": path.name, "shards": index.shards}) + "\n").encode())
        for old in index.folder.glob("offsets-*.np[yz]"):
            if old != path:
                old.unlink(missing_ok=True)
    except (OutputError, OSError) as error:
        log.info("the index of %s is not kept: %s", index.folder, error)


def _scan_all(paths: list[Path]) -> Iterator[tuple[list[_Row], dict[str, int]]]:
    if len(paths) < 16 or available_cores() == 1:
        yield from map(_scan, paths)
        return
    with worker_pool() as pool:
        yield from pool.map(_scan, paths)


def _scan(path: Path) -> tuple[list[_Row], dict[str, int]]:
    """Index a shard; one that is damaged counts as far as it can be read."""
    left_out: Counter[str] = Counter()
    rows = []
    for offset, size, found in _groups(path, left_out):
        about = read_json(found.get("json", b""))
        if not {"flac", "codes.npy"} & found.keys():
            left_out["without sound or codes"] += 1
        elif about is None or (fault := _fault(about)):
            left_out["without a description that can be read" if about is None else fault] += 1
        else:
            codes = _codes_in(found.get("codes.npy"))
            entry = (offset, size, float(about["seconds"]), len(codes), int(codes.max()) if len(codes) else -1)
            speaker = str(about.get("speaker") or about.get("source") or "")  # else a recording is taken for one person
            rows.append(_Row(entry, (about["id"], about.get("text") or "", speaker)))
    return rows, dict(left_out)


def _codes_in(npy: bytes | None) -> np.ndarray:
    """Codes of a sample, none where they cannot be read: reading them gives the reason."""
    try:
        return _codes_of(npy or b"")
    except ValueError:
        return np.zeros(0, np.int64)


def _codes_of(npy: bytes) -> np.ndarray:
    codes = read_npy(npy)
    if codes.ndim != 1 or codes.dtype.kind not in "iu" or (len(codes) and not 0 <= codes.min() <= codes.max() < 2**31):
        raise ValueError("its codes are no row of whole numbers")
    return codes


def _fault(about: dict[str, Any]) -> str:
    if not isinstance(about.get("id"), str) or not isinstance(about.get("text"), str | None):
        return "without id or text"
    seconds = about.get("seconds")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 1e-3 <= seconds < 1e6:
        return "without seconds"
    return ""


def _groups(path: Path, left_out: Counter[str]) -> Iterator[tuple[int, int, dict[str, bytes]]]:
    """Samples of a shard: first byte, bytes, files by suffix; of sound nothing is read."""
    name: str | None = None
    first = end = 0
    files: dict[str, bytes] = {}
    try:
        with open_regular(path) as raw, tarfile.open(fileobj=raw, mode="r:") as tar:
            for member in tar:
                own, suffix = split_name(member.name)
                if own != name:
                    if name is not None:
                        yield first, end - first, files
                    name, first, files = own, member.offset, {}
                if not member.isreg() or member.issparse():
                    continue
                files[suffix] = b""
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                if suffix in ("json", "codes.npy") and member.size <= _MAX_FILE:
                    raw.seek(member.offset_data)
                    files[suffix] = raw.read(member.size)
            whole = raw.seek(0, 2) >= end
        if name is not None and whole:
            yield first, end - first, files
        elif name is not None:
            left_out["lost where a shard is damaged"] += 1
    except Exception as error:  # a strange header can make tarfile raise anything
        log.warning("%s is damaged, its rest is left out: %s", path, first_line(error))
        left_out["lost where a shard is damaged"] += 1


def split_name(name: str) -> tuple[str, str]:
    """Name of the sample that a file belongs to, and the file's suffix: WebDataset parts them at the first dot."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix


def read_json(data: bytes) -> dict[str, Any] | None:
    """The content of a sample's JSON file; None if it cannot be read."""
    try:
        about = parse_json(data)
    except ParseError:
        return None
    return about if isinstance(about, dict) else None


class Sample(NamedTuple):
    """A clip of a shard."""

    id: str  # its name
    about: dict[str, Any]  # the content of its JSON file: ``text``, ``speaker``, ``seconds``, ``similar`` ...
    audio: np.ndarray | None  # mono in [-1, 1], float32, ``(n,)``; None where the shard holds none, or it is not wanted
    rate: int  # of the audio, Hz
    codes: np.ndarray | None  # ``(m,)``; None where the shard holds none, or they are not wanted


class ShardReader:
    """Reads samples where they lie, decodes ``wanted`` (``flac``, ``codes.npy``), and remembers the latest ones."""

    def __init__(self, index: ShardIndex, wanted: Iterable[str] = ("flac", "codes.npy")) -> None:
        self.index, self.wanted = index, frozenset(wanted)
        self._open()

    def _open(self) -> None:
        self._process = os.getpid()
        self._files: OrderedDict[str, BinaryIO] = OrderedDict()
        self._cached = lru_cache(_CACHED)(self._read)

    def __getstate__(self) -> dict[str, Any]:
        return {"index": self.index, "wanted": self.wanted}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def read(self, number: int) -> Sample:
        """Read a sample. Raises ManifestError if its bytes are not what they were, or cannot be decoded."""
        if self._process != os.getpid():  # after a fork the files' positions would be shared
            self._open()
        return self._cached(number)

    def _read(self, number: int) -> Sample:
        shard, entry = self.index.shard_of(number), self.index.entries[number]
        where = f"{self.index.folder / shard.name}, byte {entry['offset']}"
        try:
            file = self._file(shard.name)
            file.seek(int(entry["offset"]))
            data, files = file.read(int(entry["size"])), {}
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
                for member in (member for member in tar if member.isreg() and not member.issparse()):
                    files[split_name(member.name)[1]] = data[member.offset_data : member.offset_data + member.size]
            about = read_json(files.get("json", b""))
            if about is None:
                raise ManifestError(f"{where}: no sample lies there any more; the shard has changed")
            flac, npy = (files.get(name) if name in self.wanted else None for name in ("flac", "codes.npy"))
            audio, rate = (None, 0) if flac is None else decode(flac)
            codes = None if npy is None else _codes_of(npy)
        except ManifestError:
            raise
        except Exception as error:  # a strange header can make tarfile raise anything
            raise ManifestError(f"{where}: {' '.join(str(error).split())}") from error
        return Sample(str(about.get("id")), about, audio, rate, codes)

    def _file(self, name: str) -> BinaryIO:
        if name in self._files:
            self._files.move_to_end(name)
        else:
            self._files[name] = open_regular(self.index.folder / name, buffering=0)
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)[1].close()
        return self._files[name]


class ShardFeatures(ClipDataset):
    """The clips in shards; ``mel_spec`` is by default that of the clips' codes, shared if they have none.

    Raises ManifestError if there are no shards, or no clip of two codes or more.
    """

    def __init__(self, folder: Path, mel_spec: MelSpecName | None = None) -> None:
        index = open_shards(folder)
        self.folder, self.mel_spec, self.bad_clips = folder, mel_spec or _mel_spec_of_codes(index), BadClips()
        self._reader = ShardReader(index, ("flac",))
        rate = MEL_SPECS[self.mel_spec].sample_rate
        seconds = index.entries["seconds"]
        codes = np.floor((seconds - _ROUNDING) * rate / SAMPLES_PER_CODE).astype(np.int64)
        shard = np.repeat(np.arange(len(index.shards), dtype=np.int32), [shard.samples for shard in index.shards])
        paths = TextColumn.of(str(index.folder / shard.name) for shard in index.shards)
        every = ClipTable(
            index.texts | {"audio": TextColumn(paths.data, paths.ends, shard)},
            np.arange(len(index)), codes * FRAMES_PER_CODE, np.zeros(len(index)),
        )  # fmt: skip
        for clip in every.take(codes < 2):
            self.bad_clips.add(clip.id, "too short", f"{seconds[clip.first]:.2f} s")
        self.clips = every.take(codes >= 2)
        if not len(self.clips):
            raise ManifestError(f"no clip in the shards of {index.folder} is as long as two codes")
        self.statistics = {"hours": float(self.clips.frames.sum()) * HOP / rate / 3600, "bands": self.spec.bands}

    def mel(self, clip: Clip, start: int = 0, frames: int | None = None) -> torch.Tensor:
        (waveform, rate), spec = self._sound(clip), self.spec
        waveform = resample(waveform, rate, spec.sample_rate)
        if 1 + len(waveform) // HOP < clip.frames:
            raise ManifestError(f"{clip.audio}: {clip.id} is shorter than its description says; check the shards")
        end = clip.frames if frames is None else min(clip.frames, start + frames)
        first = max(0, start - _MARGIN)
        piece = np.ascontiguousarray(waveform[first * HOP : (end + _MARGIN) * HOP], dtype=np.float32)
        return mel_of(torch.from_numpy(piece)[None], self.mel_spec)[0][:, start - first : end - first]

    def waveform(self, clip: Clip, first: int, frames: int) -> torch.Tensor:
        waveform, rate = self._sound(clip)
        start = first * HOP * rate // OUTPUT_RATE
        return fitted(waveform[start : start - (-frames * HOP * rate // OUTPUT_RATE)], rate, frames * HOP)

    def _sound(self, clip: Clip) -> tuple[np.ndarray, int]:
        sample = self._reader.read(clip.first)
        if sample.audio is None:
            raise ManifestError(f"{clip.audio} holds no sound of {clip.id}: pack it with pack.contents=both")
        return sample.audio, sample.rate


class ShardCodes(Codes):
    """Codes of the clips in shards, which ``chelys data prepare`` has encoded."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self._reader = ShardReader(open_shards(folder), ("codes.npy",))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def largest(self) -> int:
        entries = self._reader.index.entries
        if (entries["codes"] == 0).any():
            self._codes(int(np.argmin(entries["codes"])))  # says which ones are missing
        return int(entries["largest"].max())

    def of(self, clip: Clip) -> torch.Tensor:
        codes = self._codes(clip.first)[: clip.codes]
        if len(codes) < clip.codes:
            raise ManifestError(f"{clip.audio} lacks codes of {clip.id}: prepare it anew with encode.model")
        return torch.from_numpy(codes.astype(np.int64))

    def _codes(self, number: int) -> np.ndarray:
        codes = self._reader.read(number).codes
        if codes is None or codes.ndim != 1:
            raise ManifestError(f"{self.path} holds no codes: prepare it with encode.model, pack.contents=both")
        return codes


def _mel_spec_of_codes(index: ShardIndex) -> MelSpecName:
    """A second has 23.4 codes of the shared mel spec, 21.5 of the published one: the longest clip tells."""
    longest = index.entries[int(np.argmax(index.entries["seconds"]))]
    if not longest["codes"]:
        return "shared"
    per_second = longest["codes"] * SAMPLES_PER_CODE / longest["seconds"]
    return "codes" if abs(per_second - MEL_22K.sample_rate) < abs(per_second - MEL_24K.sample_rate) else "shared"


def open_features(path: Path, mel_spec: MelSpecName | None = None) -> ClipDataset:
    """A feature folder, or shards in its place; ``mel_spec`` is of the latter, see ``ShardFeatures``."""
    return ShardFeatures(path, mel_spec) if holds_shards(path) else Features(path)


def open_codes(path: Path) -> Codes:
    """A file of codes, or shards in its place."""
    return ShardCodes(path) if holds_shards(path) else Codes(path)
