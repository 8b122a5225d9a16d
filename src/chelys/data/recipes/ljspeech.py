"""LJSpeech: ``metadata.csv`` (id|text|text with figures spelled out) and ``wavs/ID.wav`` (Ito and Johnson 2017).

Copies whose recordings were turned into FLAC are read as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chelys.data.recipes.layout import Faults, Found, read_lines, recordings
from chelys.errors import ManifestError

LICENCE = "public domain"


def find(source: Path, faults: Faults) -> Iterator[Found]:
    """Clips of the corpus.

    Raises:
        ManifestError: If the folder is laid out otherwise.
    """
    metadata = source / "metadata.csv"
    if not metadata.is_file():
        raise ManifestError(f"no metadata.csv in {source}: give the folder that LJSpeech-1.1.tar.bz2 unpacks to")
    named = set()
    for number, line in read_lines(metadata, faults):
        id_, *texts = line.split("|")
        named.add(id_)
        text = next((t.strip() for t in reversed(texts) if t.strip()), "")  # the one with figures spelled out
        if not texts or len(texts) > 2:
            faults.add(metadata, "broken line", f"{len(texts) + 1} fields in place of 3", line=number)
        elif not text:
            faults.add(metadata, "no transcript", f"{id_} has no text", line=number)
        else:
            wav, flac = (source / "wavs" / f"{id_}{suffix}" for suffix in (".wav", ".flac"))
            yield Found(id_, flac if flac.exists() and not wav.exists() else wav, text, "LJ")
    for path in recordings(source / "wavs"):
        if path.stem not in named:
            faults.add(path, "no transcript", "metadata.csv does not name it")
