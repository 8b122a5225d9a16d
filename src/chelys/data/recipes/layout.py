"""What the recipes share: a clip that was found, what had to be left out, and reading of texts that others wrote."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from chelys.audio.io import CLIP_SUFFIXES
from chelys.data.manifest import Utterance

_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


@dataclass(frozen=True)
class Recorded(Utterance):
    """An utterance of a published corpus.

    Attributes:
        split: The corpus's own part that the clip belongs to ("train-clean-100").
        licence: Under which the corpus is given out.
    """

    split: str | None = None
    licence: str | None = None


class Found(NamedTuple):
    """A clip that a layout speaks of; whether its audio is there and can be read is seen later.

    Attributes:
        id: Of the corpus.
        audio: Path.
        text: What is said.
        speaker: Who says it.
        split: The corpus's own part.
        licence: Where it is said clip by clip.
        seconds: Where the corpus says it; measured otherwise.
    """

    id: str
    audio: Path
    text: str
    speaker: str
    split: str | None = None
    licence: str | None = None
    seconds: float | None = None


class Fault(NamedTuple):
    """Something that was left out.

    Attributes:
        where: File, or file and line.
        kind: One of a few words, to be counted.
        detail: One line.
    """

    where: str
    kind: str
    detail: str


@dataclass
class Faults:
    """What was left out of a manifest, counted and listed.

    Attributes:
        root: Folder of the corpus; what lies below it is named from there.
    """

    root: Path
    listed: list[Fault] = field(default_factory=list)

    def add(self, path: Path, kind: str, detail: str, *, line: int | None = None) -> None:
        """Note one, in a file or in a line of it."""
        where = str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)
        self.listed.append(Fault(where if line is None else f"{where}:{line}", kind, " ".join(detail.split())))

    def counts(self) -> dict[str, int]:
        """How many of each kind, the commonest first."""
        return dict(Counter(fault.kind for fault in self.listed).most_common())

    def write(self, path: Path) -> None:
        """Write one JSON object a line; without faults there is no file."""
        if not self.listed:
            path.unlink(missing_ok=True)
            return
        partial = path.with_suffix(".part")
        partial.write_text("".join(json.dumps(fault._asdict()) + "\n" for fault in self.listed), encoding="utf8")
        partial.replace(path)


def decode_text(data: bytes) -> str:
    """Text of a file that others wrote: UTF-8, or whatever its byte order mark says.

    Raises:
        UnicodeDecodeError: If it is in another encoding: guessing would put wrong letters into mouths.
    """
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding)
    return data.decode("utf8")


def read_transcript(path: Path, faults: Faults) -> str | None:
    """The text of a file on one line; None, with a fault noted, if there is none that can be used."""
    try:
        text = " ".join(decode_text(path.read_bytes()).split())
    except UnicodeDecodeError:
        faults.add(path, "encoding", "the transcript is not UTF-8")
    except OSError as error:
        faults.add(path, "no transcript", error.strerror or str(error))
    else:
        if text:
            return text
        faults.add(path, "no transcript", "the file is empty")
    return None


def read_lines(path: Path, faults: Faults) -> Iterator[tuple[int, str]]:
    """Numbered lines of a table, blank ones left out; one in another encoding is noted and does not spoil the rest."""
    data = path.read_bytes()
    mark = next((m for m in _MARKS if data.startswith(m)), None)
    if mark:
        data = data.decode(_MARKS[mark], errors="replace").encode()
    for number, line in enumerate(data.split(b"\n"), 1):  # not splitlines: a text may hold a vertical tab
        try:
            text = line.decode("utf8").rstrip("\r")
        except UnicodeDecodeError:
            faults.add(path, "encoding", "the line is not UTF-8", line=number)
            continue
        if text.strip():
            yield number, text


def read_table(path: Path, faults: Faults) -> Iterator[tuple[int, dict[str, str]]]:
    """Numbered rows of a tab-separated table with a header, in which quotation marks mean themselves."""
    lines = read_lines(path, faults)
    header = next(lines, (0, ""))[1].split("\t")
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) > len(header):
            faults.add(path, "broken line", f"{len(cells)} columns in place of {len(header)}", line=number)
        else:
            yield number, dict(zip(header, cells, strict=False))


def read_objects(path: Path, faults: Faults) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered objects of a file with one JSON object a line."""
    for number, line in read_lines(path, faults):
        try:
            entry = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            faults.add(path, "broken line", "not JSON", line=number)
            continue
        if isinstance(entry, dict):
            yield number, entry
        else:
            faults.add(path, "broken line", "not an object", line=number)


def split_row(line: str, delimiter: str) -> list[str]:
    """Cells of a line; quotation marks enclose cells between commas or semicolons only."""
    if delimiter not in ",;":
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a cell of more than 128 kB
        return []


def recordings(folder: Path) -> Iterator[Path]:
    """Sound files in a folder and all below it, sorted; hidden ones are passed over, links to folders not followed."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in CLIP_SUFFIXES:
                yield Path(parent, name)
