"""From a published corpus, or a folder of clips, to a manifest; the audio stays where it is: ``chelys data recipe``.

``CORPORA`` lists what can be read. Each has a function that finds its clips. What cannot be used (a broken line, a
missing or damaged file, another encoding) is counted and listed, and does not spoil the rest.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from chelys.audio.io import CLIP_SUFFIXES, duration
from chelys.data.manifest import Utterance, write_manifest
from chelys.errors import AudioError, ManifestError, MissingExtra
from chelys.files import read_bytes, write_json_lines
from chelys.parsing import MAX_LINE, ParseError, parse_json

_BATCH = 4096
_THREADS = 8  # they wait for disks, most of the time
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


@dataclass(frozen=True)
class CorpusUtterance(Utterance):
    """An utterance with the corpus's own part that it belongs to ("train-clean-100"), and its licence."""

    split: str | None = None
    licence: str | None = None


class CorpusClip(NamedTuple):
    """A clip that a corpus lists; its audio may be missing or damaged."""

    id: str  # of the corpus
    audio: Path  # path
    text: str  # transcript
    speaker: str  # who speaks
    split: str | None = None  # the corpus's own part
    licence: str | None = None  # where it differs from clip to clip
    seconds: float | None = None  # where the corpus says it; measured otherwise


class Fault(NamedTuple):
    """Something that was left out: file, or file and line; one of a few kinds; one line of detail."""

    where: str
    kind: str
    detail: str


@dataclass
class Faults:
    """What was left out of a manifest."""

    root: Path  # folder of the corpus; paths below it are shown relative to it
    listed: list[Fault] = field(default_factory=list)

    def add(self, path: Path, kind: str, detail: str, *, line: int | None = None) -> None:
        """Note one, in a file or in a line of it."""
        where = str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)
        self.listed.append(Fault(where if line is None else f"{where}:{line}", kind, " ".join(detail.split())))

    def counts(self) -> dict[str, int]:
        """How many of each kind, the most frequent first."""
        return dict(Counter(fault.kind for fault in self.listed).most_common())

    def write(self, path: Path) -> None:
        if self.listed:
            write_json_lines(path, (fault._asdict() for fault in self.listed))
        else:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class ManifestSummary:
    """A manifest that was made."""

    manifest: Path  # path
    clips: int  # how many are in it
    hours: float  # of speech
    speakers: int  # how many
    left_out: dict[str, int]  # kind of fault -> number of clips or lines left out
    faults: Path | None  # the list of them, JSONL; None without faults

    def line(self, source: Path) -> str:
        line = f"{self.clips} clips, {self.hours:.2f} h, {self.speakers} speakers from {source}"
        if not self.left_out:
            return line
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.left_out.items())
        return f"{line}; {sum(self.left_out.values())} left out ({kinds}), listed in {self.faults}"


