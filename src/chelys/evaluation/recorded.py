"""Sets of recordings: which clips of which corpus are judged, in the package; the recordings are the user's.

``unseen``: twenty speakers of LibriSpeech's test-clean, three texts of each, to be said in a voice that is made of
another clip of the speaker. ``recordings``: a hundred clips of LJSpeech, to know what the measures say of real speech.
"""

from __future__ import annotations

import hashlib
import os
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from chelys.data.recipes.corpora import CORPORA, CorpusClip, Faults
from chelys.errors import ConfigError, ManifestError, OutputError
from chelys.evaluation.speaking import LIST
from chelys.files import output_errors, write_json, write_json_lines


class RecordedSet(NamedTuple):
    """Clips of a corpus."""

    file: str  # in ``assets/evaluation``: a clip a line, or the reference of its speaker, a tab, and the clip
    version: int
    corpus: str  # key of ``CORPORA``
    title: str  # of the corpus, with the part that is needed
    url: str


RECORDED = {
    "unseen": RecordedSet(
        "unseen.tsv", 1, "librispeech", "LibriSpeech with its test-clean", "https://www.openslr.org/12"
    ),
    "recordings": RecordedSet(
        "recordings.tsv", 1, "ljspeech", "LJSpeech 1.1", "https://keithito.com/LJ-Speech-Dataset"
    ),
}


def clip_ids(name: str) -> list[tuple[str, str]]:
    """The clips of a set, each with the reference of its speaker, or an empty text. Raises ConfigError if unknown."""
    if name not in RECORDED:
        raise ConfigError(f"no set of recordings {name!r}: choose from {', '.join(RECORDED)}")
    lines = (resources.files("chelys") / "assets" / "evaluation" / RECORDED[name].file).read_text("utf8").splitlines()
    pairs = [line.rpartition("\t") for line in lines]
    return [(reference, clip) for reference, _, clip in pairs]


def set_hash(name: str) -> str:
    """Of the ids: it changes with the set."""
    return hashlib.sha256("\n".join("\t".join(pair) for pair in clip_ids(name)).encode()).hexdigest()[:16]


def lay_out(name: str, corpus: Path, out: Path) -> Path:
    """Write ``OUT/list.jsonl``, as ``read_clips`` reads it, and ``OUT/set.json``, which says what it is.

    Raises ConfigError if there is no such set, or the corpus lacks a clip of it; OutputError if it cannot be written.
    """
    pairs, what = clip_ids(name), RECORDED[name]
    wanted = dict.fromkeys(id_ for pair in pairs for id_ in pair if id_)
    advice = f"give the folder of {what.title} ({what.url})"
    if not corpus.is_dir():
        raise ConfigError(f"no folder {corpus}: {advice}")
    try:
        found = {clip.id: clip for clip in CORPORA[what.corpus].find(corpus, Faults(corpus)) if clip.id in wanted}
    except ManifestError as error:
        raise ConfigError(f"{str(error).partition(':')[0]}: {advice}") from error
    if lacking := [id_ for id_ in wanted if id_ not in found or not found[id_].audio.is_file()]:
        raise ConfigError(
            f"{corpus} lacks {len(lacking)} of the {len(wanted)} clips of {name!r}, the first {lacking[0]}: {advice}"
        )
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        if (out / LIST).exists() and not (out / "set.json").exists():
            raise OutputError(f"{out} has another {LIST} in it: name another folder")
        write_json_lines(out / LIST, [_line(found[clip], found.get(reference)) for reference, clip in pairs])
        write_json(out / "set.json", {
            "set": name, "version": what.version, "hash": set_hash(name), "corpus": what.title, "source": what.url,
            "licence": CORPORA[what.corpus].licence,
        })  # fmt: skip
    return out / LIST


def _line(clip: CorpusClip, reference: CorpusClip | None) -> dict[str, str]:
    line = {"audio": os.path.abspath(clip.audio), "text": clip.text, "voice": clip.speaker}
    return line | ({"reference": os.path.abspath(reference.audio)} if reference else {})
