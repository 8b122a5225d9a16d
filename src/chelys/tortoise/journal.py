"""A folder while a conversion writes it: held by one process, with a journal of what is finished."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from chelys.errors import OutputError
from chelys.files import file_lock, remove_partial_files, write_text

_JOURNAL, _LOCK = ".conversion.json", ".conversion.lock"


@dataclass
class Journal:
    """What is finished.

    Attributes:
        folder: What is being written.
        settings: Of the conversion; what was finished with others is of no use.
        sources: Name of each finished file to the SHA-256 of what it was made from.
        files: Name of each finished file to its own.
    """

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def note(self, name: str, source: str, file: str) -> None:
        """A file is finished."""
        self.sources[name], self.files[name] = source, file
        values = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_text(self.folder / _JOURNAL, json.dumps(values))

    def begin(self, settings: dict[str, str]) -> None:
        """Go on with what was finished with the same settings; drop the rest."""
        if self.settings != settings:
            for name in self.files:
                (self.folder / name).unlink(missing_ok=True)
            self.settings, self.sources, self.files = settings, {}, {}


@contextmanager
def claimed(folder: Path, last: str) -> Iterator[Journal]:
    """Hold a folder alone while it is written; one in which nothing was finished is left as it was.

    Args:
        folder: New, empty, or left by a conversion that was stopped.
        last: The file whose presence says that all is finished.

    Yields:
        Its journal.

    Raises:
        OutputError: If the folder holds something else, cannot be written, or another process writes it.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = {path.name for path in folder.iterdir()}
        if there and (last in there or not there & {_JOURNAL, _LOCK}):
            raise OutputError(f"{folder} is not empty: name a folder that is new or empty")
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from error
    with file_lock(folder / _LOCK, f"another conversion is writing {folder}: wait for it, or name another folder"):
        remove_partial_files(folder)
        journal = _read(folder)
        try:
            yield journal
        finally:
            if (folder / last).is_file() or not journal.files:
                for name in (_JOURNAL, _LOCK):
                    (folder / name).unlink(missing_ok=True)
            for path in made:
                if path.is_dir() and not any(path.iterdir()):
                    path.rmdir()


def _read(folder: Path) -> Journal:
    """What was noted before; nothing, if that cannot be read."""
    try:
        values = json.loads((folder / _JOURNAL).read_text(encoding="utf8"))
        return Journal(folder, *(dict(values[key]) for key in ("settings", "sources", "files")))
    except (OSError, ValueError, KeyError, TypeError):
        return Journal(folder)
