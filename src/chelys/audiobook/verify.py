"""Is a take right? A verdict from what is built in, and from a recogniser where one is named.

Built in is CLVP's CTC reader, which hears the codes of a candidate: from how likely it finds the text, and from the
sound that it doubts most, comes the *risk* that a word is wrong. Beside it: whether the stop code was reached, the
pace, silence and clipping. A recogniser writes down what it hears; if these are other words, it counts how many sounds
they differ in, so that another spelling of the same is no fault. One that also says how sure it is, as Whisper is, is
asked about further takes while it is in doubt.

The risk is a logistic regression on 291 takes of 97 sentences that a recogniser had judged; none of them is among the
texts of ``chelys eval`` by which the whole is judged (docs/audiobooks.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from chelys.audio.io import resample
from chelys.audio.rates import OUTPUT_RATE
from chelys.audio.recognition import RATE, Transcript, load_whisper, transcribe
from chelys.audiobook.hearing import align
from chelys.errors import TextError
from chelys.inference.generation import CodeCandidate
from chelys.inference.rendering import SentencePlan
from chelys.inference.synthesizer import Synthesizer
from chelys.text.document import Sentence
from chelys.text.ipa import STRESS
from chelys.text.split import CLAUSE_PAUSE_S, WORD_PAUSE_S
from chelys.text.tokenizer import PUNCTUATION

#: Of the risk: constant, for each nat of the text's log-likelihood, for each nat of the largest doubt.
_RISK = (-5.3, -0.031, 0.43)
_FRAME = OUTPUT_RATE // 100  # samples of which the loudness is measured


@dataclass(frozen=True)
class VerifySettings:
    """Bounds of a verdict."""

    good_risk: float = 0.1  # of a wrong word, up to which no further candidates are sampled
    max_risk: float = 0.3  # beyond it a take fails
    doubt: float = 5.0  # nats from which on a word is marked as suspicious
    rounds: int = 3  # how often more candidates are sampled, each time as many as there are
    fastest: float = 0.03  # seconds of speech for each symbol of the text, at pace 1
    slowest: float = 0.22
    silence_s: float = 0.9  # longest silence within
    clipped: float = 0.001  # share of samples at full scale
    phoneme_errors: float = 0.0  # phoneme error rate of what a recogniser may hear
    good_confidence: float = -0.15  # of a recogniser (nats a token), from which on no further take is heard
    right_takes: int = 3  # takes that it hears right before the surest of them is taken


@dataclass(frozen=True)
class Verdict:
    """What was found of one take."""

    passed: bool
    reasons: tuple[str, ...] = ()  # why it did not pass, in plain words
    risk: float | None = None  # of a wrong word, 0 to 1; None if the model has no reader
    suspicious: tuple[int, ...] = ()  # places of words that may be wrong
    transcript: str | None = None  # by the recogniser
    phoneme_errors: float | None = None  # phoneme error rate of the transcript
    confidence: float | None = None  # of the recogniser: mean log-probability of a token, nats
    split: bool = False  # whether the sentence was spoken in two parts, since it never passed in one

    @property
    def danger(self) -> tuple[bool, float, float, float]:
        """What takes are compared by, the surest is the least."""
        return not self.passed, self.phoneme_errors or 0.0, -(self.confidence or 0.0), self.risk or 0.0

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "reasons": list(self.reasons), "suspicious": list(self.suspicious)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Verdict:
        """What ``as_json`` made."""
        return cls(**{**values, "reasons": tuple(values["reasons"]), "suspicious": tuple(values["suspicious"])})


class Listener(Protocol):
    """Writes down speech. Any object with these two can be one."""

    name: str  # of the model; verdicts are kept under it

    def transcribe(self, audio: np.ndarray, rate: int) -> str | Transcript:
        """What is said in a waveform ``(n,)`` float32, alone or with how sure that is."""
        ...


class Verifier:
    """Gives verdicts."""

    def __init__(
        self, tts: Synthesizer, settings: VerifySettings | None = None, recogniser: Listener | None = None
    ) -> None:
        self.tts, self.settings, self.recogniser = tts, settings or VerifySettings(), recogniser

    @property
    def inputs(self) -> dict[str, Any]:
        """What verdicts depend on, for the store."""
        return {**asdict(self.settings), "risk": list(_RISK), "recogniser": getattr(self.recogniser, "name", None)}

    def good(self, verdict: Verdict) -> bool:
        """Whether there is no need to look for a better candidate. Where a recogniser listens, its doubt decides."""
        if self.recogniser is None:
            return verdict.passed and (verdict.risk or 0.0) <= self.settings.good_risk
        return verdict.passed and (verdict.confidence or 0.0) >= self.settings.good_confidence

    @torch.inference_mode()
    def of_codes(self, plan: SentencePlan, candidate: CodeCandidate) -> Verdict:
        """What can be said before anything is rendered."""
        settings, reasons = self.settings, []
        if not candidate.stopped:
            reasons.append("it did not come to its end")
        found, risk = align(self.tts.model.clvp, plan.prompt.text_ids, candidate.codes), None
        suspicious: tuple[int, ...] = ()
        if found is not None:
            symbols = [self.tts.family.tokenizer.symbol(one) for one in plan.prompt.text_ids.tolist()]
            words = found.words(plan.sentence.spoken, symbols, 1.0)
            suspicious = tuple(place for place, word in enumerate(words) if word.doubt >= settings.doubt)
            nats = float(self.tts.model.clvp.likelihood(plan.prompt.text_ids[None], candidate.codes[None]))
            risk = 1 / (1 + math.exp(-(_RISK[0] + _RISK[1] * nats + _RISK[2] * found.worst(symbols))))
            if risk > settings.max_risk:
                named = ", ".join(words[place].text.strip(PUNCTUATION) for place in suspicious)
                reasons.append(f"{named or 'a word'} may be wrong")
        elif self.tts.model.clvp.config.frames_per_token:
            risk, reasons = 1.0, [*reasons, "it is too short for its text"]
        return Verdict(not reasons, tuple(reasons), None if risk is None else round(risk, 3), suspicious)

    def of_audio(self, plan: SentencePlan, verdict: Verdict, audio: np.ndarray) -> Verdict:
        """The verdict of a candidate with what its waveform ``(n,)`` adds."""
        settings, reasons = self.settings, list(verdict.reasons)
        transcript = errors = confidence = None
        pace = len(audio) / OUTPUT_RATE * plan.options.speed / max(1, len(plan.prompt.text_ids))
        if len(plan.prompt.text_ids) >= 12:  # a single word can be drawn out
            if pace < settings.fastest:
                reasons.append("it is too fast")
            elif pace > settings.slowest:
                reasons.append("it is too slow")
        if not len(audio) or float(np.abs(audio).max()) < 1e-3:
            reasons.append("it is silent")
        elif longest_silence(audio) > settings.silence_s:
            reasons.append("it has a long silence")
        if len(audio) and float(np.mean(np.abs(audio) >= 0.999)) > settings.clipped:
            reasons.append("it is clipped")
        if self.recogniser is not None:
            found = self.recogniser.transcribe(audio, OUTPUT_RATE)
            transcript, confidence = (found, None) if isinstance(found, str) else found
            errors = round(self._errors(plan.sentence, transcript), 4)
            if errors > settings.phoneme_errors:
                reasons.append(f"it was heard as {transcript[:200]!r}")
        return replace(
            verdict, passed=not reasons, reasons=tuple(reasons), transcript=transcript, phoneme_errors=errors,
            confidence=confidence,
        )  # fmt: skip

    def _errors(self, sentence: Sentence, transcript: str) -> float:
        """Phoneme error rate of a transcript, without stress and where words begin; letters where there are none."""
        tokenizer = self.tts.family.tokenizer
        try:
            words = tokenizer.clean(transcript)
        except TextError:  # there is nothing in it
            return 1.0
        if _letters(words.lower()) == _letters(sentence.spoken.lower()):
            return 0.0
        return error_rate(_letters(sentence.phonemes), _letters(tokenizer.symbols(words)))


def verifier(name: str | None, tts: Synthesizer) -> Verifier | None:
    """What ``--verify NAME`` asks for: ``builtin``, or a Whisper model such as ``tiny.en``, or its folder.

    Raises ConfigError if there is no such model; MissingExtra if faster-whisper is not installed.
    """
    if name is None:
        return None
    return Verifier(tts, recogniser=None if name == "builtin" else Whisper(name))


class Whisper:
    """A Whisper model as a recogniser; extra ``verify``. Raises as ``load_whisper``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._model = load_whisper(name, extra="verify", device="auto", compute_type="float32")

    def transcribe(self, audio: np.ndarray, rate: int) -> Transcript:
        """See ``Listener``."""
        return transcribe(self._model, resample(audio, rate, RATE).astype(np.float32))


