"""Where in a folder of WebDataset shards each sample lies, and how long it is: found once, then remembered.

A shard is a tar file in which the files of one sample stand together and share a name up to its first dot:
``ID.flac`` or ``ID.codes.npy`` or both, and ``ID.json`` (with ``id``, ``text``, ``speaker``, ``seconds`` ...).

The index lies beside the shards, ``offsets.json`` and ``offsets-*.npy``; shards that were added or changed are indexed
anew, the others are not opened. In a folder that cannot be written to, the index is made again at each start.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chelys.errors import ManifestError, OutputError
from chelys.files import output_file

log = logging.getLogger(__name__)

#: A sample: where its first header begins and how many bytes its files take (headers included), its seconds, and
#: checksums of its id and of its speaker's name.
ENTRY = np.dtype([("offset", "<i8"), ("size", "<i8"), ("seconds", "<f4"), ("id", "<u4"), ("speaker", "<u4")])

_BLOCK = 512  # bytes; what tar counts in
_MOST_JSON = 1 << 24  # bytes; more is no description of a clip


class Shard(NamedTuple):
    """A shard and what is known of it.

    Attributes:
        name: Of the file.
        size: Bytes; with the time it tells whether it is the one that was indexed.
        modified: Nanoseconds.
        first: Its first sample's number among all samples.
        samples: How many.
        left_out: Fault -> samples that cannot be used for it.
    """

    name: str
    size: int
    modified: int
    first: int
    samples: int
    left_out: dict[str, int]


class ShardIndex:
    """The samples of a folder of shards, in the order of the shards' names.

    Attributes:
        folder: Of the shards.
        shards: In order.
        entries: A row of ENTRY for each sample; mapped, not read, where the index lies in a file.
    """

    def __init__(self, folder: Path, shards: list[Shard], entries: np.ndarray) -> None:
        self.folder, self.shards, self.entries = folder, shards, entries
        self._firsts = np.array([shard.first for shard in shards])

    def __len__(self) -> int:
        return len(self.entries)

    def shard_of(self, sample: int) -> Shard:
        """The shard that a sample lies in."""
        return self.shards[int(np.searchsorted(self._firsts, sample, side="right")) - 1]

    def left_out(self) -> dict[str, int]:
        """Fault -> how many samples cannot be used for it."""
        return dict(sum((Counter(shard.left_out) for shard in self.shards), Counter()))


def checksum(text: str) -> int:
    """What the index keeps of a name."""
    return zlib.crc32(text.encode(errors="surrogatepass"))


def open_shards(folder: Path, *, progress: Callable[[int, int], None] | None = None) -> ShardIndex:
    """Index a folder of shards, or read the index that is there.

    Args:
        folder: That ``chelys data prepare`` wrote, or its ``shards``, or any folder of tar files.
        progress: Called with (shards done, shards in all).

    Raises:
        ManifestError: If there is no shard, or no sample in any.
    """
    if not any(folder.glob("*.tar")) and (folder / "shards").is_dir():
        folder = folder / "shards"
    paths = sorted(folder.glob("*.tar"))
    if not paths:
        raise ManifestError(f"no shards in {folder}: make them with 'chelys data prepare RAW OUT'")
    known = _read(folder)
    shards: list[Shard] = []
    parts: list[np.ndarray] = []
    first, anew = 0, len(known.shards) != len(paths)
    old = {(shard.name, shard.size, shard.modified): shard for shard in known.shards}
    for done, path in enumerate(paths, 1):
        status = path.stat()
        identity = (path.name, status.st_size, status.st_mtime_ns)
        if shard := old.get(identity):
            part = known.entries[shard.first : shard.first + shard.samples]
            left_out = shard.left_out
        else:
            anew = True
            part, left_out = _scan(path)
        shards.append(Shard(*identity, first, len(part), left_out))
        parts.append(part)
        first += len(part)
        if progress:
            progress(done, len(paths))
    index = known if not anew else _write(folder, shards, np.concatenate(parts))
    if not len(index):
        raise ManifestError(f"no usable sample in the shards of {folder}: {_told(index.left_out()) or 'all are empty'}")
    if left := index.left_out():
        log.warning("samples of %s that cannot be used: %s", folder, _told(left))
    return index


def _told(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count} {fault}" for fault, count in left_out.items())


def _read(folder: Path) -> ShardIndex:
    """The index of a folder, empty if there is none that can be used."""
    try:
        saved = json.loads((folder / "offsets.json").read_text(encoding="utf8"))
        shards = [Shard(*row) for row in saved["shards"]]
        entries = np.load(folder / Path(saved["entries"]).name, mmap_mode="r", allow_pickle=False)
        if entries.dtype == ENTRY and len(entries) == sum(shard.samples for shard in shards):
            return ShardIndex(folder, shards, entries)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return ShardIndex(folder, [], np.zeros(0, ENTRY))


def _write(folder: Path, shards: list[Shard], entries: np.ndarray) -> ShardIndex:
    """Keep an index beside the shards; several processes may do so at once, and all write the same."""
    digest = hashlib.blake2b(entries.tobytes() + repr(shards).encode(), digest_size=8).hexdigest()
    path = folder / f"offsets-{digest}.npy"
    try:
        with output_file(path) as file:
            np.lib.format.write_array(file, entries, allow_pickle=False)
        with output_file(folder / "offsets.json") as file:
            file.write((json.dumps({"entries": path.name, "shards": shards}) + "\n").encode())
        for old in folder.glob("offsets-*.npy"):
            if old != path:
                old.unlink(missing_ok=True)
        entries = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OutputError, OSError) as error:
        log.info("the index of %s is not kept: %s", folder, error)
    return ShardIndex(folder, shards, entries)


def descriptions(index: ShardIndex) -> Iterator[dict[str, Any]]:
    """What the JSON files say, sample by sample, in the order of the index; only they are read.

    Raises:
        ManifestError: If a shard is not what was indexed.
    """
    for shard in index.shards:
        found = [about for *_, about in _usable(index.folder / shard.name, Counter())]
        if len(found) != shard.samples:
            raise ManifestError(f"{index.folder / shard.name} was changed while it was read: start again")
        yield from found


def _scan(path: Path) -> tuple[np.ndarray, dict[str, int]]:
    """Index a shard; one that is damaged counts as far as it can be read."""
    left_out: Counter[str] = Counter()
    rows = [
        (offset, size, about["seconds"], checksum(about["id"]), checksum(speaker_of(about)))
        for offset, size, about in _usable(path, left_out)
    ]
    return np.array(rows, ENTRY), dict(left_out)


def speaker_of(about: dict[str, Any]) -> str:
    """Who speaks: as the description says, or else everybody in a recording is taken for one person."""
    return str(about.get("speaker") or about.get("source") or "")


def _usable(path: Path, left_out: Counter[str]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Samples of a shard that can be used: first byte, bytes, description."""
    for offset, size, files, about in _groups(path, left_out):
        if not {"flac", "codes.npy"} & files:
            left_out["without sound or codes"] += 1
        elif fault := _fault(about):
            left_out[fault] += 1
        else:
            yield offset, size, about


