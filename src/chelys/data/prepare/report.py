"""The report of a preparation: ``report.html`` and ``data_card.md``, from one pass over the metadata.

The page is one file without scripts that loads nothing; all names and texts are escaped.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from chelys.audio.io import data_url, decode
from chelys.data.prepare.metadata import ClipMetadata, RecordingMetadata, Statistics, read_clips, read_recordings
from chelys.errors import ManifestError, MissingExtra, TextError
from chelys.files import output_errors, read_text, write_bytes
from chelys.parsing import MAX_JSON, parse_json
from chelys.text.normalize import normalize

log = logging.getLogger(__name__)

PAGE = "report.html"
CARD = "data_card.md"
UNKNOWN = "unknown"
_SAMPLE = 100_000  # values of a measurement; a histogram of more looks the same
_LISTED = 200  # unreadable recordings
_SPEAKERS, _CARD_LINES = 30, 20
_UNITS = {"seconds": "s", "loudness_db": "dB", "bandwidth_hz": "Hz", "snr_db": "dB", "reverberation_s": "s"}
_WIDTH, _HEIGHT, _FOOT, _BARS = 320, 120, 18, 40


class Report(NamedTuple):
    """Paths of the page and of the data card, and what they say."""

    page: Path
    card: Path
    summary: CorpusSummary


class Values:
    """Values of a measurement: all of them, or a uniform sample of very many."""

    def __init__(self, seed: int = 0) -> None:
        self.count = 0
        self._sum = 0.0
        self._values: list[float] = []
        self._rng = np.random.default_rng(seed)

    def add(self, value: float) -> None:
        self.count += 1
        self._sum += value
        if len(self._values) < _SAMPLE:
            self._values.append(value)
        elif (place := int(self._rng.integers(self.count))) < _SAMPLE:  # Vitter (1985), algorithm R
            self._values[place] = value

    @property
    def mean(self) -> float:
        return self._sum / max(1, self.count)

    def array(self) -> np.ndarray:
        return np.array(self._values)


@dataclass
class CorpusSummary:
    """What became of the recordings."""

    statistics: Statistics = field(default_factory=Statistics)  # counts
    #: measurement -> its values among kept clips; ``seconds`` and ``confidence`` too
    kept: dict[str, Values] = field(default_factory=dict)
    dropped: dict[str, Values] = field(default_factory=dict)  # the same of the others
    hours_of_speaker: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # of kept clips
    hours_of_licence: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # of kept clips
    #: of dropped clips; a clip counts under each of its reasons
    hours_of_reason: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    unreadable: list[RecordingMetadata] = field(default_factory=list)  # some of the recordings that could not be read
    sample: list[ClipMetadata] = field(default_factory=list)  # random kept clips, to listen to
    doubtful: list[ClipMetadata] = field(default_factory=list)  # kept clips with the least confident transcripts
    words: int = 0  # in the transcripts of kept clips
    errors: TranscriptErrors | None = None  # against references, if there are some

    @property
    def speakers(self) -> int:
        return len(self.hours_of_speaker.keys() - {UNKNOWN})

    def count(self, clip: ClipMetadata, seed: int) -> None:
        self.statistics.clip(clip)
        hours = clip.seconds / 3600
        if clip.kept:
            self.hours_of_speaker[clip.speaker or UNKNOWN] += hours
            self.hours_of_licence[clip.licence or UNKNOWN] += hours
            self.words += len((clip.text or "").split())
        else:
            for reason in clip.reasons:
                self.hours_of_reason[reason] += hours
        group = self.kept if clip.kept else self.dropped
        for name, value in {"seconds": clip.seconds, "confidence": clip.confidence, **clip.measured}.items():
            if isinstance(value, int | float) and np.isfinite(value):
                group.setdefault(name, Values(seed)).add(float(value))


def summarize(out: Path, *, references: Path | None = None, clips: int = 20, seed: int = 1) -> CorpusSummary:
    """Read the metadata of a preparation; which clips are in the random sample depends on the seed and on their ids."""
    summary = CorpusSummary()
    given = None if references is None else read_references(references)
    sources = []
    for recording in read_recordings(out):
        summary.statistics.recording(recording)
        sources.append(recording.source)
        if recording.status != "read" and len(summary.unreadable) < _LISTED:
            summary.unreadable.append(recording)
    texts: dict[str, list[str]] = defaultdict(list)
    kept: dict[str, list[str]] = defaultdict(list)
    sample: list[tuple[float, str, ClipMetadata]] = []
    doubtful: list[tuple[float, str, ClipMetadata]] = []
    for clip in read_clips(out):
        summary.count(clip, seed)
        if given is not None and clip.text:
            texts[clip.source].append(clip.text)
            if clip.kept:
                kept[clip.source].append(clip.text)
        if clip.kept:
            number = int.from_bytes(hashlib.sha256(f"{seed}:{clip.id}".encode(errors="replace")).digest()[:8], "big")
            _keep_smallest(sample, number, clip, clips)
            if clip.confidence is not None:
                _keep_smallest(doubtful, clip.confidence, clip, clips)
    heaps = (sorted(heap, key=lambda row: (-row[0], row[1])) for heap in (sample, doubtful))
    summary.sample, summary.doubtful = ([clip for *_, clip in heap] for heap in heaps)
    if given is not None:
        of_kept, of_all = ({source: " ".join(parts) for source, parts in found.items()} for found in (kept, texts))
        summary.errors = compare(sources, of_kept, of_all, given)
    return summary


def _keep_smallest(heap: list[tuple[float, str, ClipMetadata]], value: float, clip: ClipMetadata, count: int) -> None:
    row = (-value, clip.id, clip)
    if len(heap) < count:
        heapq.heappush(heap, row)
    elif heap:
        heapq.heappushpop(heap, row)


def write_report(out: Path, *, references: Path | None = None, clips: int = 20, seed: int = 1) -> Report:
    """Write page and card of what ``chelys data prepare`` wrote, with so many random ``clips`` in the page.

    Raises ManifestError if there is no metadata, or the references name none of its recordings; OutputError if the
    folder cannot be written to.
    """
    summary = summarize(out, references=references, clips=clips, seed=seed)
    report = Report(out / PAGE, out / CARD, summary)
    for path, text in ((report.page, _page(summary, out)), (report.card, _card(summary, out))):
        with output_errors(path):
            write_bytes(path, text.encode("utf8", "backslashreplace"))  # names of files need not be UTF-8
    return report


def _render(template: str, **values: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("chelys.data.prepare", ""), autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["plain"] = plain
    return environment.get_template(template).render(**values)


def _page(summary: CorpusSummary, out: Path) -> str:
    counts, errors, hours = summary.statistics, summary.errors, summary.hours_of_reason
    return _render(
        "report.html.j2",
        name=out.resolve().name,
        summary=summary,
        figures={
            "hours recorded": f"{counts.recorded_seconds / 3600:.2f}",
            "hours kept": f"{counts.kept_seconds / 3600:.2f}",
            "recordings": counts.recordings, "unreadable": counts.unreadable, "clips": counts.clips,
            "clips kept": counts.kept, "named speakers": summary.speakers, "words": summary.words,
        },
        errors=errors and [(what, e.recordings, e.words, e.wrong, f"{e.rate:.3f}") for what, e in (
            ("kept clips", errors.kept), ("all transcripts", errors.transcribed),
            ("all recordings; without a transcript every word is wrong", errors.all),
        )],
        worst=errors and [
            (one.source, one.reference[:500], one.hypothesis[:500], f"{one.wrong}/{one.words}") for one in errors.worst
        ],
        reasons=[(r, count, f"{hours.get(r, 0.0):.2f}") for r, count in counts.reasons.most_common()],
        histograms=[
            histogram(re.sub(r"_(db|hz|s)$", "", name).replace("_", " "),
                      summary.kept.get(name, Values()).array(), summary.dropped.get(name, Values()).array(),
                      _UNITS.get(name, ""))
            for name in dict.fromkeys([*summary.kept, *summary.dropped])
        ],
        licences=_ranked(summary.hours_of_licence, _SPEAKERS),
        speakers=_ranked(summary.hours_of_speaker, _SPEAKERS),
        sound_of=lambda clip: _sound(clip, out),
        unreadable=[(r.source, r.reason or "") for r in summary.unreadable],
        more_unreadable=counts.unreadable - len(summary.unreadable),
    )  # fmt: skip


def _card(summary: CorpusSummary, out: Path) -> str:
    confidence = summary.kept.get("confidence")
    text = _render(
        "data_card.md.j2",
        name=out.resolve().name,
        summary=summary,
        counts=summary.statistics,
        licences=_ranked(summary.hours_of_licence, _CARD_LINES),
        speakers=_ranked(summary.hours_of_speaker, _CARD_LINES),
        reasons=summary.hours_of_reason and _ranked(summary.hours_of_reason, _CARD_LINES),
        confidence=None if confidence is None else confidence.mean,
        found=summary.errors,
    )
    return text.rstrip() + "\n"


def _ranked(hours: Mapping[str, float], most: int) -> tuple[list[tuple[str, str]], tuple[int, float] | None]:
    """The largest with their hours, and number and hours of the rest."""
    ranked = sorted(hours.items(), key=lambda pair: (-pair[1], pair[0]))
    rest = ranked[most:]
    shown = [(name, f"{value:.2f}") for name, value in ranked[:most]]
    return shown, (len(rest), sum(value for _, value in rest)) if rest else None


def histogram(title: str, kept: np.ndarray, dropped: np.ndarray, unit: str = "") -> dict[str, Any]:
    """Bars of two groups of values ``(n,)``, dropped above kept; the outermost 0.5 % of each side is at the edge."""
    values = np.concatenate([kept, dropped])
    low, high = (float(edge) for edge in np.percentile(values, [0.5, 99.5])) if len(values) else (0.0, 1.0)
    if high <= low:
        low, high = low - 0.5, low + 0.5
    edges = np.linspace(low, high, _BARS + 1)
    groups = {"kept": kept, "dropped": dropped}
    counts = {name: np.histogram(np.clip(group, low, high), edges)[0] for name, group in groups.items()}
    most = max(1, int((counts["kept"] + counts["dropped"]).max()))
    bars = []
    for place in range(_BARS):
        top = float(_HEIGHT)
        for name, group in counts.items():
            height = group[place] / most * _HEIGHT
            top -= height
            if height:
                bars.append((name, place * _WIDTH / _BARS, top, height))
    ticks = [
        (x, anchor, f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}")
        for x, anchor, value in ((0, "start", low), (_WIDTH / 2, "middle", (low + high) / 2), (_WIDTH, "end", high))
    ]
    return {"label": f"{title} ({unit})" if unit else title, "bars": bars, "ticks": ticks, "bar": _WIDTH / _BARS - 1,
            "width": _WIDTH, "height": _HEIGHT, "foot": _FOOT}  # fmt: skip


def _sound(clip: ClipMetadata, out: Path) -> str:
    """The clip's sound as a data URL, so that the page can be sent by itself; or why there is none."""
    try:
        if clip.audio is None:
            return "none"
        path = (out / clip.audio).resolve()
        if not path.is_relative_to(out.resolve()):  # metadata from elsewhere must not show files of this machine
            return "outside"
        return data_url(*decode(path, start=clip.audio_start, end=clip.audio_end))
    except (OSError, ValueError) as error:
        log.warning("no sound of %s in the report: %s", clip.id, error)
        return "cannot be read"


