"""VCTK: ``wav48_silence_trimmed/p225/p225_001_mic1.flac`` or ``wav48/p225/p225_001.wav``, ``txt/p225/p225_001.txt``.

Version 0.92 has each sentence from two microphones; the first is taken (near, omni-directional), the second where the
first is missing, never both. The texts of p315 were lost by its makers; those clips are listed as left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from chelys.data.recipes.layout import Faults, Found, read_transcript, recordings
from chelys.errors import ManifestError

LICENCE = "CC-BY-4.0"

_NAME = re.compile(r"((\w+?)_\d+)(?:_mic([12]))?")


def find(source: Path, faults: Faults) -> Iterator[Found]:
    """Clips of the corpus.

    Raises:
        ManifestError: If the folder is laid out otherwise.
    """
    folders = [source / name for name in ("wav48_silence_trimmed", "wav48") if (source / name).is_dir()]
    if not folders:
        raise ManifestError(f"no wav48_silence_trimmed or wav48 in {source}: give the folder that VCTK unpacks to")
    taken: set[str] = set()
    for path in recordings(folders[0]):  # sorted: mic1 comes before mic2
        match = _NAME.fullmatch(path.stem)
        if not match or match[2] != path.parent.name:
            faults.add(path, "not of the layout", "expected SPEAKER/SPEAKER_NUMBER_mic1.flac")
            continue
        id_, speaker, _ = match.groups()
        if id_ in taken:
            continue
        taken.add(id_)
        text = read_transcript(source / "txt" / speaker / f"{id_}.txt", faults)
        if text:
            yield Found(id_, path, text, speaker)