def _fault(about: Any) -> str | None:
    if about is None:
        return "without a description that can be read"
    if not isinstance(about.get("id"), str) or not isinstance(about.get("text"), str | None):
        return "without id or text"
    seconds = about.get("seconds")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < 1e6:
        return "without seconds"
    return None


def _groups(path: Path, left_out: Counter[str]) -> Iterator[tuple[int, int, set[str], Any]]:
    """Samples of a shard: first byte, bytes, suffixes of the files, what the JSON file says (None: nothing)."""
    name: str | None = None
    first = end = 0
    files: set[str] = set()
    about: Any = None
    try:
        with path.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as tar:
            for member in tar:
                own, suffix = split_name(member.name)
                if own != name:
                    if name is not None:
                        yield first, end - first, files, about
                    name, first, files, about = own, member.offset, set(), None
                if not member.isreg() or member.issparse():
                    continue
                files.add(suffix)
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                if suffix == "json" and member.size <= _MOST_JSON:
                    raw.seek(member.offset_data)
                    about = read_json(raw.read(member.size))
            whole = raw.seek(0, 2) >= end
        if name is not None and whole:
            yield first, end - first, files, about
        elif name is not None:
            left_out["lost where a shard is damaged"] += 1
    except (tarfile.TarError, EOFError) as error:
        log.warning("%s is damaged, its rest is left out: %s", path, error)
        left_out["lost where a shard is damaged"] += 1


def split_name(name: str) -> tuple[str, str]:
    """Name of the sample that a file belongs to, and the file's suffix: WebDataset parts them at the first dot."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix


def read_json(data: bytes) -> dict[str, Any] | None:
    """What a sample's JSON file says; None if it cannot be read."""
    try:
        about = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return about if isinstance(about, dict) else None