def plain(text: str) -> str:
    """A name as Markdown shows it: on one line, with its special characters escaped."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|&~$:@-])", r"\\\1", " ".join(text.split()))


# ---- reference transcripts ------------------------------------------------------------------------------------------
# A file of references has a line for each recording: ``name: text``, ``name|text`` or ``name<TAB>text`` (lines that
# begin with ``;`` or ``#`` are comments), or JSON with ``source``, ``audio``, ``file_name`` or ``id`` and ``text``. A
# name means the recording of that path in RAW, with or without suffix and folders. jiwer counts word
# error rates.

_NAMES = ("source", "audio", "file_name", "id")


@dataclass(frozen=True)
class WordErrors:
    """Number of recordings compared, words in their references, and wrong ones: substituted, deleted, inserted."""

    recordings: int = 0
    words: int = 0
    wrong: int = 0

    @property
    def rate(self) -> float:
        return self.wrong / max(1, self.words)

    def plus(self, words: int, wrong: int) -> WordErrors:
        return WordErrors(self.recordings + 1, self.words + words, self.wrong + wrong)


@dataclass(frozen=True)
class RecordingErrors:
    """One recording: its reference, the transcripts of its clips, words in the reference and wrong words."""

    source: str
    reference: str
    hypothesis: str
    words: int
    wrong: int


@dataclass(frozen=True)
class TranscriptErrors:
    """Quality of the transcripts."""

    kept: WordErrors  # of recordings with a kept clip, by their kept clips
    transcribed: WordErrors  # of recordings with any transcript, by all their transcripts
    all: WordErrors  # of all recordings with a reference; without a transcript every word is wrong
    worst: list[RecordingErrors]  # the kept ones with the highest rates


def read_references(path: Path) -> dict[str, str]:
    """Name without suffix -> text. Raises ManifestError if the file cannot be read or holds no transcript."""
    try:
        lines = read_text(path, MAX_JSON).removeprefix("\ufeff").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"cannot read references from {path}: {error}") from error
    pairs = [_json_pair(line) if path.suffix == ".jsonl" else _plain_pair(line) for line in lines]
    found = {name: " ".join(text.split()) for name, text in pairs if name and text.strip()}
    for name in list(found):  # 'a.b' may be the recording 'a.b.wav' or 'a.b'
        found.setdefault(_stem(name), found[name])
    if not found:
        raise ManifestError(f"{path} holds no transcript: write a line 'name: text' for each recording")
    return found


def _json_pair(line: str) -> tuple[str, str]:
    try:
        entry = parse_json(line)
        return str(next((entry[key] for key in _NAMES if entry.get(key)), "")), str(entry.get("text") or "")
    except (ValueError, AttributeError):
        return "", ""


def _plain_pair(line: str) -> tuple[str, str]:
    if line.lstrip().startswith((";", "#")):
        return "", ""
    name, mark, text = re.match(r"([^\t|:]*)([\t|:]?)(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]
    if mark == "|":  # LJSpeech's third column is the text with figures spelled out
        text = next((cell for cell in reversed(text.split("|")) if cell.strip()), "")
    return name.strip(), text


def _stem(name: str) -> str:
    """A path without its suffix; a dot in a name without one does not begin a suffix."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if re.fullmatch(r"\.\w{1,5}", path.suffix) else str(path)


