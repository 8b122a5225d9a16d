"""Whether a manifest can be trusted: every line is read, every clip listened to.

What is found is listed clip by clip, and a manifest without the bad clips can be written. Nothing is repaired by guess.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from chelys.audio.io import MIN_CLIP_PEAK, MIN_CLIP_RMS
from chelys.data.check_audio import Heard, Piece, listen
from chelys.data.manifest import Utterance, fault_of
from chelys.errors import ManifestError, TextError, UserError
from chelys.files import output_file
from chelys.text.normalize import check_speakable, normalize

#: What can be wrong, in the order of the table.
KINDS: dict[str, str] = {
    "malformed": "the line is no utterance",
    "missing": "there is no such file",
    "corrupt": "not audio, damaged, cut short, or shorter than the clip",
    "silent": "nothing to hear",
    "too short": "shorter than --shortest",
    "too long": "longer than --longest",
    "clipped": "many samples at the ceiling",
    "wrong rate": "sampled at less than --rate",
    "wrong seconds": "the manifest says another length",
    "repeated id": "an id that was met before",
    "repeated audio": "sound that was met before",
    "repeated text": "a text that its speaker has said before",
    "misfit": "too many or too few words for the time: perhaps another clip's text",
    "unspeakable": "a text that cannot be spoken",
}


@dataclass(frozen=True)
class Limits:
    """What is allowed.

    Attributes:
        shortest: Seconds of the shortest clip (0.6 to 20 are what ``chelys data prepare`` cuts).
        longest: Seconds of the longest clip.
        rate: Lowest sample rate, Hz; 22.05 kHz is what codes are made of.
        clipping: Largest share of samples within 1 % of the peak.
        allowed: Kinds of faults that are no faults here.
    """

    shortest: float = 0.6
    longest: float = 20.0
    rate: int = 22_050
    clipping: float = 0.005
    allowed: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 0 <= self.shortest < self.longest:
            raise UserError(f"clips of {self.shortest:g} to {self.longest:g} s: the shortest must be below the longest")
        if unknown := sorted(self.allowed - set(KINDS)):
            raise UserError(f"unknown kind of fault {unknown[0]!r}: choose from {', '.join(KINDS)}")


@dataclass
class Line:
    """A line of the manifest and what is wrong with it.

    Attributes:
        number: From 1.
        utterance: None if the line is malformed; its audio is an absolute path.
        entry: The line as it is, with keys that chelys does not know.
        faults: Kind -> one line of detail.
        heard: What the clip sounds like.
    """

    number: int
    utterance: Utterance | None
    entry: dict[str, Any] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    heard: Heard | None = None


@dataclass(frozen=True)
class Checked:
    """A manifest that was checked.

    Attributes:
        path: Of the manifest.
        lines: All of them.
    """

    path: Path
    lines: list[Line]

    @property
    def bad(self) -> list[Line]:
        """Lines with a fault."""
        return [line for line in self.lines if line.faults]

    def counts(self) -> dict[str, int]:
        """How many lines have a fault of each kind."""
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
        """Write a manifest of the lines without a fault; it may lie in another folder.

        Raises:
            ManifestError: If no line is left.
        """
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
    path: Path, limits: Limits | None = None, *, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> Checked:
    """Check a manifest and all clips in it.

    Args:
        path: The manifest.
        limits: What is allowed.
        workers: Processes that listen.
        progress: Called with (files done, files in all).

    Raises:
        ManifestError: If there is no manifest, or nothing in it.
    """
    limits = limits or Limits()
    lines = list(_read(path))
    if not lines:
        raise ManifestError(f"{path} is empty: a manifest has a line of JSON for each clip")
    _listen(lines, limits, workers, progress)
    for line in lines:
        _judge(line, limits)
    _find_repeats(lines)
    _find_misfits(lines)
    for line in lines:
        line.faults = {kind: line.faults[kind] for kind in KINDS if kind in line.faults and kind not in limits.allowed}
    return Checked(path, lines)


def _read(path: Path) -> Iterator[Line]:
    if not path.is_file():
        raise ManifestError(f"no manifest at {path}")
    folder = path.parent.absolute()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line.decode("utf8"))
                fault = fault_of(entry)
            except (ValueError, RecursionError) as error:
                entry, fault = {}, "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"
            if fault:
                yield Line(number, None, faults={"malformed": fault})
                continue
            known = {key: value for key, value in entry.items() if key in Utterance.__dataclass_fields__}
            yield Line(number, Utterance(**{**known, "audio": str(folder / entry["audio"])}), entry)


def _listen(
    lines: list[Line], limits: Limits, workers: int, progress: Callable[[int, int], None] | None, at_once: int = 1024
) -> None:
    """Listen to every clip, each file once; clips of one file stand together in most manifests."""
    of_file: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line.utterance is not None:
            of_file[line.utterance.audio].append(line)
    done, rest = 0, iter(of_file.items())
    with ProcessPoolExecutor(workers) as pool:
        while some := list(islice(rest, at_once)):
            tasks = ((name, [_piece(line) for line in its], limits.longest) for name, its in some)
            for (_, its), heard in zip(some, pool.map(_listen_to, tasks, chunksize=4), strict=True):
                for line, one in zip(its, heard or (), strict=heard is not None):
                    line.heard = one
                done += 1
                if progress:
                    progress(done, len(of_file))


def _piece(line: Line) -> Piece:
    assert line.utterance is not None
    return Piece(line.utterance.start, line.utterance.end)


def _listen_to(task: tuple[str, list[Piece], float]) -> list[Heard] | None:
    """None if there is no such file."""
    name, pieces, most = task
    if "\0" in name or not os.path.exists(name):
        return None
    if not os.path.isfile(name):  # reading a pipe or a device could wait for ever
        return [Heard("not a regular file")] * len(pieces)
    return listen(Path(name), pieces, most)


def _judge(line: Line, limits: Limits) -> None:
    """Find what is wrong with a clip by itself."""
    utterance, heard, faults = line.utterance, line.heard, line.faults
    if utterance is None:
        return
    try:
        check_speakable(utterance.text)
        normalize(utterance.text)
    except TextError as error:
        faults["unspeakable"] = " ".join(str(error).split())
    if heard is None:
        faults["missing"] = utterance.audio
        return
    if heard.fault:
        faults["corrupt"] = heard.fault
        return
    if heard.peak < MIN_CLIP_PEAK or heard.level < MIN_CLIP_RMS:
        faults["silent"] = f"peak {heard.peak:.1g} of full scale"
    elif heard.clipping > limits.clipping:
        faults["clipped"] = f"{heard.clipping:.2%} of the samples within 1 % of the peak"
    if heard.seconds < limits.shortest:
        faults["too short"] = f"{heard.seconds:.2f} s"
    if heard.seconds > limits.longest:
        faults["too long"] = f"more than {limits.longest:g} s"
    elif abs(heard.seconds - utterance.seconds) > max(0.1, 0.02 * heard.seconds):
        faults["wrong seconds"] = f"{utterance.seconds:g} s in the manifest, {heard.seconds:.2f} s in the file"
    if heard.rate < limits.rate:
        faults["wrong rate"] = f"{heard.rate} Hz"


def _find_repeats(lines: Iterable[Line]) -> None:
    """The first of several is no fault; a clip that is bad for another reason does not count as the first."""
    ids: dict[str, int] = {}
    sounds: dict[bytes, int] = {}
    texts: dict[bytes, int] = {}
    for line in lines:
        if line.utterance is None:
            continue
        bad = bool(line.faults)
        speaker, text = line.utterance.speaker, re.sub(r"\W+", " ", line.utterance.text).strip().casefold()
        said = hashlib.blake2b(f"{speaker}\0{text}".encode(errors="replace"), digest_size=16).digest()
        _note(line, "repeated id", ids, line.utterance.id, counts=True)
        if line.heard is not None and line.heard.digest and "silent" not in line.faults:
            _note(line, "repeated audio", sounds, line.heard.digest, counts=not bad)
        if text:
            _note(line, "repeated text", texts, said, counts=not bad)


def _note(line: Line, kind: str, met: dict[Any, int], what: Any, *, counts: bool) -> None:
    if what in met:
        line.faults[kind] = f"as in line {met[what]}"
    elif counts:
        met[what] = line.number


#: Letters in a second that no speaker passes, and fewer than which none says.
_PACES = (3.0, 30.0)
_ENOUGH = 20  # clips from which a pace can be learnt


def _find_misfits(lines: Iterable[Line]) -> None:
    """Texts too long or too short for the time, by the pace of the speaker, of the corpus, or of mankind.

    Of clips of like lengths most swapped texts fit, and cannot be found this way.
    """
    counted = []
    for line in lines:
        if (
            line.utterance is not None
            and line.heard
            and not {"corrupt", "silent", "too long", "unspeakable"} & set(line.faults)
        ):
            letters = sum(map(str.isalpha, normalize(line.utterance.text).text))
            counted.append((line, line.utterance.speaker, letters, line.heard.sounding))
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
