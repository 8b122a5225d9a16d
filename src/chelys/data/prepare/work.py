"""Stages, the items that they work on, and the folder where results are kept, named by what they were made from.

A file ``OUT/work/STAGE/ab/abcdef....jsonl`` holds the rows that a stage made of an item. Its name is a digest of the
stage, its version and settings, and the item's content: an existing result is valid, any run may have made it; anything
that changes gets another name. Files appear whole or not at all.

After the cutting, an item is a block of up to 32 clips of one recording, in order. So a killed worker loses little,
there are not too many files, and a new recording never changes the blocks of another.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache, reduce
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from chelys.audio.stream import open_audio
from chelys.data.prepare.metadata import ClipMetadata
from chelys.deprecation import warn_renamed
from chelys.errors import ConfigError, OutputError
from chelys.files import json_line, read_bytes
from chelys.parsing import MAX_JSON, parse_json

Row = dict[str, Any]
CLIPS_IN_A_BLOCK = 32


@dataclass(frozen=True)
class Item:
    """One piece of work: a recording, or a block of clips."""

    content: Row  # everything that the result depends on, as plain JSON values
    #: what the work needs but the result does not depend on, such as where a file lies
    place: Row = field(default_factory=dict)


@dataclass(frozen=True)
class NoSettings:
    """For stages with nothing to set."""


class PrepareStage(ABC):
    """A step that turns an item into rows, always into the same ones. Subclasses are frozen dataclasses."""

    name: str  # of the stage and its folder
    version: int  # raised when the same settings give another result
    settings: Any  # a frozen dataclass

    def check(self) -> None:  # noqa: B027 - most stages have nothing to check
        """Find out before any work whether the stage can run. Raises UserError if a package or a model is missing."""

    @abstractmethod
    def work(self, item: Item, store: Store) -> list[Row]:
        """Do it. An exception makes the item a failed one, which is listed and tried again in the next run."""


@dataclass
class ClipRecord:
    """A clip in the making."""

    clip: ClipMetadata  # its metadata, as far as known
    span: tuple[int, int] = (0, 0)  # first sample and the one after the last in the file that holds its sound
    #: PrepareStage -> the row that it made of this clip; some hold more than the metadata does
    rows: dict[str, Row] = field(default_factory=dict)


class ClipStage(PrepareStage):
    """A stage that makes a row of each clip of a block, independently of the others."""

    def wants(self, record: ClipRecord) -> bool:
        """Whether to work on a clip: those that are not dropped."""
        return not record.clip.reasons

    def depends_on(self, record: ClipRecord) -> Any:
        """What the work on a clip depends on besides its sound; plain JSON, None for nothing."""
        return None

    def merge(self, record: ClipRecord) -> None:
        """Copy what this stage found into the clip's metadata."""


def blocks(stage: ClipStage, records: list[ClipRecord]) -> Iterator[tuple[Item, list[ClipRecord]]]:
    """The items that the clips of one recording make for a stage, with their clips."""
    wanted = [record for record in records if record.clip.audio is not None and stage.wants(record)]
    for first in range(0, len(wanted), CLIPS_IN_A_BLOCK):
        block = wanted[first : first + CLIPS_IN_A_BLOCK]
        content = {"audio": block[0].clip.audio, "spans": [list(record.span) for record in block]}
        extra = [stage.depends_on(record) for record in block]
        if any(one is not None for one in extra):
            content["asked"] = extra
        yield Item(content), block


def read_block(item: Item, store: Store) -> Iterator[tuple[np.ndarray, int]]:
    """Sound of each clip of a block, float32 ``(n,)``, and its rate (Hz)."""
    with open_audio(store.out / item.content["audio"]) as stream:
        for first, last in item.content["spans"]:
            yield stream.read(first, last), stream.sample_rate


def digest(value: Any) -> str:
    """40 hexadecimal digits for plain JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:40]


def key(stage: PrepareStage, item: Item) -> str:
    """Name of an item's result."""
    return digest([stage.name, stage.version, asdict(stage.settings), item.content])


@dataclass(frozen=True)
class Store:
    """The folder OUT, an absolute path."""

    out: Path

    @property
    def partial(self) -> Path:
        """Where unfinished files grow."""
        return self.out / "work" / "partial"

    @property
    def lock(self) -> Path:
        """Held by the preparation that writes to the folder."""
        return self.out / "work" / "lock"

    def make(self) -> None:
        """Make the folder and try to write to it, before hours of work. Raises OutputError if that fails."""
        try:
            (self.out / "work").mkdir(parents=True, exist_ok=True)
            for folder in (self.out / "work", self.out):
                with tempfile.TemporaryFile(dir=folder):
                    pass
        except OSError as error:
            raise OutputError(
                f"cannot write to {self.out}: {error.strerror or error}; choose another folder"
            ) from error

    def rows_path(self, stage: str, key: str) -> Path:
        return self.out / "work" / stage / key[:2] / f"{key}.jsonl"

    def has(self, stage: str, key: str) -> bool:
        return self.rows_path(stage, key).exists()

    def read(self, stage: str, key: str) -> list[Row] | None:
        """Rows of an item; None if it is not done."""
        try:
            data = read_bytes(self.rows_path(stage, key), MAX_JSON)
        except FileNotFoundError:
            return None
        return [parse_json(line) for line in data.splitlines()]

    def write(self, stage: str, key: str, rows: list[Row]) -> None:
        with self.growing(self.rows_path(stage, key)) as partial:
            partial.write_text("".join(map(json_line, rows)), encoding="utf8")

    @contextmanager
    def growing(self, path: Path) -> Iterator[Path]:
        """A path to write to; the file takes its name when the block ends well, and is removed otherwise.

        Unlike ``files.atomic_path`` it grows in one folder, which the next run empties, not beside its target.
        """
        self.partial.mkdir(parents=True, exist_ok=True)
        partial = self.partial / f"{os.getpid()}-{secrets.token_hex(8)}{path.suffix}"
        try:
            yield partial
            with partial.open("rb") as file:  # a power cut could otherwise leave the name without the content
                os.fsync(file.fileno())
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def clear_partial(self) -> None:
        """Remove what killed runs left half-written."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.partial)


#: Default parts by their names of the release before.
_MOVED = {
    "chelys.data.prepare.acoustics:embed": "chelys.data.prepare.acoustics:speaker_embedding",
    "chelys.data.prepare.whisper:FasterWhisper": "chelys.data.prepare.transcribe:FasterWhisper",
    "chelys.data.prepare.vqvae:load_encoder": "chelys.data.prepare.encode:load_encoder",
}


@lru_cache
def find_object(name: str) -> Any:
    """A part that the user may bring, ``package.module:function``. Raises ConfigError if there is no such object."""
    if name in _MOVED:
        warn_renamed(name, _MOVED[name])
        name = _MOVED[name]
    module, _, inside = name.partition(":")
    try:
        return reduce(getattr, inside.split("."), import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"there is no {name!r} ({error}): name it package.module:function") from error