def make_manifest(
    name: str,
    source: Path,
    out: Path,
    *,
    licence: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ManifestSummary:
    """Write the manifest of a corpus, one of CORPORA, to ``*.jsonl`` or as ``manifest.jsonl`` into a folder.

    ``licence`` holds where the corpus has none of its own; ``progress`` gets (clips done, clips in all). Raises
    ManifestError if the corpus is unknown, the folder has another layout, or no clip is usable.
    """
    if name not in CORPORA:
        raise ManifestError(f"unknown recipe {name!r}: choose from {', '.join(CORPORA)}")
    if not source.is_dir():
        raise ManifestError(f"no folder {source}: give the folder of the corpus")
    corpus, faults = CORPORA[name], Faults(source)
    manifest = out if out.suffix == ".jsonl" else out / "manifest.jsonl"
    root = Path(os.path.realpath(manifest.parent))
    found = list(_distinct(corpus.find(source, faults), faults))
    utterances = []
    for done, (clip, seconds) in enumerate(_measure(found, source, faults), 1):
        if seconds is not None:
            audio, own = _path_from(root, clip.audio), clip.licence or licence or corpus.licence
            known = clip.id, audio, clip.text, clip.speaker, round(seconds, 4)
            utterances.append(CorpusUtterance(*known, split=clip.split, licence=own))
        if progress:
            progress(done, len(found))
    if not utterances:
        first = f", the first: {faults.listed[0].where}: {faults.listed[0].detail}" if faults.listed else ""
        raise ManifestError(f"no usable clip in {source}: {len(faults.listed)} left out{first}")
    write_manifest(manifest, utterances)
    listed = manifest.with_suffix(".left_out.jsonl")
    faults.write(listed)
    hours, speakers = sum(u.seconds for u in utterances) / 3600, len({u.speaker for u in utterances})
    note = listed if faults.listed else None
    return ManifestSummary(manifest, len(utterances), hours, speakers, faults.counts(), note)


def _distinct(clips: Iterator[CorpusClip], faults: Faults) -> Iterator[CorpusClip]:
    """Clips with ids that occur once; if several paths give the same id, the later ones get a number."""
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


def _measure(clips: list[CorpusClip], source: Path, faults: Faults) -> Iterator[tuple[CorpusClip, float | None]]:
    """Clips and their seconds, in order; None, with a fault noted, for one that cannot be used."""
    inside = Path(os.path.realpath(source))
    rest = iter(clips)
    with ThreadPoolExecutor(_THREADS) as pool:
        while some := list(islice(rest, _BATCH)):
            for clip, result in zip(some, pool.map(lambda c: _examine(c, inside), some), strict=True):
                if isinstance(result, tuple):
                    faults.add(clip.audio, *result)
                yield clip, None if isinstance(result, tuple) else result


def _examine(clip: CorpusClip, inside: Path) -> float | tuple[str, str]:
    """Seconds of a clip, or kind and detail of what is wrong with it."""
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
    except (AudioError, MissingExtra, OSError) as error:
        return "unreadable audio", str(error)
    return seconds if seconds > 0 else ("unreadable audio", "the file holds no samples")


def _path_from(root: Path, audio: Path) -> str:
    """A path as the manifest has it: relative to the manifest's folder, absolute on another drive."""
    folder = os.path.realpath(audio.parent)  # resolves '..' and links; the file itself may stay a link
    try:
        return Path(os.path.relpath(folder, root), audio.name).as_posix()
    except ValueError:  # Windows, another drive
        return str(Path(folder, audio.name))


# ---- reading what others wrote --------------------------------------------------------------------------------------


def decode_text(data: bytes) -> str:
    """Text in UTF-8, or as its byte order mark says; otherwise UnicodeDecodeError: guesses could give wrong letters."""
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding)
    return data.decode("utf8")


def read_transcript(path: Path, faults: Faults) -> str | None:
    """The text of a file on one line; None, with a fault noted, if there is no usable text."""
    try:
        text = " ".join(decode_text(path.read_bytes()).split())
    except UnicodeDecodeError:
        faults.add(path, "encoding", "the transcript is not UTF-8")
    except OSError as error:
        faults.add(path, "no transcript", error.strerror or str(error))
    else:
        if text:
            return text
        faults.add(path, "no transcript", "the file is empty")
    return None


def read_lines(path: Path, faults: Faults) -> Iterator[tuple[int, str]]:
    """Numbered lines of a table without blank ones; a line in another encoding is noted and skipped."""
    data = path.read_bytes()
    mark = next((m for m in _BYTE_ORDER_MARKS if data.startswith(m)), None)
    if mark:
        data = data.decode(_BYTE_ORDER_MARKS[mark], errors="replace").encode()
    for number, line in enumerate(data.split(b"\n"), 1):  # not splitlines: a text may hold a vertical tab
        try:
            text = line.decode("utf8").rstrip("\r")
        except UnicodeDecodeError:
            faults.add(path, "encoding", "the line is not UTF-8", line=number)
            continue
        if text.strip():
            yield number, text


def read_table(path: Path, faults: Faults) -> Iterator[tuple[int, dict[str, str]]]:
    """Numbered rows of a tab-separated table with a header and without quoting."""
    lines = read_lines(path, faults)
    header = next(lines, (0, ""))[1].split("\t")
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) > len(header):
            faults.add(path, "broken line", f"{len(cells)} columns in place of {len(header)}", line=number)
        else:
            yield number, dict(zip(header, cells, strict=False))


