"""Packs: a corpus in a few files of bounded size, for training on another machine with everything on its accelerator.

A part is two files: ``pack-0.opus``, clips as Ogg Opus end to end, and ``pack-0.npz``, a row for each: length in bytes,
speaker, source, whether it is held out, whether its text is what is said, its text ids twice, as the lexicon has them
and with some words spelled, and of some hours the pitch at each mel frame, which the vocoder learns to read.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from chelys.audio.rates import OUTPUT_RATE
from chelys.data.arrays import read_npz
from chelys.data.loader import held_out
from chelys.data.manifest import fault_of, numbered_entries
from chelys.data.pairs import spelling
from chelys.errors import ManifestError, MissingExtra, first_line
from chelys.files import atomic_path, open_regular
from chelys.machine import worker_pool
from chelys.parsing import ParseError

log = logging.getLogger(__name__)

#: Rates that Opus decodes to, Hz; other recordings are resampled to the next of them.
OPUS_RATES = (8_000, 12_000, 16_000, 24_000)
#: Share of words given as letters in the second text of a clip.
GRAPHEME_PROBABILITY = 0.16
MIB = 2**20
#: What has several values for each clip.
TABLES = {"ids": np.uint16, "graphemes": np.uint16, "f0_hz": np.float16}


@dataclass(frozen=True)
class PackOptions:
    """What goes into a pack, and how."""

    part_mib: float = 60.0  # largest part, MiB
    kbps: int = 20  # of Opus, variable
    min_seconds: float = 0.8  # of a clip
    max_seconds: float = 16.5
    max_text_ids: int = 380
    exclude_speakers: Collection[str] = ()  # speakers that are kept out, for tests of cloning
    exclude_sources: Collection[str] = ()
    unread_sources: Collection[str] = ()  # sources whose texts are not what is said: only their sound is used
    pitch_hours: float = 8.0  # of which the pitch is tracked, held-out clips first
    seed: int = 5  # of the order of clips and of the spelled words


@dataclass(frozen=True)
class PackedClips:
    """Clips of packs, decoded: a row for each in every list and array."""

    audio: list[np.ndarray]  # int16 ``(n,)``
    rates: np.ndarray  # Hz
    speakers: np.ndarray  # names
    sources: np.ndarray  # names
    held_out: np.ndarray  # bool
    read: np.ndarray  # bool: the text is what is said
    text: list[np.ndarray]  # ids as the lexicon has them
    grapheme_text: list[np.ndarray]  # ids with some words spelled
    f0_hz: list[np.ndarray]  # float16 at each mel frame, 0 without voice; empty where it was not tracked


def pack_clips(
    manifests: Sequence[Path], tokenizer: Any, out: Path, options: PackOptions, *, workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:  # fmt: skip
    """Write the parts of a pack; clips that cannot be read are logged and left out.

    Raises ManifestError if a manifest is malformed, or no clip is left.

    Args:
        manifests: JSONL; ``source`` of a line names its corpus, by default the manifest's folder does.
        tokenizer: Makes ids of the texts.
        out: Folder.
        options: What goes in.
        workers: Processes that encode.
        progress: Called with (clips done, clips in all).

    Returns:
        The ``.npz`` file of each part.
    """
    rng = np.random.default_rng(options.seed)
    rows = [row for manifest in manifests for row in _rows(manifest, options)]
    rows = [rows[i] for i in rng.permutation(len(rows))]  # every part is a mix
    kept: list[dict[str, Any]] = []
    for row in rows:
        row["ids"] = tokenizer.encode(row["text"])
        row["graphemes"] = tokenizer.encode(row["text"], spelled=spelling(GRAPHEME_PROBABILITY, rng))
        if 1 <= len(row["ids"]) and max(len(row["ids"]), len(row["graphemes"])) <= options.max_text_ids:
            kept.append(row)
    for row, held in zip(kept, held_out([row["id"] for row in kept]), strict=True):
        row["held_out"] = bool(held)
    hours = 0.0
    for row in sorted(kept, key=lambda row: not row["held_out"]):
        row["pitch"] = hours < options.pitch_hours
        hours += row["seconds"] / 3600
    out.mkdir(parents=True, exist_ok=True)
    parts, part, size = [], [], 0  # type: ignore[var-annotated]
    with worker_pool(workers) as pool:
        encode = partial(_encoded, kbps=options.kbps)
        for number, (row, encoded) in enumerate(zip(kept, pool.map(encode, kept, chunksize=16), strict=True), 1):
            if progress:
                progress(number, len(kept))
            if isinstance(encoded, str):
                log.warning("%s is left out: %s", row["path"], encoded)
                continue
            taken = len(encoded[0]) + encoded[1].nbytes
            if part and size + taken > options.part_mib * MIB * 0.98:  # room for the table
                parts.append(_write(out, len(parts), part))
                part, size = [], 0
            part.append(row | dict(zip(("data", "f0_hz"), encoded, strict=True)))
            size += taken
    if part:
        parts.append(_write(out, len(parts), part))
    if not parts:
        raise ManifestError("no clip is left to pack: look at the lengths, and at who is kept out")
    return parts


def _rows(manifest: Path, options: PackOptions) -> Iterator[dict[str, Any]]:
    """Lines of a manifest that are wanted; an id that is missing is the audio's path."""
    for number, entry in numbered_entries(manifest):
        if isinstance(entry, ParseError):
            raise ManifestError(f"{manifest}:{number}: {entry}")
        if isinstance(entry, dict):
            entry.setdefault("id", entry.get("audio"))
        if fault := fault_of(entry):
            raise ManifestError(f"{manifest}:{number}: {fault}")
        entry["source"] = str(entry.get("source") or manifest.parent.name)
        if entry["speaker"] in options.exclude_speakers or entry["source"] in options.exclude_sources:
            continue
        if options.min_seconds <= entry["seconds"] <= options.max_seconds:
            entry["read"] = entry["source"] not in options.unread_sources
            yield entry | {"path": str(manifest.parent.absolute() / entry["audio"])}