def find_reference(source: str, references: Mapping[str, str]) -> str | None:
    """The reference of a recording, by its whole path or the end of it."""
    stem = PurePosixPath(_stem(source))
    return next((t for first in range(len(stem.parts)) if (t := references.get("/".join(stem.parts[first:])))), None)


def compare(
    sources: Iterable[str], kept: Mapping[str, str], transcribed: Mapping[str, str], references: Mapping[str, str]
) -> TranscriptErrors:
    """Compare transcripts with references.

    ``kept`` and ``transcribed`` give for a recording the joined transcripts of its kept clips, and of all its clips.
    Raises ManifestError if no recording has a reference; MissingExtra if jiwer is not installed.
    """
    of_kept = of_transcribed = of_all = WordErrors()
    compared = []
    for source in sources:
        reference = find_reference(source, references)
        if reference is None or not (words := len(spoken_words(reference))):
            continue
        wrong = word_errors(reference, transcribed.get(source, ""))
        of_all = of_all.plus(words, wrong)
        if source in transcribed:
            of_transcribed = of_transcribed.plus(words, wrong)
        if source in kept:
            wrong = word_errors(reference, kept[source])
            of_kept = of_kept.plus(words, wrong)
            compared.append(RecordingErrors(source, reference, kept[source], words, wrong))
    if not of_all.recordings:
        raise ManifestError("none of the references names a recording: names are paths in RAW, with or without suffix")
    compared.sort(key=lambda one: (-one.wrong / one.words, one.source))
    return TranscriptErrors(of_kept, of_transcribed, of_all, [one for one in compared[:20] if one.wrong])


def spoken_words(text: str) -> list[str]:
    """Words as they are spoken: figures spelled out, in lower case, without punctuation."""
    try:
        text = normalize(text).text
    except TextError:
        pass
    return re.sub(r"[^\w\s']", " ", text.casefold().replace("'", "")).split()


def word_errors(reference: str, hypothesis: str) -> int:
    """Smallest number of words to substitute, delete and insert."""
    try:
        import jiwer
    except ImportError as error:
        raise MissingExtra("prepare", error) from error
    found = jiwer.process_words(" ".join(spoken_words(reference)), " ".join(spoken_words(hypothesis)))
    return found.substitutions + found.deletions + found.insertions