def read_objects(path: Path, faults: Faults) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered objects of a file with one JSON object a line."""
    for number, line in read_lines(path, faults):
        try:
            entry = parse_json(line)
        except ParseError:
            faults.add(path, "broken line", "not JSON", line=number)
            continue
        if isinstance(entry, dict):
            yield number, entry
        else:
            faults.add(path, "broken line", "not an object", line=number)


def sound_files(folder: Path) -> Iterator[Path]:
    """Sound files in a folder and below, sorted; hidden ones are skipped, links to folders not followed."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in CLIP_SUFFIXES:
                yield Path(parent, name)


# ---- published corpora ----------------------------------------------------------------------------------------------

_LIBRITTS_ID = re.compile(r"(\d+)_(\d+)_\d+_\d+")  # speaker, chapter, paragraph, sentence
_HIFITTS_MANIFEST = re.compile(r"(\w+?)_manifest_(clean|other)_(train|dev|test)\.json")
_VCTK_NAME = re.compile(r"((\w+?)_\d+)(?:_mic([12]))?")


def find_ljspeech(source: Path, faults: Faults) -> Iterator[CorpusClip]:
    """LJSpeech: ``metadata.csv`` (id|text|text with figures spelled out) and ``wavs/ID.wav``, or FLAC copies."""
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
            yield CorpusClip(id_, flac if flac.exists() and not wav.exists() else wav, text, "LJ")
    for path in sound_files(source / "wavs"):
        if path.stem not in named:
            faults.add(path, "no transcript", "metadata.csv does not name it")


def find_libritts(source: Path, faults: Faults) -> Iterator[CorpusClip]:
    """LibriTTS and LibriTTS-R, one subset or all: ``SUBSET/SPEAKER/CHAPTER/ID.wav``, ``ID.normalized.txt`` beside."""
    found = False
    for path in sound_files(source):
        match = _LIBRITTS_ID.fullmatch(path.stem)
        if not match or path.absolute().parts[-3:-1] != match.groups():
            faults.add(path, "not of the layout", "expected SUBSET/SPEAKER/CHAPTER/ID.wav")
            continue
        found = True
        normalized, original = (path.with_suffix(f".{kind}.txt") for kind in ("normalized", "original"))
        text = read_transcript(original if original.exists() and not normalized.exists() else normalized, faults)
        if text:
            yield CorpusClip(path.stem, path, text, match[1], split=path.absolute().parents[2].name)
    if not found:
        raise ManifestError(f"no SUBSET/SPEAKER/CHAPTER/ID.wav in {source}: give the folder that LibriTTS unpacks to")


def find_librispeech(source: Path, faults: Faults) -> Iterator[CorpusClip]:
    """LibriSpeech, one subset or all: ``SUBSET/SPEAKER/CHAPTER/ID.flac`` and ``SPEAKER-CHAPTER.trans.txt``.

    The texts are in capitals, without marks: they become sentences without marks.
    """
    tables = sorted(source.rglob("*-*.trans.txt"))
    if not tables:
        raise ManifestError(f"no SPEAKER-CHAPTER.trans.txt in {source}: give the folder that LibriSpeech unpacks to")
    for table in tables:
        for number, line in read_lines(table, faults):
            id_, _, text = line.partition(" ")
            if not text.strip():
                faults.add(table, "no transcript", f"{id_} has no text", line=number)
                continue
            sentence = re.sub(r"\bi\b", "I", " ".join(text.split()).capitalize())
            speaker, split = id_.partition("-")[0], table.absolute().parents[2].name
            yield CorpusClip(id_, table.with_name(f"{id_}.flac"), sentence, speaker, split=split)


def find_hifitts(source: Path, faults: Faults) -> Iterator[CorpusClip]:
    """Hi-Fi TTS: ``READER_manifest_QUALITY_SPLIT.json``, a JSON object a line, and ``audio/``."""
    manifests = [match for path in sorted(source.iterdir()) if (match := _HIFITTS_MANIFEST.fullmatch(path.name))]
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
                yield CorpusClip(id_, source / name, text.strip(), reader, split=f"{quality}-{split}")


