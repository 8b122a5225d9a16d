"""LibriTTS and LibriTTS-R: ``SUBSET/SPEAKER/CHAPTER/ID.wav`` with ``ID.normalized.txt`` beside (Zen et al. 2019)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from chelys.data.recipes.layout import Faults, Found, read_transcript, recordings
from chelys.errors import ManifestError

LICENCE = "CC-BY-4.0"

_ID = re.compile(r"(\d+)_(\d+)_\d+_\d+")  # speaker, chapter, paragraph, sentence


def find(source: Path, faults: Faults) -> Iterator[Found]:
    """Clips of the corpus, of one of its subsets, or of a folder that holds the corpus.

    Raises:
        ManifestError: If the folder is laid out otherwise.
    """
    met = False
    for path in recordings(source):
        match = _ID.fullmatch(path.stem)
        if not match or path.absolute().parts[-3:-1] != match.groups():
            faults.add(path, "not of the layout", "expected SUBSET/SPEAKER/CHAPTER/ID.wav")
            continue
        met = True
        normalized, original = (path.with_suffix(f".{kind}.txt") for kind in ("normalized", "original"))
        text = read_transcript(original if original.exists() and not normalized.exists() else normalized, faults)
        if text:
            yield Found(path.stem, path, text, match[1], split=path.absolute().parents[2].name)
    if not met:
        raise ManifestError(f"no SUBSET/SPEAKER/CHAPTER/ID.wav in {source}: give the folder that LibriTTS unpacks to")
