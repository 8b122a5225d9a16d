"""Common Voice: ``validated.tsv`` (client_id, path, sentence, ...) and ``clips/*.mp3`` (Ardila et al. 2020).

``train.tsv``, ``dev.tsv`` and ``test.tsv``, where they are there, say which split a clip is of; they hold a part of
what is validated. ``clip_durations.tsv`` spares opening every file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chelys.data.recipes.layout import Faults, Found, read_table
from chelys.errors import ManifestError

LICENCE = "CC0-1.0"


def find(source: Path, faults: Faults) -> Iterator[Found]:
    """Clips of one language.

    Raises:
        ManifestError: If the folder is laid out otherwise, or holds several languages.
    """
    source = _language(source)
    splits, durations = _splits(source), _durations(source, faults)
    validated = source / "validated.tsv"
    for number, row in read_table(validated, faults):
        name = Path(row.get("path", "")).name  # some releases write the folder before it
        if not name or not row.get("client_id") or "sentence" not in row:
            faults.add(validated, "broken line", "no client_id, path or sentence", line=number)
        elif not row["sentence"].strip():
            faults.add(validated, "no transcript", f"{name} has no sentence", line=number)
        else:
            file = name if Path(name).suffix else f"{name}.mp3"  # early releases left the suffix out
            text = row["sentence"].strip()
            yield Found(
                Path(file).stem, source / "clips" / file, text, row["client_id"],
                split=splits.get(name), seconds=durations.get(file),
            )  # fmt: skip


def _language(source: Path) -> Path:
    """The folder of the language: the one given, or the only one in it."""
    if (source / "validated.tsv").is_file():
        return source
    inside = sorted(path.parent for path in source.glob("*/validated.tsv"))
    if len(inside) == 1:
        return inside[0]
    if inside:
        raise ManifestError(f"{source} holds {len(inside)} languages: give the folder of one, such as {inside[0]}")
    raise ManifestError(f"no validated.tsv in {source}: give the folder of a language, such as cv-corpus-17.0/en")


def _splits(source: Path) -> dict[str, str]:
    """Split of each clip that has one. Broken lines are those of validated.tsv once more, and not counted again."""
    tables = {split: source / f"{split}.tsv" for split in ("train", "dev", "test")}
    return {
        Path(row.get("path", "")).name: split
        for split, table in tables.items()
        if table.is_file()
        for _, row in read_table(table, Faults(source))
    }


def _durations(source: Path, faults: Faults) -> dict[str, float]:
    path = source / "clip_durations.tsv"
    found = {}
    for number, row in read_table(path, faults) if path.is_file() else ():
        try:
            found[row["clip"]] = float(row["duration[ms]"]) / 1000
        except (KeyError, ValueError):
            faults.add(path, "broken line", "no duration; the file is measured", line=number)
    return {name: seconds for name, seconds in found.items() if 0 < seconds < 1e6}
