"""Check a manifest: ``chelys data check`` reads every line and the audio of every clip.

What is wrong is listed clip by clip, and a manifest without the bad clips can be written. Nothing is repaired by guess.

n samples.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chelys.audio.io import MIN_CLIP_PEAK, MIN_CLIP_RMS, centered
from chelys.audio.stream import open_audio
from chelys.data.manifest import Utterance, fault_of, numbered_entries
from chelys.deprecation import renamed_arguments
from chelys.errors import AudioError, ManifestError, TextError, UserError
from chelys.files import output_file
from chelys.machine import available_cores, worker_pool
from chelys.parsing import ParseError
from chelys.text.normalize import check_speakable, normalize

#: Kinds of faults, in the order of the table.
KINDS: dict[str, str] = {
    "malformed": "not a manifest line",
    "missing": "there is no such file",
    "corrupt": "not audio, damaged, cut short, or shorter than the clip",
    "silent": "no sound",
    "too short": "shorter than --min-seconds",
    "too long": "longer than --max-seconds",
    "clipped": "many samples at the ceiling",
    "wrong rate": "sampled at less than --rate",
    "wrong seconds": "the manifest says another length",
    "repeated id": "the id of an earlier line",
    "repeated audio": "the sound of an earlier clip",
    "repeated text": "a text that its speaker had before",
    "misfit": "too many or too few words for the time: perhaps another clip's text",
    "unspeakable": "a text that cannot be spoken",
}


@renamed_arguments(shortest="min_seconds", longest="max_seconds")
@dataclass(frozen=True)
class CheckLimits:
    """What is allowed."""

    min_seconds: float = 0.6  # seconds of the shortest clip (0.6 to 20 are what ``chelys data prepare`` cuts)
    max_seconds: float = 20.0  # seconds of the longest clip
    rate: int = 22_050  # lowest sample rate, Hz; 22.05 kHz is what codes are made of
    clipping: float = 0.005  # largest share of samples within 1 % of the peak
    allowed: frozenset[str] = frozenset()  # kinds of faults to ignore

    def __post_init__(self) -> None:
        if not 0 <= self.min_seconds < self.max_seconds:
            span = f"{self.min_seconds:g} to {self.max_seconds:g} s"
            raise UserError(f"clips of {span}: the shortest must be below the longest")
        if unknown := sorted(self.allowed - set(KINDS)):
            raise UserError(f"unknown kind of fault {unknown[0]!r}: choose from {', '.join(KINDS)}")


@dataclass
class ManifestLine:
    """A line of the manifest and what is wrong with it."""

    number: int  # from 1
    utterance: Utterance | None  # None if the line is malformed; its audio is an absolute path
    entry: dict[str, Any] = field(default_factory=dict)  # the line as it is, with keys that chelys does not know
    faults: dict[str, str] = field(default_factory=dict)  # kind -> one line of detail
    analysis: ClipAnalysis | None = None  # measurements of the clip


@dataclass(frozen=True)
class CheckResult:
    """Result of a check."""

    path: Path  # of the manifest
    lines: list[ManifestLine]  # all of them

    @property
    def bad(self) -> list[ManifestLine]:
        return [line for line in self.lines if line.faults]

    def counts(self) -> dict[str, int]:
        found = Counter(kind for line in self.lines for kind in line.faults)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def write_bad(self, path: Path) -> None:
        """Write the list of bad lines, a JSON object a line; without bad lines there is no file."""
        if not self.bad:
            path.unlink(missing_ok=True)
            return
        with output_file(path) as file:
            for line in self.bad:
                known = {} if line.utterance is None else {"id": line.utterance.id, "audio": line.utterance.audio}
                file.write((json.dumps({"line": line.number, **known, "faults": line.faults}) + "\n").encode())

    def write_good(self, path: Path) -> None:
        """Write a manifest of the lines without a fault, anywhere. Raises ManifestError if no line is left."""
        good = [line for line in self.lines if not line.faults]
        if not good:
            raise ManifestError(f"no clip of {self.path} is without a fault: nothing is left to write to {path}")
        path.parent.mkdir(parents=True, exist_ok=True)
        here, there = (os.path.realpath(p.parent) for p in (self.path, path))
        with output_file(path) as file:
            for line in good:
                entry = dict(line.entry)
                if not os.path.isabs(entry["audio"]) and here != there:
                    entry["audio"] = os.path.relpath(os.path.join(here, entry["audio"]), there)
                file.write((json.dumps(entry, ensure_ascii=False) + "\n").encode())


def check(
    path: Path,
    limits: CheckLimits | None = None,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckResult:
    """Check a manifest and all clips in it; ``progress`` gets (files done, files in all).

    Raises ManifestError if there is no manifest, or nothing in it.
    """
    limits = limits or CheckLimits()
    lines = list(_read(path))
    if not lines:
        raise ManifestError(f"{path} is empty: a manifest has a line of JSON for each clip")
    _analyse_audio(lines, limits, workers or available_cores(), progress)
    for line in lines:
        _judge(line, limits)
    _find_repeats(lines)
    _find_misfits(lines)
    for line in lines:
        line.faults = {kind: line.faults[kind] for kind in KINDS if kind in line.faults and kind not in limits.allowed}
    return CheckResult(path, lines)


def _read(path: Path) -> Iterator[ManifestLine]:
    folder = path.parent.absolute()
    for number, entry in numbered_entries(path):
        fault = str(entry) if isinstance(entry, ParseError) else fault_of(entry)
        if fault:
            yield ManifestLine(number, None, faults={"malformed": fault})
            continue
        known = {key: value for key, value in entry.items() if key in Utterance.__dataclass_fields__}
        yield ManifestLine(number, Utterance(**{**known, "audio": str(folder / entry["audio"])}), entry)


def _analyse_audio(
    lines: list[ManifestLine],
    limits: CheckLimits,
    workers: int,
    progress: Callable[[int, int], None] | None,
    at_once: int = 1024,
) -> None:
    """Measure every clip, each file once; most manifests list the clips of a file together."""
    of_file: dict[str, list[ManifestLine]] = defaultdict(list)
    for line in lines:
        if line.utterance is not None:
            of_file[line.utterance.audio].append(line)
    done, rest = 0, iter(of_file.items())
    with worker_pool(workers) as pool:
        while some := list(islice(rest, at_once)):
            parts = ([FilePart(u.start, u.end) for line in its if (u := line.utterance)] for _, its in some)
            tasks = ((name, clips, limits.max_seconds) for (name, _), clips in zip(some, parts, strict=True))
            for (_, its), found in zip(some, pool.map(_analyse_file, tasks, chunksize=4), strict=True):
                for line, one in zip(its, found or (), strict=found is not None):
                    line.analysis = one
                done += 1
                if progress:
                    progress(done, len(of_file))


def _analyse_file(task: tuple[str, list[FilePart], float]) -> list[ClipAnalysis] | None:
    """None if there is no such file."""
    name, parts_of_file, most = task
    if "\0" in name or not os.path.exists(name):
        return None
    if not os.path.isfile(name):  # reading a pipe or a device could wait for ever
        return [ClipAnalysis("not a regular file")] * len(parts_of_file)
    return analyse(Path(name), parts_of_file, most)


def _judge(line: ManifestLine, limits: CheckLimits) -> None:
    """Find what is wrong with a clip by itself."""
    utterance, analysis, faults = line.utterance, line.analysis, line.faults
    if utterance is None:
        return
    try:
        check_speakable(utterance.text)
        normalize(utterance.text)
    except TextError as error:
        faults["unspeakable"] = " ".join(str(error).split())
    if analysis is None:
        faults["missing"] = utterance.audio
        return
    if analysis.fault:
        faults["corrupt"] = analysis.fault
        return
    if analysis.peak < MIN_CLIP_PEAK or analysis.level < MIN_CLIP_RMS:
        faults["silent"] = f"peak {analysis.peak:.1g} of full scale"
    elif analysis.clipping > limits.clipping:
        faults["clipped"] = f"{analysis.clipping:.2%} of the samples within 1 % of the peak"
    if analysis.seconds < limits.min_seconds:
        faults["too short"] = f"{analysis.seconds:.2f} s"
    if analysis.seconds > limits.max_seconds:
        faults["too long"] = f"more than {limits.max_seconds:g} s"
    elif abs(analysis.seconds - utterance.seconds) > max(0.1, 0.02 * analysis.seconds):
        faults["wrong seconds"] = f"{utterance.seconds:g} s in the manifest, {analysis.seconds:.2f} s in the file"
    if analysis.rate < limits.rate:
        faults["wrong rate"] = f"{analysis.rate} Hz"


def _find_repeats(lines: Iterable[ManifestLine]) -> None:
    """The first of several is no fault; a clip that is bad for another reason does not count as the first."""
    ids, sounds, texts = dict[str, int](), dict[bytes, int](), dict[bytes, int]()
    for line in lines:
        if line.utterance is None:
            continue
        bad = bool(line.faults)
        speaker, text = line.utterance.speaker, re.sub(r"\W+", " ", line.utterance.text).strip().casefold()
        spoken = hashlib.blake2b(f"{speaker}\0{text}".encode(errors="replace"), digest_size=16).digest()
        _note(line, "repeated id", ids, line.utterance.id, counts=True)
        if line.analysis is not None and line.analysis.digest and "silent" not in line.faults:
            _note(line, "repeated audio", sounds, line.analysis.digest, counts=not bad)
        if text:
            _note(line, "repeated text", texts, spoken, counts=not bad)


def _note(line: ManifestLine, kind: str, met: dict[Any, int], what: Any, *, counts: bool) -> None:
    if what in met:
        line.faults[kind] = f"as in line {met[what]}"
    elif counts:
        met[what] = line.number


#: Fewest and most letters in a second of any speaker.
_PACES = (3.0, 30.0)
_ENOUGH = 20  # clips from which a pace can be estimated


def _find_misfits(lines: Iterable[ManifestLine]) -> None:
    """Texts too long or too short for the time, by the pace of the speaker, of the corpus, or of any speaker."""
    counted = []
    for line in lines:
        unfit = {"corrupt", "silent", "too long", "unspeakable"} & set(line.faults)
        if line.utterance is not None and line.analysis and not unfit:
            letters = sum(map(str.isalpha, normalize(line.utterance.text).text))
            counted.append((line, line.utterance.speaker, letters, line.analysis.sounding))
    paces: dict[str, list[float]] = defaultdict(list)
    for _, speaker, letters, sounding in counted:
        if letters >= 15:
            paces[speaker].append(letters / sounding)
    known = {speaker: statistics.median(found) for speaker, found in paces.items() if len(found) >= _ENOUGH}
    everybody = [pace for found in paces.values() for pace in found]
    common = statistics.median(everybody) if len(everybody) >= _ENOUGH else None
    for line, speaker, letters, sounding in counted:
        pace = known.get(speaker, common)
        slow, fast = _PACES if pace is None else (pace / 1.6, pace * 1.6)
        # Half a second more, or a quarter less, is a pause or a breath, whatever the pace.
        if sounding > letters / slow + 0.5 or letters / fast - sounding > 0.25:
            usual = "" if pace is None else f", {pace:.0f} in a second are usual"
            line.faults["misfit"] = f"{letters} letters in {sounding:.2f} s{usual}"


# ---- audio ----------------------------------------------------------------------------------------------------------

_LOUD = 0.02  # of the peak; quieter ends of a clip count as silence


class FilePart(NamedTuple):
    """A clip of a file."""

    start: float  # where it begins (seconds)
    end: float | None  # where it ends; None is the file's end


@dataclass(frozen=True)
class ClipAnalysis:
    """Measurements of a clip."""

    fault: str | None  # why it cannot be read, or not all of it; None if it can
    seconds: float = 0.0  # length; of a clip that is longer than asked for, how much was read
    sounding: float = 0.0  # seconds from its first loud sample to its last
    peak: float = 0.0  # largest sample, of full scale
    level: float = 0.0  # root mean square
    clipping: float = 0.0  # share of the samples within 1 % of the largest
    rate: int = 0  # Hz
    digest: bytes = b""  # of the samples at 16 bits, so that copies in other lossless formats have the same


def analyse(path: Path, parts_of_file: list[FilePart], most: float) -> list[ClipAnalysis]:
    """Measure the clips of a file in one pass, in their order; of each at most ``most`` seconds and one are read."""
    gathered: list[list[np.ndarray]] = [[] for _ in parts_of_file]
    try:
        with open_audio(path) as stream:
            rate = stream.sample_rate
            bounds = []
            for part in parts_of_file:
                end = min(part.start + most + 1, math.inf if part.end is None else part.end)
                bounds.append((round(part.start * rate), round(end * rate)))
            read, last = 0, max(end for _, end in bounds)
            for block in stream.blocks():
                for (start, end), parts in zip(bounds, gathered, strict=True):
                    if start < read + len(block) and end > read:
                        parts.append(block[max(0, start - read) : end - read])
                read += len(block)
                if read >= last:
                    break
            damage = stream.damage
    except AudioError as error:
        return [ClipAnalysis(str(error))] * len(parts_of_file)
    except OSError as error:
        return [ClipAnalysis(error.strerror or str(error))] * len(parts_of_file)
    found = []
    for part, (_, end), parts in zip(parts_of_file, bounds, gathered, strict=True):
        samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        fault = damage if end > read else None
        if not len(samples):
            fault = fault or "holds no samples"
        elif part.end is not None and end - read > 0.1 * rate:
            fault = fault or f"the clip ends at {part.end:.2f} s, the file at {read / rate:.2f} s"
        found.append(_measure(samples, rate, fault))
    return found


def _measure(samples: np.ndarray, rate: int, fault: str | None) -> ClipAnalysis:
    if not len(samples):
        return ClipAnalysis(fault, rate=rate)
    if not np.isfinite(samples).all():
        return ClipAnalysis("holds samples that are not finite numbers", rate=rate)
    samples = centered(samples)
    size = np.abs(samples)
    peak = float(size.max())
    loud = np.flatnonzero(size >= _LOUD * peak)
    return ClipAnalysis(
        fault,
        seconds=len(samples) / rate,
        sounding=float(loud[-1] + 1 - loud[0]) / rate,
        peak=peak,
        level=float(np.sqrt(np.square(samples, dtype=np.float64).mean())),
        clipping=float((size >= 0.99 * peak).mean()),
        rate=rate,
        digest=hashlib.blake2b(np.round(samples * 32768).astype("<i4").tobytes(), digest_size=16).digest(),
    )