def find_vctk(source: Path, faults: Faults) -> Iterator[CorpusClip]:
    """VCTK: ``wav48_silence_trimmed/p225/p225_001_mic1.flac`` or ``wav48/p225/p225_001.wav``, and ``txt/``.

    Version 0.92 has each sentence from two microphones: the first is taken (near, omni-directional), the second where
    the first is missing. The texts of p315 are lost; those clips are listed as left out.
    """
    folders = [source / name for name in ("wav48_silence_trimmed", "wav48") if (source / name).is_dir()]
    if not folders:
        raise ManifestError(f"no wav48_silence_trimmed or wav48 in {source}: give the folder that VCTK unpacks to")
    taken: set[str] = set()
    for path in sound_files(folders[0]):  # sorted: mic1 comes before mic2
        match = _VCTK_NAME.fullmatch(path.stem)
        if not match or match[2] != path.parent.name:
            faults.add(path, "not of the layout", "expected SPEAKER/SPEAKER_NUMBER_mic1.flac")
            continue
        id_, speaker, _ = match.groups()
        if id_ in taken:
            continue
        taken.add(id_)
        text = read_transcript(source / "txt" / speaker / f"{id_}.txt", faults)
        if text:
            yield CorpusClip(id_, path, text, speaker)


def find_common_voice(source: Path, faults: Faults) -> Iterator[CorpusClip]:
    """Common Voice, one language: ``validated.tsv`` (client_id, path, sentence, ...) and ``clips/*.mp3``.

    ``train.tsv``, ``dev.tsv`` and ``test.tsv``, if present, give the split of a part of the validated clips, and
    ``clip_durations.tsv`` makes it unnecessary to open every file.
    """
    source = _language_folder(source)
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
            yield CorpusClip(
                Path(file).stem, source / "clips" / file, row["sentence"].strip(), row["client_id"],
                split=splits.get(name), seconds=durations.get(file),
            )  # fmt: skip


def _language_folder(source: Path) -> Path:
    if (source / "validated.tsv").is_file():
        return source
    inside = sorted(path.parent for path in source.glob("*/validated.tsv"))
    if len(inside) == 1:
        return inside[0]
    if inside:
        raise ManifestError(f"{source} holds {len(inside)} languages: give the folder of one, such as {inside[0]}")
    raise ManifestError(f"no validated.tsv in {source}: give the folder of a language, such as cv-corpus-17.0/en")


def _splits(source: Path) -> dict[str, str]:
    """Clip -> split. Broken lines are those of validated.tsv again, and not counted twice."""
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


# ---- a folder of clips ----------------------------------------------------------------------------------------------

#: What a column or key is called; the first name that has a value is taken.
KEYS: dict[str, tuple[str, ...]] = {
    "audio": ("file_name", "audio", "file", "path", "filename", "audio_filepath", "audio_file", "wav", "id"),
    "text": ("text_normalized", "normalized_text", "text", "transcription", "transcript", "sentence"),
    "speaker": ("speaker", "speaker_id", "speaker_name", "client_id"),
    "split": ("split",),
    "licence": ("licence", "license"),
}
_PLAIN_FOLDERS = ("wavs", "wav", "clips", "audio")  # they do not name a speaker
_TABLES = ("metadata.jsonl", "metadata.csv", "metadata.tsv")


def find_folder(source: Path, faults: Faults) -> Iterator[CorpusClip]:
    """A folder of clips, with a table in it or a transcript beside each clip.

    Table        ``metadata.jsonl``, ``metadata.csv`` or ``metadata.tsv``, with a header that names its columns (KEYS),
                 or like LJSpeech's: ``name|text``. Names are relative to the folder; suffix and ``wavs/`` are optional.
    Transcripts  ``clip.txt`` or ``clip.lab`` (the text), or ``clip.json`` (an object with the keys above).
    Speaker      From the table or the object; otherwise the folder that the clip lies in.
    """
    table = next((source / name for name in _TABLES if (source / name).is_file()), None)
    if table is None:
        yield from _with_transcripts(source, faults)
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
            yield _folder_clip(source, path, text, row)
        else:
            faults.add(table, "no transcript", f"{name} has no text", line=number)
    for path in sound_files(source):
        if path not in named:
            faults.add(path, "no transcript", f"{table.name} does not name it")


