"""A script and its takes to files: the book in one, or a file a chapter, with subtitles and a record of each sentence.

What a book is made of lies in the store of stages, so that a run which was stopped, at any moment, goes on by being
started again: all that was computed is looked up. Files appear whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import numpy as np

from chelys.audiobook.book import Book
from chelys.audiobook.book_file import Mark, write
from chelys.audiobook.script import Line, Script
from chelys.audiobook.sound import Levels, LoudnessMeter
from chelys.audiobook.stages import SentenceRequest, Take, numbered
from chelys.audiobook.subtitles import Subtitles, subtitles, written_words
from chelys.audiobook.track import Placed, Track
from chelys.errors import TextError
from chelys.files import atomic_path, json_line, output_errors

#: Called with a line, its take and the seconds of sound so far.
OnLine = Callable[[Line, Take, float], None]
#: Called with a file that is being written, and how much of it is: 0 to 1.
OnWrite = Callable[[Path, float], None]
Takes = Callable[[Iterable[SentenceRequest]], Iterator[Take]]
Spoken = tuple[Line, Take]


@dataclass(frozen=True)
class Target:
    """What is to be written."""

    path: Path  # a file, or the folder of the chapters' files
    format: str
    each_chapter: bool = False
    kbps: int | None = None
    subtitles: Sequence[Subtitles] = ()
    preview_s: float | None = None  # end after so many seconds


@dataclass
class Made:
    """What was written."""

    files: list[Path] = field(default_factory=list)
    seconds: float = 0.0  # of sound
    sentences: int = 0
    computed: int = 0  # sentences of which something was computed now
    levels: list[Levels] = field(default_factory=list)  # of the files of sound, in order


def record_of(target: Target) -> Path:
    """Where the record of the sentences lies, one JSON value a line."""
    path = target.path
    return path / "sentences.jsonl" if target.each_chapter else path.with_name(f"{path.stem}.sentences.jsonl")


def chapter_file(target: Target, number: int, count: int, title: str) -> Path:
    """The file of a chapter: its number and as much of its title as is good for a name."""
    plain = "".join(c if c.isalnum() or c in "-_'" else " " for c in title)
    name = f"{number:0{max(2, len(str(count)))}d} {' '.join(plain.split())[:60]}".strip()
    return target.path / f"{name}.{target.format}"


class Narrator:
    """Reads a book into files.

    Args:
        book: What is read.
        script: How.
        takes: Makes the takes of requests, in order (``SentenceRenderer.takes``).
        seed: Of the book.
        target: What is written. The caller holds a lock on it.
        recipe: Called with a digest of the takes of a file; what it returns is kept in the file, as its comment.
        on_line: Called after each sentence.
        on_write: Called while a file is written, which for a long book takes minutes.
    """

    def __init__(
        self, book: Book, script: Script, takes: Takes, seed: int, target: Target, *,
        recipe: Callable[[str], Mapping[str, Any]], on_line: OnLine | None = None,
        on_write: OnWrite | None = None,
    ) -> None:  # fmt: skip
        self.book, self.script, self.seed, self.target = book, script, seed, target
        self._takes, self._recipe, self._on_line, self._on_write = takes, recipe, on_line, on_write
        self._titles = {number: chapter.title for number, chapter in script.chapters}
        self._enough = False  # whether a preview has come to its end
        self.made = Made()

    def narrate(self) -> Made:
        """Read all. Raises OutputError if a file cannot be written, TextError if nothing can be spoken."""
        record_path = record_of(self.target)
        with _temporary(record_path.parent) as record:
            self._read(record_path.parent, record)
            if not self.made.sentences:
                raise TextError(f"nothing in {self.book.title!r} can be spoken by this model")
            record.seek(0)
            with output_errors(record_path), atomic_path(record_path, locked=True) as partial:
                with partial.open("w", encoding="utf8", newline="") as file:
                    shutil.copyfileobj(record, file)
        self.made.files.append(record_path)
        return self.made

    def _read(self, folder: Path, record: IO[str]) -> None:
        each = self.target.each_chapter
        for _, of_file in groupby(self._spoken(), key=lambda one: one[0].chapter if each else 0):
            with Track(folder, self.script.pauses.begin) as track:
                self._read_file(track, of_file, record)

    def _read_file(self, track: Track, of_file: Iterator[Spoken], record: IO[str]) -> None:
        pauses, first, taken = self.script.pauses, record.tell(), hashlib.sha256()
        starts: list[tuple[int, float]] = []  # chapters, and seconds at which they begin
        due = 0.0  # silence after the last sentence
        for chapter, of_chapter in groupby(of_file, key=lambda one: one[0].chapter):
            if starts:  # most of the pause belongs to the chapter before
                track.pause(max(0.0, due - pauses.begin))
            starts.append((chapter, track.end() if starts else 0.0))
            due = pauses.begin
            for line, take in of_chapter:
                track.pause(max(due, line.before_s))
                placed = track.add(take.audio)
                due = line.after_s
                record.write(json_line(self._about(self._path(starts[0][0]), line, take, placed)))
                taken.update(take.key.encode())
                self._count(line, take, placed)
        track.pause(pauses.end)
        ends = [start for _, start in starts[1:]] + [track.end()]
        marks = [Mark(self._titles[chapter], start, end) for (chapter, start), end in zip(starts, ends, strict=True)]
        chapter, path = starts[0][0], self._path(starts[0][0])
        self._write(track, path, chapter, marks, taken.hexdigest()[:32])
        record.seek(first)
        self._write_subtitles(path, chapter, record)
        record.seek(0, 2)

    def _count(self, line: Line, take: Take, placed: Placed) -> None:
        """Count a sentence that is in the track."""
        self.made.sentences += 1
        self.made.computed += bool(take.computed)
        seconds = self.made.seconds + placed.end_s  # of the files before, and of this one so far
        self._enough = self.target.preview_s is not None and seconds >= self.target.preview_s
        if self._on_line is not None:
            self._on_line(line, take, seconds)

    def _spoken(self) -> Iterator[Spoken]:
        """Lines with their takes, in order; lines are read as far ahead as takes are asked for."""
        ahead: deque[Line] = deque()

        def requests() -> Iterator[SentenceRequest]:
            for line in self.script.all_lines():
                ahead.append(line)
                yield SentenceRequest(line.sentence, self.script.speaker, self.seed, self.script.options)

        for take in self._takes(numbered(requests())):
            yield ahead.popleft(), take
            if self._enough:
                return

    def _path(self, chapter: int) -> Path:
        if not self.target.each_chapter:
            return self.target.path
        return chapter_file(self.target, chapter, len(self.book.chapters), self._titles[chapter])

    def _about(self, path: Path, line: Line, take: Take, placed: Placed) -> dict[str, Any]:
        """What the record says of a sentence; times are of its file."""
        shift = placed.start_s - placed.trimmed_s
        spoken = [(one.text, shift + one.start_s, shift + one.end_s) for one in take.words]
        words = written_words(line.sentence.text, spoken, placed.start_s, placed.end_s)
        return {
            "place": line.place, "file": path.name, "chapter": self._titles[line.chapter], "kind": line.kind,
            "text": line.sentence.text, "spoken": line.sentence.spoken, "voice": line.sentence.voice,
            "key": take.key, "sentence_key": take.sentence_key, "candidate": take.candidate,
            "verdict": None if take.verdict is None else take.verdict.as_json(),
            "start_s": round(placed.start_s, 3), "end_s": round(placed.end_s, 3),
            "score": None if math.isnan(take.score) else round(take.score, 4), "computed": list(take.computed),
            "words": [[word, round(begin, 3), round(end, 3)] for word, begin, end in words],
            "words_by": "codes" if spoken else "letters",
        }  # fmt: skip

    def _tags(self, chapter: int, taken: str) -> dict[str, str]:
        book = self.book
        tags = {"title": book.title, "artist": book.author, "album": book.title, "genre": "Audiobook"}
        if self.target.each_chapter:
            tags |= {"title": self._titles[chapter], "track": f"{chapter}/{len(book.chapters)}"}
        about = {"date": book.date, "description": book.description[:1000]}
        return tags | about | {"comment": json.dumps(self._recipe(taken), ensure_ascii=False)}

    def _write(self, track: Track, path: Path, chapter: int, marks: list[Mark], taken: str) -> None:
        meter = LoudnessMeter()
        write(
            path, self._watched(path, track, meter), self.target.format, tags=self._tags(chapter, taken),
            chapters=marks, cover=self.book.cover, kbps=self.target.kbps,
        )  # fmt: skip
        self.made.files.append(path)
        self.made.levels.append(meter.report())
        self.made.seconds += marks[-1].end_s

    def _watched(self, path: Path, track: Track, meter: LoudnessMeter) -> Iterator[np.ndarray]:
        written = 0
        for block in track.mastered(meter):
            yield block
            written += len(block)
            if self._on_write is not None:
                self._on_write(path, written / track.samples)

    def _write_subtitles(self, path: Path, chapter: int, record: IO[str]) -> None:
        """Of the sentences that the record has from here on."""
        first = record.tell()
        for kind in self.target.subtitles:
            record.seek(first)
            lines = (json.loads(line) for line in iter(record.readline, ""))
            file = path.with_suffix(f".{kind}")
            with output_errors(file), atomic_path(file, locked=True) as partial:
                with partial.open("w", encoding="utf8", newline="") as out:
                    out.writelines(subtitles(kind, lines, self._tags(chapter, "")))
            self.made.files.append(file)


def _temporary(folder: Path) -> IO[str]:
    """A text file without a name."""
    with output_errors(folder):
        return tempfile.TemporaryFile("w+", dir=folder, encoding="utf8", newline="")
