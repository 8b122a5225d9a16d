"""From a published corpus, or a folder of clips, to a manifest: audio is referenced and stays where it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from chelys.audio.io import duration
from chelys.data.manifest import write_manifest
from chelys.data.recipes import common_voice, folder, hifitts, libritts, ljspeech, vctk
from chelys.data.recipes.layout import Faults, Found, Recorded
from chelys.errors import ManifestError, UserError

_AT_ONCE = 4096
_THREADS = 8  # they wait for disks, most of the time


class Layout(NamedTuple):
    """A corpus that chelys can read.

    Attributes:
        find: Finds its clips.
        licence: Under which it is given out; None: it depends.
    """

    find: Callable[[Path, Faults], Iterator[Found]]
    licence: str | None


LAYOUTS: dict[str, Layout] = {
    "ljspeech": Layout(ljspeech.find, ljspeech.LICENCE),
    "libritts": Layout(libritts.find, libritts.LICENCE),
    "hifitts": Layout(hifitts.find, hifitts.LICENCE),
    "vctk": Layout(vctk.find, vctk.LICENCE),
    "common-voice": Layout(common_voice.find, common_voice.LICENCE),
    "folder": Layout(folder.find, folder.LICENCE),
}


@dataclass(frozen=True)
class Made:
    """What became of a corpus.

    Attributes:
        manifest: Path of the manifest.
        clips: How many are in it.
        hours: Of speech.
        speakers: How many.
        left_out: How many clips or lines of each kind of fault were left out.
        faults: The list of them, JSONL; None without faults.
    """

    manifest: Path
    clips: int
    hours: float
    speakers: int
    left_out: dict[str, int]
    faults: Path | None


def make_manifest(
    name: str,
    source: Path,
    out: Path,
    *,
    licence: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Made:
    """Write the manifest of a corpus.

    Args:
        name: One of LAYOUTS.
        source: Its folder.
        out: Manifest to write, ``*.jsonl``, or a folder to write ``manifest.jsonl`` into.
        licence: Of the corpus, where the layout does not say it.
        progress: Called with (clips done, clips in all).

    Raises:
        ManifestError: If the layout is unknown, the folder is laid out otherwise, or no clip is usable.
    """
    if name not in LAYOUTS:
        raise ManifestError(f"unknown recipe {name!r}: choose from {', '.join(LAYOUTS)}")
    if not source.is_dir():
        raise ManifestError(f"no folder {source}: give the folder of the corpus")
    layout, faults = LAYOUTS[name], Faults(source)
    manifest = out if out.suffix == ".jsonl" else out / "manifest.jsonl"
    root = Path(os.path.realpath(manifest.parent))
    found = list(_distinct(layout.find(source, faults), faults))
    utterances = []
    for done, (clip, seconds) in enumerate(_measured(found, source, faults), 1):
        if seconds is not None:
            utterances.append(
                Recorded(
                    clip.id, _written(clip.audio, root), clip.text, clip.speaker, round(seconds, 4),
                    split=clip.split, licence=clip.licence or licence or layout.licence,
                )
            )  # fmt: skip
        if progress:
            progress(done, len(found))
    if not utterances:
        first = f", the first: {faults.listed[0].where}: {faults.listed[0].detail}" if faults.listed else ""
        raise ManifestError(f"no usable clip in {source}: {len(faults.listed)} left out{first}")
    write_manifest(manifest, utterances)
    listed = manifest.with_suffix(".left_out.jsonl")
    faults.write(listed)
    return Made(
        manifest,
        len(utterances),
        sum(u.seconds for u in utterances) / 3600,
        len({u.speaker for u in utterances}),
        faults.counts(),
        listed if faults.listed else None,
    )


def _distinct(clips: Iterator[Found], faults: Faults) -> Iterator[Found]:
    """Clips by ids that occur once; of paths that were turned into the same id, the later get a number."""
    owners: dict[str, Path] = {}
    for clip in clips:
        id_, number = clip.id, 1
        while id_ in owners and owners[id_] != clip.audio:
            number += 1
            id_ = f"{clip.id}-{number}"
        if id_ in owners:
            faults.add(clip.audio, "named twice", f"{clip.id} was met before")
        else:
            owners[id_] = clip.audio
            yield clip._replace(id=id_)


def _measured(clips: list[Found], source: Path, faults: Faults) -> Iterator[tuple[Found, float | None]]:
    """Clips and their seconds, in order; None, with a fault noted, for one that cannot be used."""
    inside = Path(os.path.realpath(source))
    rest = iter(clips)
    with ThreadPoolExecutor(_THREADS) as pool:
        while some := list(islice(rest, _AT_ONCE)):
            for clip, result in zip(some, pool.map(lambda c: _examine(c, inside), some), strict=True):
                if isinstance(result, tuple):
                    faults.add(clip.audio, *result)
                    yield clip, None
                else:
                    yield clip, result


def _examine(clip: Found, inside: Path) -> float | tuple[str, str]:
    """Seconds of a clip, or the kind and the detail of what is wrong with it."""
    path = clip.audio
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "encoding", "the name is not UTF-8, which a manifest must be: rename the file"
    if not path.is_file():
        return "missing audio", "there is no such file"
    if not Path(os.path.realpath(path)).is_relative_to(inside):
        return "leads outside", "the path or a link leads out of the corpus"
    if not path.stat().st_size:
        return "unreadable audio", "the file is empty (0 bytes)"
    if clip.seconds is not None:
        return clip.seconds
    try:
        seconds = duration(path)
    except (UserError, OSError) as error:  # also that PyAV is needed
        return "unreadable audio", str(error)
    return seconds if seconds > 0 else ("unreadable audio", "the file holds no samples")


def _written(audio: Path, root: Path) -> str:
    """A path as the manifest has it: relative to the manifest's folder, absolute on another drive."""
    folder = os.path.realpath(audio.parent)  # so that '..' means the same to everybody; the file may well be a link
    try:
        return Path(os.path.relpath(folder, root), audio.name).as_posix()
    except ValueError:  # Windows, another drive
        return str(Path(folder, audio.name))


def retold(made: Made, source: Path) -> str:
    """One line about a manifest that was made."""
    left = sum(made.left_out.values())
    kinds = ", ".join(f"{count} {kind}" for kind, count in made.left_out.items())
    told = f"{made.clips} clips, {made.hours:.2f} h, {made.speakers} speakers from {source}"
    return told + (f"; {left} left out ({kinds}), listed in {made.faults}" if left else "")
