"""Kept clips to WebDataset shards: tar files in which each clip is a few files of one name.

``ID.flac`` and ``ID.json`` (the clip's metadata), and ``ID.codes.npy`` where clips are encoded. The bytes depend on the
clips alone: no times, no owners. ``shards/index.jsonl`` lists the shards in order, with what is in them.

Where one shard ends and the next begins depends on the clips' ids, not on their count, so that new recordings change
the shards they fall into and leave the others as they are.
"""

from __future__ import annotations

import filecmp
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from chelys.audio.io import to_bytes
from chelys.audio.stream import open_audio
from chelys.data.prepare.work import ClipRecord, Item, PrepareStage, Row, Store, key
from chelys.files import remove_partial_files, write_json_lines

INDEX = "index.jsonl"


@dataclass(frozen=True)
class PackSettings:
    """What a shard is."""

    clips: int = 1000  # in a shard, about; between half and twice as many
    contents: Literal["flac", "codes", "both"] = "flac"  # ``flac``, ``codes`` (of clips that are encoded) or ``both``


@dataclass(frozen=True)
class Pack(PrepareStage):
    """The stage: one shard an item."""

    settings: PackSettings = PackSettings()
    name: str = "pack"
    version: int = 1

    def items(self, records: Iterable[ClipRecord]) -> Iterator[Item]:
        """Shards of the kept clips, in order."""
        members: list[Row] = []
        for record in records:
            member: Row = {"clip": _description(record), "audio": record.clip.audio, "span": list(record.span)}
            if "encode" in record.rows and self.settings.contents != "flac":
                member["codes"] = record.rows["encode"]["codes"]
            members.append(member)
            if self._is_last(record.clip.id, len(members)):
                yield Item({"members": members})
                members = []
        if members:
            yield Item({"members": members})

    def _is_last(self, name: str, count: int) -> bool:
        wanted = max(1, self.settings.clips)
        if count >= 2 * wanted:
            return True
        number = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
        return 2 * count >= wanted and number % max(1, wanted // 2) == 0

    def shard(self, name: str, store: Store) -> Path:
        return store.rows_path(self.name, name).with_suffix(".tar")

    def work(self, item: Item, store: Store) -> list[Row]:
        path = self.shard(key(self, item), store)
        members = item.content["members"]
        with store.growing(path) as partial, tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            for member in members:
                name = member["clip"]["id"]
                if self.settings.contents != "codes":
                    _add(tar, f"{name}.flac", _flac(member, store))
                if "codes" in member:
                    npy = io.BytesIO()
                    np.save(npy, np.asarray(member["codes"], np.uint16))
                    _add(tar, f"{name}.codes.npy", npy.getvalue())
                _add(tar, f"{name}.json", (json.dumps(member["clip"], ensure_ascii=True) + "\n").encode())
        seconds = sum(member["clip"]["seconds"] for member in members)
        return [{"clips": len(members), "seconds": round(seconds, 3), "bytes": path.stat().st_size}]


def _description(record: ClipRecord) -> Row:
    """Metadata for the clip's JSON file; without paths, so that it holds wherever the shard goes."""
    entry = asdict(record.clip)
    for field in ("audio", "audio_start", "audio_end", "kept", "reasons", "same_as"):
        del entry[field]
    return entry


def _flac(member: Row, store: Store) -> bytes:
    first, last = member["span"]
    with open_audio(store.out / member["audio"]) as stream:
        return to_bytes(stream.read(first, last), stream.sample_rate, "flac")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))


def publish(stage: Pack, names: list[str], store: Store) -> None:
    """Link the finished shards, by their keys, to ``shards/000000.tar`` and so on, and delete the unused ones."""
    folder = store.out / "shards"
    folder.mkdir(exist_ok=True)
    remove_partial_files(folder)
    entries = []
    for i, name in enumerate(names):
        made, shown = stage.shard(name, store), folder / f"{i:06d}.tar"
        rows = store.read(stage.name, name)
        assert rows is not None
        entries.append({"shard": shown.name, **rows[0]})
        if shown.exists() and os.path.samefile(made, shown):
            continue
        partial = folder / f".{shown.name}.part"
        partial.unlink(missing_ok=True)
        try:
            os.link(made, partial)  # the same bytes under a second name
        except OSError:  # a file system without links
            if shown.exists() and filecmp.cmp(shown, made, shallow=False):
                continue
            shutil.copyfile(made, partial)
        partial.replace(shown)
    write_json_lines(folder / INDEX, entries, keep_identical=True)
    wanted = {entry["shard"] for entry in entries}
    for path in folder.iterdir():
        if path.name not in wanted and path.suffix in (".tar", ".part"):
            path.unlink()
    for path in (store.out / "work" / stage.name).rglob("*.tar"):
        if path.stem not in names:
            path.unlink()
            with suppress(FileNotFoundError):
                path.with_suffix(".jsonl").unlink()
