"""What was computed, kept on the disk under a hash of everything that it was computed from.

A *stage* of the work (``codes`` of a sentence, its ``wave``) has *inputs*, plain values ready for JSON: what is said,
the voice, the model, the options that matter to it, the seed. Their hash is the *key*, under which the arrays lie in a
file of their own, written whole or not at all. The files are the truth: each carries its inputs and a checksum, so a
folder can be shared by processes and machines, copied, or lose parts. Who computes one holds a lock beside it, which
ends with its process, so that others wait or compute another. Beside them lies an index in SQLite, one for each machine
since its locks and shared memory are the machine's: sizes, times of use, a log of what was computed here. It is made
anew from the files where it is damaged, or of another version.

::

    store.json                   the version of the form
    entries/3f/3f07..c2.safetensors
    entries/3f/3f51..07.lock    # while it is computed
    index-HOST.sqlite
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from safetensors import SafetensorError
from safetensors.numpy import load, save

from chelys.errors import BusyError, OutputError, UserError, first_line
from chelys.files import file_lock, output_errors, read_bytes, remove_partial_files, write_bytes, write_text
from chelys.parsing import ParseError, parse_json, read_json

log = logging.getLogger(__name__)

#: Version of the form of the folder and of its files.
FORMAT = 1
#: Bytes that a store may take unless it is told otherwise: about fifty hours of speech.
MAX_BYTES = 20_000_000_000
#: Bytes of one entry: ten minutes of speech with its latents.
MAX_ENTRY = 1 << 28
_POLL_S = 0.02  # between two looks at what another process does
_LOCK_S = 60.0  # that the index may be locked by others
_AFTER_GC = 0.9  # share of the bound that is left by clearing out
_NAME = re.compile(r"[0-9a-f]{32}")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    key TEXT PRIMARY KEY, stage TEXT NOT NULL, inputs TEXT NOT NULL, bytes INTEGER NOT NULL, made REAL NOT NULL,
    used REAL NOT NULL, label TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_use ON entries (used);
CREATE TABLE IF NOT EXISTS log (
    at REAL NOT NULL, process INTEGER NOT NULL, event TEXT NOT NULL, stage TEXT NOT NULL, key TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Kept:
    """What lies under one key."""

    arrays: dict[str, np.ndarray]
    about: dict[str, Any] = field(default_factory=dict)  # plain values that were kept with them


@dataclass(frozen=True)
class StoreStatus:
    """What a store holds."""

    folder: Path
    max_bytes: int  # bound on its size
    stages: dict[str, tuple[int, int]]  # name -> entries and bytes
    computed: int  # entries that were computed on this machine

    @property
    def bytes(self) -> int:
        """Of all entries."""
        return sum(size for _, size in self.stages.values())


def default_store() -> Path:
    """Where the user's store lies."""
    return Path(platformdirs.user_cache_dir("chelys")) / "stages"


def key_of(stage: str, inputs: Mapping[str, Any]) -> str:
    """The key of a stage: 32 hexadecimal digits that change with any of its inputs."""
    return hashlib.sha256(_canonical([FORMAT, stage, inputs])).hexdigest()[:32]


class _OtherIndex(Exception):
    """The index has other columns."""


