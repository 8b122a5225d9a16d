"""What is measured of a clip, each measure optional and named; and what becomes of it: figures with their intervals.

A measure gives a row of values for a clip; a figure is a ratio of two of them, each summed over clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from chelys.audio.rates import OUTPUT_RATE
from chelys.audio.recognition import Recogniser
from chelys.errors import TextError, UserError
from chelys.evaluation import copies, listening
from chelys.evaluation.clvp_reader import ClvpReader
from chelys.evaluation.speaking import JudgedClip, samples
from chelys.evaluation.statistics import Comparison, Interval, compare, interval
from chelys.evaluation.words import compare_words, is_cut, listen, plain, runs_away, sentences_astray
from chelys.text.split import split

#: Seconds of a reference that is long enough for two halves to be compared.
_HALVED = 3.2
#: Sentences of a text in which lost and repeated ones are looked for.
_SEVERAL = 3


class Figure(NamedTuple):
    """A figure: the sum of a row's value over clips, over the sum of another."""

    name: str
    title: str  # in tables
    better: str  # ``lower``, ``higher``, or empty where neither is
    top: str  # value of a row; a clip without it does not count
    bottom: str = ""  # value it is divided by; empty: one for each clip, so that the figure is their mean


FIGURES = (
    Figure("wer", "word error rate", "lower", "errors", "words"),
    Figure("cer", "character error rate, mean of clips", "lower", "cer"),
    Figure("wrong", "clips with a wrong word", "lower", "wrong"),
    Figure("lost", "lost words", "lower", "deleted", "words"),
    Figure("doubled", "doubled words", "lower", "doubled", "words"),
    Figure("added", "added words", "lower", "added", "words"),
    Figure("cut", "cut ends", "lower", "cut"),
    Figure("run_away", "run-away ends", "lower", "run_away"),
    Figure("sentences_lost", "lost sentences", "lower", "sentences_lost", "sentences"),
    Figure("sentences_repeated", "repeated sentences", "lower", "sentences_repeated", "sentences"),
    Figure("similarity", "speaker similarity", "higher", "similarity"),
    Figure("similarity_ceiling", "its ceiling: halves of one reference", "", "similarity_ceiling"),
    Figure("similarity_floor", "its floor: the other voices' references", "", "similarity_floor"),
    Figure("identified", "own voice most similar of all", "higher", "identified"),
    Figure("mos", "naturalness, Distill-MOS", "higher", "mos"),
    Figure("dnsmos", "noise, DNSMOS overall", "higher", "dnsmos"),
    Figure("clvp_cosine", "CLVP: cosine of text and speech", "higher", "clvp_cosine"),
    Figure("clvp_likelihood", "CLVP: nats an id of the text", "higher", "clvp_likelihood"),
    Figure("mel_db", "log-mel error, dB", "lower", "mel_db"),
    Figure("pitch_cents", "pitch error, cents", "lower", "pitch_cents"),
    Figure("voicing", "frames voiced in one alone", "lower", "voicing"),
    Figure("rate", "seconds a character", "", "rate"),
    Figure("real_time_factor", "real-time factor", "lower", "synthesis_seconds", "seconds"),
)


@dataclass(frozen=True)
class Settings:
    """What measures are made of."""

    whisper: str = "base"  # see ``listening.load_recogniser``
    clvp: str = "nano"  # model whose VQ-VAE and CLVP score
    recogniser: Recogniser | None = None  # in place of Whisper


class ClipMeasure(Protocol):
    """Measures one clip after another."""

    def of(self, clip: JudgedClip) -> dict[str, Any]:
        """Values of a row; none where the clip cannot be measured."""
        ...


