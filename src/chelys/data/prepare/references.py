"""Reference transcripts against those that were made: word error rates, counted by jiwer.

A file of references has a line for each recording: ``name: text``, ``name|text`` or ``name<TAB>text`` (lines that begin
with ``;`` or ``#`` are comments), or JSON with ``source``, ``audio``, ``file_name`` or ``id`` and ``text``. A name
means the recording of that path in RAW, with or without suffix and folders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from chelys.errors import ManifestError, MissingExtra, TextError
from chelys.text.normalize import normalize

_NAMES = ("source", "audio", "file_name", "id")


@dataclass(frozen=True)
class WordErrors:
    """Number of recordings compared, words in their references, and wrong ones: substituted, deleted, inserted."""

    recordings: int = 0
    words: int = 0
    wrong: int = 0

    @property
    def rate(self) -> float:
        """Word error rate."""
        return self.wrong / max(1, self.words)

    def plus(self, words: int, wrong: int) -> WordErrors:
        """With one more recording."""
        return WordErrors(self.recordings + 1, self.words + words, self.wrong + wrong)


@dataclass(frozen=True)
class RecordingErrors:
    """One recording: its reference, the transcripts of its clips, words in the reference and wrong words."""

    source: str
    reference: str
    hypothesis: str
    words: int
    wrong: int


@dataclass(frozen=True)
class TranscriptErrors:
    """Quality of the transcripts."""

    kept: WordErrors  # of recordings with a kept clip, by their kept clips
    transcribed: WordErrors  # of recordings with any transcript, by all their transcripts
    all: WordErrors  # of all recordings with a reference; without a transcript every word is wrong
    worst: list[RecordingErrors]  # the kept ones with the highest rates


def read_references(path: Path) -> dict[str, str]:
    """Name without suffix -> text. Raises ManifestError if the file cannot be read or holds no transcript."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"cannot read references from {path}: {error}") from error
    pairs = [_json_pair(line) if path.suffix == ".jsonl" else _plain_pair(line) for line in lines]
    found = {name: " ".join(text.split()) for name, text in pairs if name and text.strip()}
    for name in list(found):  # 'a.b' may be the recording 'a.b.wav' or 'a.b'
        found.setdefault(_stem(name), found[name])
    if not found:
        raise ManifestError(f"{path} holds no transcript: write a line 'name: text' for each recording")
    return found


def _json_pair(line: str) -> tuple[str, str]:
    try:
        entry = json.loads(line)
        return str(next((entry[key] for key in _NAMES if entry.get(key)), "")), str(entry.get("text") or "")
    except (ValueError, AttributeError):
        return "", ""


def _plain_pair(line: str) -> tuple[str, str]:
    if line.lstrip().startswith((";", "#")):
        return "", ""
    name, mark, text = re.match(r"([^\t|:]*)([\t|:]?)(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]
    if mark == "|":  # LJSpeech's third column is the text with figures spelled out
        text = next((cell for cell in reversed(text.split("|")) if cell.strip()), "")
    return name.strip(), text


def _stem(name: str) -> str:
    """A path without its suffix; a dot in a name without one does not begin a suffix."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if re.fullmatch(r"\.\w{1,5}", path.suffix) else str(path)


def find_reference(source: str, references: Mapping[str, str]) -> str | None:
    """The reference of a recording, by its whole path or the end of it."""
    stem = PurePosixPath(_stem(source))
    return next((t for first in range(len(stem.parts)) if (t := references.get("/".join(stem.parts[first:])))), None)


def compare(
    sources: Iterable[str], kept: Mapping[str, str], transcribed: Mapping[str, str], references: Mapping[str, str]
) -> TranscriptErrors:
    """Compare transcripts with references.

    Raises ManifestError if no recording has a reference; MissingExtra if jiwer is not installed.

    Args:
        sources: All recordings.
        kept: Recording -> transcripts of its kept clips, joined.
        transcribed: Recording -> transcripts of all its clips.
        references: Of ``read_references``.
    """
    of_kept = of_transcribed = of_all = WordErrors()
    compared = []
    for source in sources:
        reference = find_reference(source, references)
        if reference is None or not (words := len(spoken_words(reference))):
            continue
        wrong = word_errors(reference, transcribed.get(source, ""))
        of_all = of_all.plus(words, wrong)
        if source in transcribed:
            of_transcribed = of_transcribed.plus(words, wrong)
        if source in kept:
            wrong = word_errors(reference, kept[source])
            of_kept = of_kept.plus(words, wrong)
            compared.append(RecordingErrors(source, reference, kept[source], words, wrong))
    if not of_all.recordings:
        raise ManifestError("none of the references names a recording: names are paths in RAW, with or without suffix")
    compared.sort(key=lambda one: (-one.wrong / one.words, one.source))
    return TranscriptErrors(of_kept, of_transcribed, of_all, [one for one in compared[:20] if one.wrong])


def spoken_words(text: str) -> list[str]:
    """Words as they are spoken: figures spelled out, in lower case, without punctuation."""
    try:
        text = normalize(text).text
    except TextError:
        pass
    return re.sub(r"[^\w\s']", " ", text.casefold().replace("'", "")).split()


def word_errors(reference: str, hypothesis: str) -> int:
    """Smallest number of words to substitute, delete and insert."""
    try:
        import jiwer
    except ImportError as error:
        raise MissingExtra("prepare", error) from error
    found = jiwer.process_words(" ".join(spoken_words(reference)), " ".join(spoken_words(hypothesis)))
    return found.substitutions + found.deletions + found.insertions