def _columns(db: sqlite3.Connection) -> dict[str, list[str]]:
    return {table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")] for table in ("entries", "log")}


class StageStore:
    """A folder of what was computed. For several processes, not for several threads; a context manager.

    Args:
        folder: Made if it is not there.
        max_bytes: What has not been used for longest is removed beyond it.
        on_warning: Called with a line when an entry is damaged, or cannot be kept; None logs it.

    Raises:
        UserError: If the folder is something else, or a store in the form of another version.
        OutputError: If it cannot be written.
    """

    def __init__(
        self, folder: str | Path, *, max_bytes: int = MAX_BYTES, on_warning: Callable[[str], object] | None = None
    ) -> None:
        self.folder, self.max_bytes = Path(folder), max_bytes
        self._warn: Callable[[str], object] = on_warning or log.warning
        self._begin()
        self._index = self.folder / f"index-{re.sub('[^A-Za-z0-9-]', '-', platform.node()) or 'here'}.sqlite"
        self._db = self._open()
        self._added = self._full = 0
        self._claims: dict[str, ExitStack] = {}  # locks, by keys

    def _begin(self) -> None:
        """Recognise the folder, or make it one of this version."""
        form = self.folder / "store.json"
        try:
            found = read_json(form)
            version = found["chelys_store"]
        except FileNotFoundError:
            with output_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                if any(not path.name.startswith(".chelys-") for path in self.folder.iterdir()) and not form.exists():
                    raise UserError(f"{self.folder} is no store, and not empty: name another folder") from None
                write_text(form, json.dumps({"chelys_store": FORMAT}) + "\n")  # first: others begin it too
                (self.folder / "entries").mkdir(exist_ok=True)
            return
        except (OSError, ParseError, KeyError, TypeError) as error:
            raise UserError(
                f"{form} cannot be read ({first_line(error)}): remove the folder, or name another"
            ) from None
        if version != FORMAT:
            raise UserError(
                f"{self.folder} is a store in form {str(version)[:20]}, this version of chelys has form {FORMAT}: "
                "remove it, or name another folder"
            )

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.OperationalError as error:
            raise OutputError(f"cannot write {self._index}: {first_line(error)}") from error
        except (sqlite3.DatabaseError, _OtherIndex) as error:
            what = (
                "of another version of chelys" if isinstance(error, _OtherIndex) else f"damaged ({first_line(error)})"
            )
            self._warn(f"the index of the store was {what}: made anew from its files")
            for suffix in ("", "-wal", "-shm"):
                self._index.with_name(self._index.name + suffix).unlink(missing_ok=True)
            db = self._connect()
            self._db = db
            self._learn()
            return db

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._index, timeout=_LOCK_S, isolation_level=None)
        try:
            _write_ahead(db)
            db.execute("PRAGMA synchronous = NORMAL")
            with closing(sqlite3.connect(":memory:")) as ours:
                ours.executescript(_SCHEMA)
                columns = _columns(ours)
            if any(names and names != columns[table] for table, names in _columns(db).items()):
                raise _OtherIndex
            db.executescript(_SCHEMA)
            db.execute("SELECT COUNT(*) FROM entries").fetchone()
        except (sqlite3.Error, _OtherIndex):
            db.close()
            raise
        return db

    def __enter__(self) -> StageStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up all claims, and close the index."""
        self.release()
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Write to the index, all or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # ---- entries ----------------------------------------------------------------------------------------------------

    def get(self, stage: str, inputs: Mapping[str, Any]) -> Kept | None:
        """What was computed from these inputs; None if nothing was, or it is damaged, which is said."""
        key = key_of(stage, inputs)
        path = self._path(key)
        try:
            data = read_bytes(path, MAX_ENTRY)
            entry, kept = _decode(data)
            if (entry["stage"], _canonical(entry["inputs"])) != (stage, _canonical(inputs)):
                raise ValueError("it is of other inputs")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            self._warn(f"{path} is damaged ({first_line(error)}): computed again")
            with suppress(OSError):
                path.unlink()
            self._note("damaged", stage, key)
            return None
        now = time.time()
        with suppress(sqlite3.Error):  # a read-only folder gives what it has
            self._db.execute(_INSERT, (key, stage, _text(inputs), len(data), now, now, _label(kept.about)))
        return kept

    def get_or_claim(self, stage: str, inputs: Mapping[str, Any], work: Callable[[], bool] = bool) -> Kept | None:
        """What was computed from these inputs, waited for while another process is at it; None if it is to be computed
        here, and then no other process does (``claim``).

        ``work``: called while there is nothing yet; does some other work, and says whether there was any.
        """
        while True:
            if (kept := self.get(stage, inputs)) is not None:
                return kept
            if self.claim(stage, inputs):
                kept = self.get(stage, inputs)  # it may have come to its end in between
                if kept is not None:
                    self.release(stage, inputs)
                return kept
            if not work():
                time.sleep(_POLL_S)

    def claim(self, stage: str, inputs: Mapping[str, Any]) -> bool:
        """Whether these are to be computed here, since no other process is at it.

        It stays so until ``put``, ``release`` or the end of the process, however that comes. Where there are no locks,
        or the folder cannot be written, everything is to be computed here.
        """
        key = key_of(stage, inputs)
        if key not in self._claims:
            path, held = self._path(key).with_suffix(".lock"), ExitStack()
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(file_lock(path, "another process computes it", remove=True))
            except BusyError:
                return False
            except (OSError, OutputError):  # put says so
                pass
            self._claims[key] = held
        return True

    def release(self, stage: str | None = None, inputs: Mapping[str, Any] | None = None) -> None:
        """Give up a claim, or all."""
        keys = list(self._claims) if stage is None else [key_of(stage, inputs or {})]
        for key in keys:
            if (held := self._claims.pop(key, None)) is not None:
                held.close()

    def put(
        self, stage: str, inputs: Mapping[str, Any], arrays: Mapping[str, np.ndarray],
        about: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Keep what was computed, log that it was, and give up the claim. A store that cannot be written says so, once.

        ``about``: plain values that are kept with it; by its ``label`` people find it (``find``).
        """
        key = key_of(stage, inputs)
        path = self._path(key)
        data = _encode(stage, inputs, arrays, about or {})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, data, sync=False)  # the checksum tells what a power cut left
            now = time.time()
            with self._transaction():
                self._db.execute(_INSERT, (key, stage, _text(inputs), len(data), now, now, _label(about or {})))
                self._db.execute("INSERT INTO log VALUES (?, ?, 'computed', ?, ?)", (now, os.getpid(), stage, key))
        except (OSError, sqlite3.Error) as error:
            if not self._full:
                reason = getattr(error, "strerror", None) or first_line(error)
                self._warn(f"{self.folder} cannot be written ({reason}): what is computed from here on is not kept")
            self._full = 1
            return
        finally:
            self.release(stage, inputs)
        self._added += len(data)
        if self._added > self.max_bytes // 50:  # others may add too, so now and then all is counted
            self._added = 0
            if self.status().bytes > self.max_bytes:
                self.gc()

    def _path(self, key: str) -> Path:
        return self.folder / "entries" / key[:2] / f"{key}.safetensors"

    def _note(self, event: str, stage: str, key: str) -> None:
        with suppress(sqlite3.Error), self._transaction():
            self._db.execute("DELETE FROM entries WHERE key = ?", (key,))
            self._db.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?)", (time.time(), os.getpid(), event, stage, key))

    # ---- what is there ----------------------------------------------------------------------------------------------

    def status(self) -> StoreStatus:
        """What the store holds, as far as this machine knows."""
        rows = self._db.execute("SELECT stage, COUNT(*), SUM(bytes) FROM entries GROUP BY stage ORDER BY stage")
        stages = {stage: (count, size) for stage, count, size in rows}
        computed = self._db.execute("SELECT COUNT(*) FROM log WHERE event = 'computed'").fetchone()[0]
        return StoreStatus(self.folder, self.max_bytes, stages, computed)

    def computed(self, stage: str | None = None) -> dict[str, int]:
        """How often each key was computed on this machine, by the log."""
        rows = self._db.execute(
            "SELECT key, COUNT(*) FROM log WHERE event = 'computed' AND stage = COALESCE(?, stage) GROUP BY key",
            (stage,),
        )
        return dict(rows.fetchall())

    def gc(self, max_bytes: int | None = None) -> tuple[int, int]:
        """Remove what has not been used for longest until a tenth below a bound, which is the store's own for None.

        Also removes what killed processes left half-written an hour ago or earlier. Returns entries and bytes removed.
        """
        bound = self.max_bytes if max_bytes is None else max_bytes
        self._learn()
        size = self.status().bytes
        removed = freed = 0
        if size > bound:
            rows = self._db.execute("SELECT key, stage, bytes FROM entries ORDER BY used, key").fetchall()
            for key, stage, count in rows:
                if size - freed <= bound * _AFTER_GC:
                    break
                with output_errors(self.folder):
                    self._path(key).unlink(missing_ok=True)
                self._note("removed", stage, key)
                removed, freed = removed + 1, freed + count
        for folder in (self.folder / "entries").glob("*"):
            if any(time.time() - part.stat().st_mtime > 3600 for part in folder.glob(".chelys-*")):
                remove_partial_files(folder)
        return removed, freed

    def _learn(self) -> None:
        """Bring the index up to the files: others add and remove some."""
        known = {key for (key,) in self._db.execute("SELECT key FROM entries")}
        there = set()
        for path in (self.folder / "entries").glob("*/*.safetensors"):
            if not _NAME.fullmatch(path.stem):
                continue
            there.add(path.stem)
            if path.stem in known:
                continue
            try:
                status = path.stat()
                entry, kept = _decode(read_bytes(path, MAX_ENTRY))
                row = (path.stem, entry["stage"], _text(entry["inputs"]), status.st_size)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError):  # get says so when it is wanted
                continue
            self._db.execute(_INSERT, (*row, status.st_mtime, status.st_mtime, _label(kept.about)))
        with self._transaction():
            self._db.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in known - there])

    def find(self, words: str) -> list[tuple[str, str, dict[str, Any], str]]:
        """Entries whose label has some words, or whose key begins so: stage, key, inputs, label; newest first."""
        self._learn()
        rows = self._db.execute(
            "SELECT stage, key, inputs, label FROM entries WHERE INSTR(LOWER(label), LOWER(?)) OR INSTR(key, ?) = 1 "
            "ORDER BY made DESC, key",
            (words, words),
        )
        return [(stage, key, json.loads(inputs), label) for stage, key, inputs, label in rows]


