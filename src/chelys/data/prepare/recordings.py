"""What lies in RAW: recordings, files that only look like some, and what is said about them.

A file ``about.yaml`` says what holds for the recordings of its folder and those below, the nearest one first::

    licence: CC BY 4.0
    speaker: Jane Doe
    files:
      chapter one.mp3: {speaker: John Roe}
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chelys.config import from_mapping, read_yaml
from chelys.data.prepare.work import Item, Row, Store
from chelys.errors import AudioError

ABOUT = "about.yaml"

#: Files of other kinds are passed over: they are texts, pictures, archives.
SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .mp2 .aif .aiff .aifc .au .snd .caf .w64 .rf64 "
    ".m4a .m4b .mp4 .m4v .mov .3gp .aac .wma .wmv .asf .webm .mka .mkv .avi .flv .ts .mpg .mpeg "
    ".amr .ac3 .ape .g722 .gsm".split()
)

_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Found:
    """A file of RAW.

    Attributes:
        source: Its path, relative to RAW.
        refused: Why it is not even opened, or None.
        size: Bytes.
        modified: Nanoseconds; with the size it tells whether a file is the one that was read before.
    """

    source: str
    refused: str | None = None
    size: int = 0
    modified: int = 0


def find(raw: Path, out: Path) -> list[Found]:
    """All recordings under a folder, by name.

    Raises:
        AudioError: If there is no such folder.
    """
    if not raw.is_dir():
        raise AudioError(f"there is no folder {raw}: give the folder that holds the recordings")
    root, skipped = Path(os.path.realpath(raw)), os.path.realpath(out)
    found: list[Found] = []

    def list_closed(error: OSError) -> None:
        found.append(Found(_relative(Path(error.filename), root), f"the folder cannot be read: {error.strerror}"))

    for folder, folders, files in os.walk(root, onerror=list_closed):
        inside = []
        for name in folders:
            path = Path(folder, name)
            if name.startswith(".") or os.path.realpath(path) == skipped:
                continue
            if path.is_symlink():  # following could lead in a circle, or out
                found.append(Found(_relative(path, root), "a link to a folder; links to folders are not followed"))
            else:
                inside.append(name)
        folders[:] = inside
        paths = (Path(folder, name) for name in files if not name.startswith("."))
        found += (_look_at(path, root) for path in paths if path.suffix.lower() in SUFFIXES)
    return sorted(found, key=lambda one: one.source)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _look_at(path: Path, root: Path) -> Found:
    source = _relative(path, root)
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(root):
        return Found(source, "a link that leads outside of the folder")
    try:
        status = target.stat()
    except OSError as error:
        return Found(source, f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device could wait for ever
        return Found(source, "not a regular file")
    if not status.st_size:
        return Found(source, "empty (0 bytes)")
    return Found(source, None, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class NoSettings:
    """Of a stage that has nothing to set."""


@dataclass(frozen=True)
class Scan:
    """The digest of a recording's content, taken anew only when its size or time of change differs."""

    name: str = "scan"
    version: int = 1
    settings: NoSettings = NoSettings()

    def item(self, raw: Path, found: Found) -> Item:
        """Of one file."""
        return Item({"source": found.source, "size": found.size, "modified": found.modified}, {"raw": str(raw)})

    def check(self) -> None:
        """See ``Stage``."""

    def work(self, item: Item, store: Store) -> list[Row]:
        """Read it."""
        whole = hashlib.sha256()
        with Path(item.place["raw"], item.content["source"]).open("rb") as file:
            while chunk := file.read(_CHUNK):
                whole.update(chunk)
        return [{"sha256": whole.hexdigest()}]


@dataclass(frozen=True)
class About:
    """What is said of a recording."""

    licence: str | None = None
    speaker: str | None = None


@dataclass(frozen=True)
class AboutFolder(About):
    """What an ``about.yaml`` says."""

    files: dict[str, About] | None = None


class Abouts:
    """The ``about.yaml`` files of a folder of recordings.

    Args:
        raw: The folder.
        otherwise: What holds where nothing is said.
    """

    def __init__(self, raw: Path, otherwise: About) -> None:
        self.raw, self.otherwise = raw, otherwise
        self._read: dict[Path, AboutFolder] = {}

    def of(self, source: str) -> About:
        """What is said of a recording; the nearest word on each matter.

        Raises:
            ConfigError: If an ``about.yaml`` is malformed.
        """
        path = self.raw / source
        said = [*self._words(path), self.otherwise]
        return About(
            next((one.licence for one in said if one.licence is not None), None),
            next((one.speaker for one in said if one.speaker is not None), None),
        )

    def _words(self, path: Path) -> Iterator[About]:
        folder = path.parent
        while True:
            about = self._of_folder(folder)
            if about.files:
                yield about.files.get(path.relative_to(folder).as_posix(), About())
            yield about
            if folder == self.raw:
                return
            folder = folder.parent

    def _of_folder(self, folder: Path) -> AboutFolder:
        if folder not in self._read:
            path = folder / ABOUT
            values: dict[str, Any] = read_yaml(path) if path.is_file() else {}
            self._read[folder] = from_mapping(AboutFolder, values, where=str(path))
        return self._read[folder]
