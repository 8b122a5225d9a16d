"""Given transcripts against those that were made: word error rates.

A file of references is a line for each recording: ``name: text``, ``name|text`` or ``name<TAB>text`` (lines that begin
with ``;`` or ``#`` are comments), or JSON with ``source``, ``audio``, ``file_name`` or ``id`` and ``text``. A name
means the recording of that path in RAW, with or without suffix and folders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from chelys.errors import ManifestError, TextError
from chelys.text.normalize import normalize

_NAMES = ("source", "audio", "file_name", "id")


@dataclass(frozen=True)
class Errors:
    """Words that were asked for, and how many were got wrong.

    Attributes:
        recordings: That were compared.
        words: In their references.
        wrong: Substituted, left out and put in.
    """

    recordings: int = 0
    words: int = 0
    wrong: int = 0

    @property
    def rate(self) -> float:
        """Word error rate."""
        return self.wrong / max(1, self.words)

    def plus(self, words: int, wrong: int) -> Errors:
        """With one recording more."""
        return Errors(self.recordings + 1, self.words + words, self.wrong + wrong)


@dataclass(frozen=True)
class Compared:
    """One recording.

    Attributes:
        source: The recording.
        reference: What is said, as given.
        hypothesis: The transcripts of its clips.
        words: In the reference.
        wrong: Of them, and put in.
    """

    source: str
    reference: str
    hypothesis: str
    words: int
    wrong: int


@dataclass(frozen=True)
class Comparison:
    """What the transcripts are worth.

    Attributes:
        kept: Of recordings with a kept clip, by their kept clips.
        heard: Of recordings with any transcript, by all their transcripts.
        all: Of all recordings with a reference; where there is no transcript, every word is wrong.
        worst: The kept ones with the most wrong words for their length.
    """

    kept: Errors
    heard: Errors
    all: Errors
    worst: list[Compared]


def read_references(path: Path) -> dict[str, str]:
    """Name, without suffix -> text.

    Raises:
        ManifestError: If the file cannot be read or holds no transcript.
    """
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
    """A path without its suffix; a dot within a name that has none is no suffix."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if re.fullmatch(r"\.\w{1,5}", path.suffix) else str(path)


def find_reference(source: str, references: Mapping[str, str]) -> str | None:
    """The reference of a recording, by its whole path or the end of it."""
    stem = PurePosixPath(_stem(source))
    return next((t for first in range(len(stem.parts)) if (t := references.get("/".join(stem.parts[first:])))), None)


def compare(
    sources: Iterable[str], kept: Mapping[str, str], heard: Mapping[str, str], references: Mapping[str, str]
) -> Comparison:
    """Compare transcripts with references.

    Args:
        sources: All recordings.
        kept: Recording -> transcripts of its kept clips, one after another.
        heard: Recording -> transcripts of all its clips.
        references: Of ``read_references``.

    Raises:
        ManifestError: If no recording has a reference.
    """
    of_kept = of_heard = of_all = Errors()
    compared = []
    for source in sources:
        reference = find_reference(source, references)
        if reference is None or not (words := len(spoken_words(reference))):
            continue
        wrong = word_errors(reference, heard.get(source, ""))
        of_all = of_all.plus(words, wrong)
        if source in heard:
            of_heard = of_heard.plus(words, wrong)
        if source in kept:
            wrong = word_errors(reference, kept[source])
            of_kept = of_kept.plus(words, wrong)
            compared.append(Compared(source, reference, kept[source], words, wrong))
    if not of_all.recordings:
        raise ManifestError("none of the references names a recording: names are paths in RAW, with or without suffix")
    compared.sort(key=lambda one: (-one.wrong / one.words, one.source))
    return Comparison(of_kept, of_heard, of_all, [one for one in compared[:20] if one.wrong])


def spoken_words(text: str) -> list[str]:
    """Words as they are spoken: figures spelled out, in lower case, without punctuation."""
    try:
        text = normalize(text).text
    except TextError:
        pass
    return re.sub(r"[^\w\s']", " ", text.casefold().replace("'", "")).split()


def word_errors(reference: str, hypothesis: str) -> int:
    """Fewest words to change, leave out and put in (Levenshtein's distance)."""
    asked, got = spoken_words(reference), spoken_words(hypothesis)
    known = {word: number for number, word in enumerate(dict.fromkeys([*asked, *got]))}
    there = np.array([known[word] for word in got], int)
    ramp = np.arange(len(got) + 1)
    row = ramp
    for number, word in enumerate(asked, 1):
        changed = row[:-1] + (there != known[word])
        best = np.minimum(changed, row[1:] + 1)
        # Words put in: each costs one more than the word before it, a running minimum along the ramp.
        row = np.minimum.accumulate(np.concatenate([[number], best]) - ramp) + ramp
    return int(row[-1])