_INSERT = (
    "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET used = excluded.used, bytes = excluded.bytes"
)


def _write_ahead(db: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. SQLite does not wait for others here, whatever the connection's timeout."""
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _label(about: Mapping[str, Any]) -> str:
    return str(about.get("label", ""))


def _text(inputs: Mapping[str, Any]) -> str:
    return json.dumps(inputs, ensure_ascii=False, sort_keys=True)


def _encode(stage: str, inputs: Mapping[str, Any], arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> bytes:
    parts = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    entry = {"format": FORMAT, "stage": stage, "inputs": inputs, "about": about, "sha256": _checksum(parts, about)}
    return save(parts, metadata={"entry": json.dumps(entry)})


def _decode(data: bytes) -> tuple[dict[str, Any], Kept]:
    """An entry's description and its contents; one of several errors if it is damaged."""
    length = int.from_bytes(data[:8], "little")
    entry = parse_json(parse_json(data[8 : 8 + length])["__metadata__"]["entry"])
    arrays = load(data)
    if entry["format"] != FORMAT or entry["sha256"] != _checksum(arrays, entry["about"]):
        raise ValueError("its checksum is wrong")
    return entry, Kept(arrays, entry["about"])


def _checksum(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> str:
    found = hashlib.sha256(_canonical(about))
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
        found.update(arrays[name].tobytes())
    return found.hexdigest()