def _encoded(row: dict[str, Any], kbps: int) -> tuple[bytes, np.ndarray] | str:
    """A clip as Ogg Opus at one loudness, and its pitch if it is wanted; why not, if it cannot be read."""
    from chelys.audio.io import decode, encode_opus, normalize_loudness, resample

    try:
        audio, rate = decode(Path(row["path"]), start=row.get("start", 0.0), end=row.get("end"))
        wanted = next((known for known in OPUS_RATES if known >= rate), OPUS_RATES[-1])
        audio = resample(audio, rate, wanted) if rate != wanted else audio
        audio, f0_hz = normalize_loudness(audio), np.zeros(0, np.float16)
        if row["pitch"]:
            from chelys.data.pitch import track_pitch

            f0_hz = track_pitch(resample(audio, wanted, OUTPUT_RATE)).astype(np.float16)
        return encode_opus(audio, wanted, kbps), f0_hz
    except MissingExtra:
        raise
    except Exception as error:  # whatever a damaged file raises
        return str(error) or type(error).__name__


def _write(out: Path, number: int, rows: list[dict[str, Any]]) -> Path:
    """One part; the table comes last."""
    with atomic_path(out / f"pack-{number}.opus") as path:
        path.write_bytes(b"".join(row["data"] for row in rows))
    arrays: dict[str, np.ndarray] = {
        "length": np.array([len(row["data"]) for row in rows]),
        "held_out": np.array([row["held_out"] for row in rows]),
        "read": np.array([row["read"] for row in rows]),
    }
    for key in ("speaker", "source"):
        arrays[f"{key}_names"], arrays[key] = np.unique([row[key] for row in rows], return_inverse=True)
    for key, kind in TABLES.items():
        arrays[key] = np.concatenate([np.array(row[key], kind) for row in rows])
        arrays[f"{key}_length"] = np.array([len(row[key]) for row in rows])
    target = out / f"pack-{number}.npz"
    with atomic_path(target, suffix=".npz") as path:
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return target


def read_packs(paths: Sequence[Path], *, workers: int = 1) -> PackedClips:
    """Decode packs: files ``.npz``, or folders of them. Raises ManifestError if there is none."""
    files = [file for path in paths for file in (sorted(path.glob("pack-*.npz")) if path.is_dir() else [path])]
    if not files or not all(file.is_file() for file in files):
        raise ManifestError(f"no packs at {', '.join(map(str, paths))}: make them with 'chelys data pack'")
    tables = [_table(file) for file in files]
    jobs = []
    for file, table in zip(files, tables, strict=True):
        ends = table["length"].cumsum()
        spans = list(zip((ends - table["length"]).tolist(), table["length"].tolist(), strict=True))
        jobs += [(file.with_suffix(".opus"), spans[i : i + 100]) for i in range(0, len(spans), 100)]
    with worker_pool(workers) as pool:
        audio, rates = zip(*(clip for part in pool.map(_decoded, jobs) for clip in part), strict=True)
    names = {k: np.concatenate([t[f"{k}_names"][t[k]] for t in tables]) for k in ("speaker", "source")}
    flags = {k: np.concatenate([t[k] for t in tables]) for k in ("held_out", "read")}
    rows = {k: [row for t in tables for row in np.split(t[k], t[f"{k}_length"].cumsum()[:-1])] for k in TABLES}
    return PackedClips(
        list(audio), np.array(rates), names["speaker"], names["source"], flags["held_out"], flags["read"],
        rows["ids"], rows["graphemes"], rows["f0_hz"],
    )  # fmt: skip


#: Columns of a pack: those with a row for each clip, and those behind them.
_COLUMNS = ("length", "held_out", "read", "speaker", "source", *(f"{key}_length" for key in TABLES))
_VALUES = ("speaker_names", "source_names", *TABLES)


def _table(path: Path) -> dict[str, np.ndarray]:
    """The table of a pack, of which each row is of a clip that lies in the pack."""
    try:
        table = read_npz(path)
        rows = len(table["length"])
        whole = all(table[key].shape == (rows,) for key in _COLUMNS) and all(table[key].ndim == 1 for key in _VALUES)
        for key, names in (("speaker", "speaker_names"), ("source", "source_names")):
            whole = whole and rows > 0 and 0 <= table[key].min() <= table[key].max() < len(table[names])
        for key in TABLES:
            whole = whole and table[f"{key}_length"].min() >= 0 and table[f"{key}_length"].sum() == len(table[key])
        sounds = path.with_suffix(".opus")
        open_regular(sounds).close()
        if not whole or table["length"].min() < 0 or table["length"].sum() != sounds.stat().st_size:
            raise ValueError("its columns do not fit one another, or its sounds")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise ManifestError(f"{path} is damaged ({reason}): pack it again") from error
    return table


def _decoded(job: tuple[Path, list[tuple[int, int]]]) -> list[tuple[np.ndarray, int]]:
    import soundfile as sf

    path, spans = job
    clips = []
    with path.open("rb") as file:
        for offset, length in spans:
            file.seek(offset)
            try:
                clips.append(sf.read(io.BytesIO(file.read(length)), dtype="int16"))
            except sf.SoundFileError:  # libsndfile refuses clips of a single page: too short to be of use
                clips.append((np.zeros(0, np.int16), OPUS_RATES[-1]))
    return clips