class _Recognised:
    def __init__(self, settings: Settings, clips: Sequence[JudgedClip]) -> None:
        plain("")  # raises where the rules are missing, before anything is loaded
        compare_words("a", "a")
        self._recogniser = settings.recogniser or listening.load_recogniser(settings.whisper)

    def of(self, clip: JudgedClip) -> dict[str, Any]:
        audio = clip.samples(listening.RATE)
        if not plain(clip.text):  # nothing but punctuation
            return {}
        words = listen(self._recogniser, audio, clip.text)
        seconds, characters = len(audio) / listening.RATE, len(clip.text)
        row = asdict(words) | {
            "words": words.words, "errors": words.errors, "added": words.inserted - words.doubled,
            "wrong": int(words.errors > 0), "cut": int(is_cut(words, seconds, characters)),
            "run_away": int(runs_away(words, seconds, characters)),
        }  # fmt: skip
        sentences = [plain(piece.text) for piece in split(clip.text, max_chars=len(clip.text))]
        if len(sentences) >= _SEVERAL:
            lost, repeated = sentences_astray([one for one in sentences if one], words.transcript)
            row |= {"sentences": len(sentences), "sentences_lost": len(lost), "sentences_repeated": len(repeated)}
        return row


class _Similarity:
    def __init__(self, settings: Settings, clips: Sequence[JudgedClip]) -> None:
        references = list(dict.fromkeys(clip.reference for clip in clips if clip.reference is not None))
        if not references:
            raise UserError("no clip has a reference, a recording of its voice")
        encoder = listening.SpeakerEncoder()
        self._encoder = encoder
        self._places = {reference: place for place, reference in enumerate(references)}
        recordings = [samples(reference, listening.RATE) for reference in references]
        self._embeddings = np.stack([encoder(audio) for audio in recordings])
        self._ceilings = [
            float(encoder(audio[: len(audio) // 2]) @ encoder(audio[len(audio) // 2 :]))
            if len(audio) >= _HALVED * listening.RATE
            else None
            for audio in recordings
        ]

    def of(self, clip: JudgedClip) -> dict[str, Any]:
        if clip.reference is None:
            return {}
        place = self._places[clip.reference]
        cosines = self._embeddings @ self._encoder(clip.samples(listening.RATE))
        row: dict[str, Any] = {"similarity": float(cosines[place]), "similarity_ceiling": self._ceilings[place]}
        if len(cosines) > 1:
            row["similarity_floor"] = float(np.delete(cosines, place).mean())
            row["identified"] = int(cosines.argmax() == place)
        return row


class _Rated:
    """One figure of a listener that hears a clip by itself."""

    def __init__(self, name: str, make: Callable[[], Callable[[np.ndarray], float]]) -> None:
        self._name, self._listener = name, make()

    def of(self, clip: JudgedClip) -> dict[str, Any]:
        return {self._name: self._listener(clip.samples(listening.RATE))}


class _Agreement:
    def __init__(self, settings: Settings, clips: Sequence[JudgedClip]) -> None:
        self._reader = load_reader(settings.clvp)

    def of(self, clip: JudgedClip) -> dict[str, Any]:
        try:
            found = self._reader.agreement(clip.samples(OUTPUT_RATE), OUTPUT_RATE, clip.text)
        except TextError:
            found = None
        return {} if found is None else {"clvp_cosine": found[0], "clvp_likelihood": found[1]}


class _Copy:
    def __init__(self, settings: Settings, clips: Sequence[JudgedClip]) -> None:
        if not any(clip.original for clip in clips):
            raise UserError("no clip has an original that it is a copy of")
        copies.pitch_errors(np.zeros(OUTPUT_RATE, np.float32), np.zeros(OUTPUT_RATE, np.float32))  # raises MissingExtra

    def of(self, clip: JudgedClip) -> dict[str, Any]:
        if clip.original is None:
            return {}
        copy, original = clip.samples(OUTPUT_RATE), samples(clip.original, OUTPUT_RATE)
        if not copies.same_length(copy, original):
            return {}
        pitch, voicing = copies.pitch_errors(copy, original)
        return {"mel_db": copies.log_mel_error(copy, original), "pitch_cents": pitch, "voicing": voicing}


@lru_cache(1)
def load_reader(model: str) -> ClvpReader:
    """The CLVP of this process, loaded once."""
    return ClvpReader(model)


MEASURES: dict[str, Callable[[Settings, Sequence[JudgedClip]], ClipMeasure]] = {
    "words": _Recognised,
    "voice": _Similarity,
    "naturalness": lambda settings, clips: _Rated("mos", listening.Naturalness),
    "noise": lambda settings, clips: _Rated("dnsmos", listening.Noise),
    "clvp": _Agreement,
    "copy": _Copy,
}


def check_names(names: Sequence[str] | None) -> None:
    """Raise UserError if one of the names is no measure."""
    for name in names or ():
        if name not in MEASURES:
            raise UserError(f"no measure {name!r}: choose from {', '.join(MEASURES)}")


def choose(
    names: Sequence[str] | None, settings: Settings, clips: Sequence[JudgedClip]
) -> tuple[dict[str, ClipMeasure], dict[str, str]]:
    """The measures of these names; or all that can be taken, and why others cannot.

    Raises UserError if one is unknown, or was asked for by its name and cannot be taken.
    """
    chosen: dict[str, ClipMeasure] = {}
    left_out: dict[str, str] = {}
    check_names(names)
    for name in names or MEASURES:
        try:
            chosen[name] = MEASURES[name](settings, clips)
        except UserError as error:
            if names:
                raise UserError(f"{name} cannot be measured: {error}") from error
            left_out[name] = str(error)
    return chosen, left_out


def measure(clip: JudgedClip, measures: Mapping[str, ClipMeasure]) -> dict[str, Any]:
    """A row: what the clip is, and all values."""
    seconds = len(clip.samples(listening.RATE)) / listening.RATE
    row: dict[str, Any] = {
        "audio": str(clip.audio), "text": clip.text, "voice": clip.voice, "kind": clip.kind, "seconds": seconds,
        "characters": len(clip.text), "rate": seconds / max(1, len(clip.text)), "measures": list(measures),
    }  # fmt: skip
    if clip.synthesis_seconds is not None:
        row["synthesis_seconds"] = clip.synthesis_seconds
    for one in measures.values():
        row |= one.of(clip)
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}


# ---- figures --------------------------------------------------------------------------------------------------------


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Interval, int]]:
    """Each figure that some rows have values for, with its interval over texts, and the number of clips."""
    found = {}
    for figure in FIGURES:
        sums = _sums(figure, rows)
        top, bottom = (np.array([pair[i] for pair in sums.values()]) for i in (0, 1))
        if sums and bottom.sum() > 0:
            found[figure.name] = interval(top, bottom), sum(row.get(figure.top) is not None for row in rows)
    return found


