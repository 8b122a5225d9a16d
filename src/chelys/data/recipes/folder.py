"""A folder of clips: a table in it, or a transcript beside each clip.

Table        ``metadata.jsonl``, ``metadata.csv`` or ``metadata.tsv``, with a header that names its columns (KEYS), or
             as LJSpeech has it: ``name|text``. Names are relative to the folder; suffix and ``wavs/`` can be left out.
Transcripts  ``clip.txt`` or ``clip.lab`` (the text), or ``clip.json`` (an object with the keys below).
Speaker      As said in the table or the object; otherwise the folder that the clip lies in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chelys.audio.io import CLIP_SUFFIXES
from chelys.data.recipes.layout import (
    Faults,
    Found,
    decode_text,
    read_lines,
    read_objects,
    read_transcript,
    recordings,
    split_row,
)
from chelys.errors import ManifestError

LICENCE = None

#: What a value is called; the first name that has one is taken.
KEYS: dict[str, tuple[str, ...]] = {
    "audio": ("file_name", "audio", "file", "path", "filename", "audio_filepath", "audio_file", "wav", "id"),
    "text": ("text_normalized", "normalized_text", "text", "transcription", "transcript", "sentence"),
    "speaker": ("speaker", "speaker_id", "speaker_name", "client_id"),
    "split": ("split",),
    "licence": ("licence", "license"),
}
#: Folders that say nothing of who speaks.
_PLAIN = ("wavs", "wav", "clips", "audio")
_TABLES = ("metadata.jsonl", "metadata.csv", "metadata.tsv")


def find(source: Path, faults: Faults) -> Iterator[Found]:
    """Clips of the folder and of those below it."""
    table = next((source / name for name in _TABLES if (source / name).is_file()), None)
    if table is None:
        yield from _beside(source, faults)
        return
    rows = read_objects(table, faults) if table.suffix == ".jsonl" else _rows(table, faults)
    named = set()
    for number, row in rows:
        name, text = _value(row, "audio"), _value(row, "text")
        if not name or "\0" in name:
            faults.add(table, "broken line", f"no {KEYS['audio'][0]}", line=number)
            continue
        path = _locate(source, name)
        named.add(path)
        if text:
            yield _found(source, path, text, row)
        else:
            faults.add(table, "no transcript", f"{name} has no text", line=number)
    for path in recordings(source):
        if path not in named:
            faults.add(path, "no transcript", f"{table.name} does not name it")


def _rows(table: Path, faults: Faults) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows of a table, by the names of its header, or of LJSpeech's columns if it has none."""
    lines = read_lines(table, faults)
    number, first = next(lines, (0, ""))
    if not first:
        return
    known = {name for names in KEYS.values() for name in names}
    delimiter = max("\t|;,", key=first.count)
    header = [cell.strip().lower() for cell in split_row(first, delimiter)]
    if not known & set(header):
        delimiter = "|" if "|" in first else delimiter
        header = ["file_name", "text", "text_normalized"]
        lines = _put_back((number, first), lines)
    elif not set(KEYS["audio"]) & set(header) or not set(KEYS["text"]) & set(header):
        raise ManifestError(f"{table} has columns {', '.join(header)}: name them file_name, text and perhaps speaker")
    for number, line in lines:
        cells = split_row(line, delimiter)
        if 2 <= len(cells) <= len(header):
            yield number, dict(zip(header, cells, strict=False))
        else:
            faults.add(table, "broken line", f"{len(cells)} columns in place of {len(header)}", line=number)


def _put_back(first: tuple[int, str], rest: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield first
    yield from rest


def _beside(source: Path, faults: Faults) -> Iterator[Found]:
    """Clips that have their transcript in a file of the same name."""
    for path in recordings(source):
        texts = [found for suffix in (".txt", ".lab") if (found := path.with_suffix(suffix)).is_file()]
        entry: dict[str, Any] = {}
        if (sidecar := path.with_suffix(".json")).is_file():
            entry = _read_object(sidecar, faults)
        text = _value(entry, "text")
        if texts and not text:
            text = read_transcript(texts[0], faults) or ""
            if not text:
                continue
        if text:
            yield _found(source, path, text, entry)
        else:
            faults.add(path, "no transcript", "no .txt, .lab or .json beside it holds one")


def _read_object(path: Path, faults: Faults) -> dict[str, Any]:
    try:
        entry = json.loads(decode_text(path.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        faults.add(path, "broken line", f"not JSON ({type(error).__name__})")
        return {}
    return entry if isinstance(entry, dict) else {}


def _found(source: Path, path: Path, text: str, row: Mapping[str, Any]) -> Found:
    below = path.relative_to(source) if path.is_relative_to(source) else Path(path.name)
    # Slashes and dots would be read as folders and suffixes by whoever names files after ids.
    id_ = re.sub(r"[^\w-]+", "_", str(below.with_suffix(""))).strip("_") or "clip"
    folders = [part for part in below.parts[:-1] if part not in _PLAIN]
    spoken_by = _value(row, "speaker") or (folders[0] if folders else source.absolute().name)
    return Found(id_, path, text, spoken_by, _value(row, "split") or None, _value(row, "licence") or None)


def _value(row: Mapping[str, Any], what: str) -> str:
    """The value of a row that goes by one of the names, on one line; empty if there is none."""
    for name in KEYS[what]:
        value = row.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip() if what == "audio" else " ".join(str(value).split())
    return ""


def _locate(source: Path, name: str) -> Path:
    """The file that a table means: as it is written, or with the folder and the suffix that were left out."""
    for folder in (source, *(source / name for name in _PLAIN)):
        if Path(name).suffix.lower() in CLIP_SUFFIXES:
            if (folder / name).is_file():
                return folder / name
            continue
        for suffix in sorted(CLIP_SUFFIXES):
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
    return source / name
