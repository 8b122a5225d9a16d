"""Is a take right? A verdict from what is built in, and from a recogniser where one is named.

Built in is CLVP's CTC reader, which hears the codes of a candidate: from how likely it finds the text, and from the
sound that it doubts most, comes the *risk* that a word is wrong. Beside it: whether the stop code was reached, the
pace, silence and clipping. A recogniser writes down what it hears, which is compared with what was to be said.

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
from chelys.audio.recognition import RATE, hear, load_whisper
from chelys.audiobook.hearing import align
from chelys.errors import TextError
from chelys.inference.generation import CodeCandidate
from chelys.inference.rendering import SentencePlan
from chelys.inference.synthesizer import Synthesizer
from chelys.text.document import Sentence
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
    word_errors: float = 0.0  # share of wrong words that a recogniser may hear


@dataclass(frozen=True)
class Verdict:
    """What was found of one take."""

    passed: bool
    reasons: tuple[str, ...] = ()  # why it did not pass, in plain words
    risk: float | None = None  # of a wrong word, 0 to 1; None if the model has no reader
    suspicious: tuple[int, ...] = ()  # places of words that may be wrong
    transcript: str | None = None  # by the recogniser
    split: bool = False  # whether the sentence was spoken in two parts, since it never passed in one

    @property
    def danger(self) -> tuple[bool, float]:
        """What takes are compared by, the surest is the least."""
        return not self.passed, self.risk or 0.0

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

    def transcribe(self, audio: np.ndarray, rate: int) -> str:
        """What is said in a waveform ``(n,)`` float32."""
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
        """Whether there is no need to look for a better candidate."""
        return verdict.passed and (verdict.risk or 0.0) <= self.settings.good_risk

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
        settings, reasons, transcript = self.settings, list(verdict.reasons), None
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
            transcript = self.recogniser.transcribe(audio, OUTPUT_RATE)
            if word_errors(self._plain(plan.sentence.spoken), self._plain(transcript)) > settings.word_errors:
                reasons.append(f"it was heard as {transcript[:200]!r}")
        return replace(verdict, passed=not reasons, reasons=tuple(reasons), transcript=transcript)

    def _plain(self, text: str) -> list[str]:
        """Words as they are spoken, without marks."""
        try:
            clean = self.tts.family.tokenizer.clean(text)
        except TextError:
            return []
        return [word for word in ("".join(c for c in w if c.isalnum()) for w in clean.lower().split()) if word]


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
        self._model = load_whisper(name, extra="verify", device="auto", compute_type="default")

    def transcribe(self, audio: np.ndarray, rate: int) -> str:
        """See ``Listener``."""
        return hear(self._model, resample(audio, rate, RATE).astype(np.float32))


def longest_silence(audio: np.ndarray) -> float:
    """Seconds of the longest stretch within ``(n,)`` that lies 40 dB below the louder ones."""
    frames = audio[: len(audio) // _FRAME * _FRAME].reshape(-1, _FRAME)
    if not len(frames):
        return 0.0
    levels = np.sqrt(np.square(frames, dtype=np.float64).mean(1))
    loud = np.flatnonzero(levels > 0.01 * np.percentile(levels, 95))
    return float(np.diff(loud).max(initial=1) - 1) * _FRAME / OUTPUT_RATE


def word_errors(words: Sequence[str], recognised: Sequence[str]) -> float:
    """Word error rate: substitutions, deletions and insertions over the words that were to be said."""
    row = list(range(len(recognised) + 1))
    for place, word in enumerate(words, 1):
        corner, row[0] = row[0], place
        for column, other in enumerate(recognised, 1):
            corner, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, corner + (word != other))
    return row[-1] / max(1, len(words))


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
