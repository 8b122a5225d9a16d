"""Hi-Fi TTS: ``READER_manifest_QUALITY_SPLIT.json``, a JSON object a line, and ``audio/`` (Bakhturina et al. 2021)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from chelys.data.recipes.layout import Faults, Found, read_objects
from chelys.errors import ManifestError

LICENCE = "CC-BY-4.0"

_MANIFEST = re.compile(r"(\w+?)_manifest_(clean|other)_(train|dev|test)\.json")


def find(source: Path, faults: Faults) -> Iterator[Found]:
    """Clips of the corpus.

    Raises:
        ManifestError: If the folder is laid out otherwise.
    """
    manifests = [match for path in sorted(source.iterdir()) if (match := _MANIFEST.fullmatch(path.name))]
    if not manifests:
        raise ManifestError(f"no READER_manifest_clean_train.json in {source}: give the folder hi_fi_tts_v0")
    for match in manifests:
        reader, quality, split = match.groups()
        manifest = source / match[0]
        for number, entry in read_objects(manifest, faults):
            name = entry.get("audio_filepath")
            text = entry.get("text_normalized") or entry.get("text")
            if not isinstance(name, str) or not name:
                faults.add(manifest, "broken line", "no audio_filepath", line=number)
            elif not isinstance(text, str) or not text.strip():
                faults.add(manifest, "no transcript", f"{name} has no text_normalized", line=number)
            else:
                id_ = "_".join([reader, *Path(name).with_suffix("").parts[-2:]])  # reader, book, passage
                yield Found(id_, source / name, text.strip(), reader, split=f"{quality}-{split}")