def comparisons(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> dict[str, Comparison]:
    """Each figure that rows of two models have, on the clips that both have: the same text in the same voice.

    Where they share no voice, texts alone are paired. Raises UserError if they share no text.
    """
    keys = [{(row["text"], row["voice"]) for row in rows} for rows in (first, second)]
    shared: set[Any] = keys[0] & keys[1]
    if shared:
        one, other = ([row for row in rows if (row["text"], row["voice"]) in shared] for rows in (first, second))
    else:
        texts = {text for text, _ in keys[0]} & {text for text, _ in keys[1]}
        one, other = ([row for row in rows if row["text"] in texts] for rows in (first, second))
    if not one:
        raise UserError("the two have no text in common")
    found = {}
    for figure in FIGURES:
        sums = _sums(figure, one), _sums(figure, other)
        texts_of_both = [text for text in sums[0] if text in sums[1]]
        pairs = [tuple(np.array([of[text][i] for text in texts_of_both]) for i in (0, 1)) for of in sums]
        if texts_of_both and all(bottom.sum() > 0 for _, bottom in pairs):
            found[figure.name] = compare(pairs[0], pairs[1])  # type: ignore[arg-type]
    return found


def _sums(figure: Figure, rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Text to the sums of its clips."""
    sums: dict[str, tuple[float, float]] = {}
    for row in rows:
        top = row.get(figure.top)
        bottom = row.get(figure.bottom) if figure.bottom else 1
        if top is not None and bottom is not None:
            before = sums.get(row["text"], (0.0, 0.0))
            sums[row["text"]] = before[0] + top, before[1] + bottom
    return sums


def latents(paths: Sequence[Path], model: str, progress: Callable[[int, int], object] | None = None) -> np.ndarray:
    """CLVP's speech latents ``(n, d)`` of audio files; those too short or long for it are left out."""
    reader, found = load_reader(model), []
    for done, path in enumerate(paths, 1):
        latent = reader.latent(samples(path, OUTPUT_RATE), OUTPUT_RATE)
        if latent is not None:
            found.append(latent)
        if progress is not None:
            progress(done, len(paths))
    return np.stack(found) if found else np.zeros((0, 1))