def _rows(table: Path, faults: Faults) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows of a table, by the names of its header, or of LJSpeech's columns if it has none."""
    lines = read_lines(table, faults)
    number, first = next(lines, (0, ""))
    if not first:
        return
    delimiter = max("\t|;,", key=first.count)
    header = [cell.strip().lower() for cell in _split_row(first, delimiter)]
    if not {name for names in KEYS.values() for name in names} & set(header):
        delimiter = "|" if "|" in first else delimiter
        header = ["file_name", "text", "text_normalized"]
        lines = chain([(number, first)], lines)
    elif not set(KEYS["audio"]) & set(header) or not set(KEYS["text"]) & set(header):
        raise ManifestError(f"{table} has columns {', '.join(header)}: name them file_name, text and perhaps speaker")
    for number, line in lines:
        cells = _split_row(line, delimiter)
        if 2 <= len(cells) <= len(header):
            yield number, dict(zip(header, cells, strict=False))
        else:
            faults.add(table, "broken line", f"{len(cells)} columns in place of {len(header)}", line=number)


def _split_row(line: str, delimiter: str) -> list[str]:
    """Cells of a line; only between commas or semicolons are cells quoted."""
    if delimiter not in ",;":
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a cell of more than 128 kB
        return []


def _with_transcripts(source: Path, faults: Faults) -> Iterator[CorpusClip]:
    """Clips that have their transcript in a file of the same name."""
    for path in sound_files(source):
        texts = [found for suffix in (".txt", ".lab") if (found := path.with_suffix(suffix)).is_file()]
        entry: dict[str, Any] = {}
        if (sidecar := path.with_suffix(".json")).is_file():
            try:
                found = parse_json(decode_text(read_bytes(sidecar, MAX_LINE)))
                entry = found if isinstance(found, dict) else {}
            except (OSError, ValueError) as error:
                faults.add(sidecar, "broken line", f"not JSON ({type(error).__name__})")
        text = _value(entry, "text")
        if texts and not text:
            text = read_transcript(texts[0], faults) or ""
            if not text:
                continue
        if text:
            yield _folder_clip(source, path, text, entry)
        else:
            faults.add(path, "no transcript", "no .txt, .lab or .json beside it holds one")


def _folder_clip(source: Path, path: Path, text: str, row: Mapping[str, Any]) -> CorpusClip:
    below = path.relative_to(source) if path.is_relative_to(source) else Path(path.name)
    # Slashes and dots would act as folders and suffixes where files are named after ids.
    id_ = re.sub(r"[^\w-]+", "_", str(below.with_suffix(""))).strip("_") or "clip"
    folders = [part for part in below.parts[:-1] if part not in _PLAIN_FOLDERS]
    speaker = _value(row, "speaker") or (folders[0] if folders else source.absolute().name)
    return CorpusClip(id_, path, text, speaker, _value(row, "split") or None, _value(row, "licence") or None)


def _value(row: Mapping[str, Any], what: str) -> str:
    """The value of a row under one of the names in KEYS, on one line; empty if there is none."""
    for name in KEYS[what]:
        value = row.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip() if what == "audio" else " ".join(str(value).split())
    return ""


def _locate(source: Path, name: str) -> Path:
    """The file that a table means: as written, or with the folder and the suffix that were left out."""
    suffixes = [""] if Path(name).suffix.lower() in CLIP_SUFFIXES else sorted(CLIP_SUFFIXES)
    for folder in (source, *(source / plain for plain in _PLAIN_FOLDERS)):
        for suffix in suffixes:
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
    return source / name


# ---- the table ------------------------------------------------------------------------------------------------------


class Corpus(NamedTuple):
    """What finds the clips of a corpus (ManifestError if the folder has another layout), and its licence, if any."""

    find: Callable[[Path, Faults], Iterator[CorpusClip]]
    licence: str | None


CORPORA: dict[str, Corpus] = {
    "ljspeech": Corpus(find_ljspeech, "public domain"),  # Ito and Johnson 2017
    "libritts": Corpus(find_libritts, "CC-BY-4.0"),  # Zen et al. 2019
    "librispeech": Corpus(find_librispeech, "CC-BY-4.0"),  # Panayotov et al. 2015
    "hifitts": Corpus(find_hifitts, "CC-BY-4.0"),  # Bakhturina et al. 2021
    "vctk": Corpus(find_vctk, "CC-BY-4.0"),  # Yamagishi et al. 2019
    "common-voice": Corpus(find_common_voice, "CC0-1.0"),  # Ardila et al. 2020
    "folder": Corpus(find_folder, None),
}
