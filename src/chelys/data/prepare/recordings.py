"""What is in RAW: recordings, files that only look like some, and what is known about them.

A file ``about.yaml`` holds for the recordings of its folder and those below, the nearest one first::

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

from chelys.config import from_mapping
from chelys.configs import read_yaml
from chelys.data.prepare.work import Item, NoSettings, PrepareStage, Row, Store
from chelys.errors import AudioError

ABOUT = "about.yaml"

#: Other files are texts, pictures, archives, and are skipped.
SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .mp2 .aif .aiff .aifc .au .snd .caf .w64 .rf64 "
    ".m4a .m4b .mp4 .m4v .mov .3gp .aac .wma .wmv .asf .webm .mka .mkv .avi .flv .ts .mpg .mpeg "
    ".amr .ac3 .ape .g722 .gsm".split()
)


@dataclass(frozen=True)
class SourceFile:
    """A file of RAW."""

    source: str  # path relative to RAW
    refused: str | None = None  # why it is not even opened, or None
    size: int = 0  # bytes
    modified: int = 0  # nanoseconds; with the size it tells whether a file is the one that was read before


def find_recordings(raw: Path, out: Path) -> list[SourceFile]:
    """All recordings under a folder, by name; OUT may lie inside it. Raises AudioError if there is no such folder."""
    if not raw.is_dir():
        raise AudioError(f"there is no folder {raw}: give the folder that holds the recordings")
    root, skipped = Path(os.path.realpath(raw)), os.path.realpath(out)
    found: list[SourceFile] = []

    def refuse(path: Path, reason: str) -> None:
        found.append(SourceFile(path.relative_to(root).as_posix(), reason))

    def refuse_folder(error: OSError) -> None:
        refuse(Path(error.filename), f"the folder cannot be read: {error.strerror}")

    for folder, folders, files in os.walk(root, onerror=refuse_folder):
        visible = [Path(folder, name) for name in folders if not name.startswith(".")]
        links = [path for path in visible if path.is_symlink() and os.path.realpath(path) != skipped]
        for path in links:  # following could lead in a circle, or out
            refuse(path, "a link to a folder; links to folders are not followed")
        folders[:] = [p.name for p in visible if not p.is_symlink() and os.path.realpath(p) != skipped]
        paths = (Path(folder, name) for name in files if not name.startswith("."))
        found += (_examine(path, root) for path in paths if path.suffix.lower() in SUFFIXES)
    return sorted(found, key=lambda one: one.source)


def _examine(path: Path, root: Path) -> SourceFile:
    source, target = path.relative_to(root).as_posix(), Path(os.path.realpath(path))
    if not target.is_relative_to(root):
        return SourceFile(source, "a link that leads outside of the folder")
    try:
        status = target.stat()
    except OSError as error:
        return SourceFile(source, f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device could block for ever
        return SourceFile(source, "not a regular file")
    if not status.st_size:
        return SourceFile(source, "empty (0 bytes)")
    return SourceFile(source, None, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Scan(PrepareStage):
    """Digest of a recording's content; computed again only when its size or time of change differs."""

    name: str = "scan"
    version: int = 1
    settings: NoSettings = NoSettings()

    def item(self, raw: Path, found: SourceFile) -> Item:
        return Item({"source": found.source, "size": found.size, "modified": found.modified}, {"raw": str(raw)})

    def work(self, item: Item, store: Store) -> list[Row]:
        whole = hashlib.sha256()
        with Path(item.place["raw"], item.content["source"]).open("rb") as file:
            while chunk := file.read(1 << 20):
                whole.update(chunk)
        return [{"sha256": whole.hexdigest()}]


@dataclass(frozen=True)
class About:
    """What is known of a recording."""

    licence: str | None = None
    speaker: str | None = None


@dataclass(frozen=True)
class AboutFolder(About):
    """Contents of an ``about.yaml``."""

    files: dict[str, About] | None = None


class Abouts:
    """The ``about.yaml`` files of a folder of recordings; ``default`` is used where no file says anything."""

    def __init__(self, raw: Path, default: About) -> None:
        self.raw, self.default = raw, default
        self._read: dict[Path, AboutFolder] = {}

    def of(self, source: str) -> About:
        """What is known of a recording; the nearest file decides. Raises ConfigError if one is malformed."""
        known = [*self._nearest_first(self.raw / source), self.default]
        licences, speakers = (one.licence for one in known), (one.speaker for one in known)
        return About(*(next((x for x in found if x is not None), None) for found in (licences, speakers)))

    def _nearest_first(self, path: Path) -> Iterator[About]:
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
