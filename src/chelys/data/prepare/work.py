"""Where a preparation keeps what is done: one small file for each item of a stage, named by what it was made from.

A file ``OUT/work/STAGE/ab/abcdef....jsonl`` holds the rows that a stage made of an item. Its name is the digest of the
stage, its version and settings, and the item's content. So a file that is there need not be made again, whoever made
it, and nothing that changes is ever mistaken for it. Files appear whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from chelys.data.prepare.ledger import to_line

Row = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One piece of work: a recording, or a block of clips.

    Attributes:
        content: All that the result depends on, as plain JSON values.
        place: What is needed to do the work and does not change the result, such as where a file lies.
    """

    content: Row
    place: Row = field(default_factory=dict)


class Stage(Protocol):
    """A step of the preparation that turns an item into rows, by itself and always into the same ones.

    Attributes:
        name: Of the stage and of its folder.
        version: Raised when the same settings come to mean another result.
        settings: A frozen dataclass.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def settings(self) -> Any: ...

    def check(self) -> None:
        """Find out before any work whether the stage can run here.

        Raises:
            UserError: If a package or a model is missing.
        """
        ...

    def work(self, item: Item, store: Store) -> list[Row]:
        """Do it. What is raised makes the item a failed one, which is listed and tried again in the next run."""
        ...


def digest(value: Any) -> str:
    """40 hexadecimal digits that stand for plain JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:40]


def key(stage: Stage, item: Item) -> str:
    """Name of an item's result."""
    return digest([stage.name, stage.version, asdict(stage.settings), item.content])


@dataclass(frozen=True)
class Store:
    """The folder OUT.

    Attributes:
        out: Absolute path.
    """

    out: Path

    @property
    def partial(self) -> Path:
        """Where files grow."""
        return self.out / "work" / "partial"

    def rows_path(self, stage: str, key: str) -> Path:
        """Of an item's result."""
        return self.out / "work" / stage / key[:2] / f"{key}.jsonl"

    def has(self, stage: str, key: str) -> bool:
        """Whether an item is done."""
        return self.rows_path(stage, key).exists()

    def read(self, stage: str, key: str) -> list[Row] | None:
        """Rows of an item; None if it is not done."""
        try:
            text = self.rows_path(stage, key).read_text(encoding="utf8")
        except FileNotFoundError:
            return None
        return [json.loads(line) for line in text.splitlines()]

    def write(self, stage: str, key: str, rows: list[Row]) -> None:
        """Keep the rows of an item."""
        with self.growing(self.rows_path(stage, key)) as partial:
            partial.write_text("".join(map(to_line, rows)), encoding="utf8")

    @contextmanager
    def growing(self, path: Path) -> Iterator[Path]:
        """A path to write to; it takes its name when the ``with`` block ends well, and vanishes otherwise."""
        self.partial.mkdir(parents=True, exist_ok=True)
        partial = self.partial / f"{os.getpid()}-{secrets.token_hex(8)}{path.suffix}"
        try:
            yield partial
            with partial.open("rb") as file:  # or a power cut could leave the name without the content
                os.fsync(file.fileno())
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def clear_partial(self) -> None:
        """Remove what killed runs left half-written."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.partial)