def of_parts(first: Verdict, second: Verdict, words: int) -> Verdict:
    """The verdict of a sentence that is spoken in two parts, the first of which has so many words."""

    def found(name: str) -> list[Any]:
        return [value for part in (first, second) if (value := getattr(part, name)) is not None]

    return Verdict(
        first.passed and second.passed, first.reasons + second.reasons,
        round(1 - math.prod(1 - risk for risk in found("risk")), 3),
        first.suspicious + tuple(place + words for place in second.suspicious), split=True,
        transcript=" ".join(filter(None, found("transcript"))) or None,
        phoneme_errors=max(found("phoneme_errors"), default=None), confidence=min(found("confidence"), default=None),
    )  # fmt: skip


def longest_silence(audio: np.ndarray) -> float:
    """Seconds of the longest stretch within ``(n,)`` that lies 40 dB below the louder ones."""
    frames = audio[: len(audio) // _FRAME * _FRAME].reshape(-1, _FRAME)
    if not len(frames):
        return 0.0
    levels = np.sqrt(np.square(frames, dtype=np.float64).mean(1))
    loud = np.flatnonzero(levels > 0.01 * np.percentile(levels, 95))
    return float(np.diff(loud).max(initial=1) - 1) * _FRAME / OUTPUT_RATE


def error_rate(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    """Substitutions, deletions and insertions over the length of the reference, of words or of phonemes."""
    row = list(range(len(hypothesis) + 1))
    for place, one in enumerate(reference, 1):
        corner, row[0] = row[0], place
        for column, other in enumerate(hypothesis, 1):
            corner, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, corner + (one != other))
    return row[-1] / max(1, len(reference))


def _letters(symbols: str) -> str:
    return "".join(symbol for symbol in symbols if symbol.isalnum() and symbol not in STRESS)


def halves(sentence: Sentence) -> tuple[Sentence, Sentence] | None:
    """A sentence in two parts, cut behind the mark nearest to its middle, else between two words; None if too short.

    The first has the pause that is to stand between them.
    """
    symbols, spoken = sentence.phonemes.split(), sentence.spoken.split()
    if len(symbols) < 4 or len(symbols) != len(spoken):
        return None
    middle = len("".join(symbols)) / 2
    lengths = np.cumsum([len(word) for word in symbols])[1:-2]  # at least two words in each
    marked = [place + 2 for place in range(len(lengths)) if symbols[place + 1][-1] in ",.;:?!"]
    cut = min(marked or range(2, len(symbols) - 1), key=lambda place: abs(lengths[place - 2] - middle))
    written = sentence.text.split()
    fits = len(written) == len(symbols)
    first = replace(
        sentence, text=" ".join(written[:cut]) if fits else sentence.text, spoken=" ".join(spoken[:cut]),
        phonemes=" ".join(symbols[:cut]), pause_s=CLAUSE_PAUSE_S if marked else WORD_PAUSE_S,
    )  # fmt: skip
    second = replace(
        sentence, text=" ".join(written[cut:]) if fits else "", spoken=" ".join(spoken[cut:]),
        phonemes=" ".join(symbols[cut:]), lead_s=0.0,
    )  # fmt: skip
    return first, second
