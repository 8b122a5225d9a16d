"""Transcripts and word times: faster-whisper (extra ``prepare``), or any object with the same two methods.

A clip is never longer than Whisper's window of 30 s, so each is read in one pass: several hypotheses of one beam
search, in batches, without the window loop and random retries of the package's own ``transcribe``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from chelys.audio.io import resample
from chelys.audio.recognition import RATE, find_whisper, load_whisper
from chelys.data.prepare.work import ClipRecord, ClipStage, Item, Row, Store, find_object, read_block
from chelys.deprecation import renamed_names
from chelys.errors import ConfigError

__getattr__ = renamed_names(__name__)
_BATCH = 8  # clips; more are no faster on a CPU
_WINDOW = 3000  # frames of 10 ms
_OPENING, _CLOSING = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"  # goes with the next word, and with the one before


class TranscriptCandidate(NamedTuple):
    """One transcript of a clip, and its confidence, 0 to 1."""

    text: str
    confidence: float


class TimedWord(NamedTuple):
    """A word and its time, seconds from the clip's start."""

    word: str
    start: float
    end: float


class Transcription(NamedTuple):
    """What a transcriber makes of a clip."""

    candidates: list[TranscriptCandidate]  # best first; may be empty
    no_speech: float | None = None  # probability that there is no speech; None if the transcriber cannot say


class Transcriber(Protocol):
    """Transcribes speech; deterministic."""

    def transcribe(self, clips: list[np.ndarray]) -> list[Transcription]:
        """Transcribe clips ``(n,)`` at 16 kHz."""
        ...

    def align(self, clips: list[np.ndarray], texts: list[str]) -> list[list[TimedWord]]:
        """Find the words of known texts."""
        ...


@dataclass(frozen=True)
class TranscribeSettings:
    """The transcriber and its options."""

    RENAMED: ClassVar[dict[str, str | None]] = {"beam": "beam_size", "compute": "compute_type"}

    #: ``package.module:function`` that makes a ``Transcriber`` of these settings
    transcriber: str = "chelys.data.prepare.transcribe:FasterWhisper"
    model: str = "base"  # name of a published Whisper model, or the folder of a converted one
    language: str | None = "en"  # code of the language; None lets the model guess, clip by clip
    candidates: int = 3  # how many transcripts to keep
    beam_size: int = 5  # of the search
    compute_type: str = "int8"  # number format of the weights, as CTranslate2 calls it
    device: str = "auto"  # ``cpu``, ``cuda`` or ``auto``

    def __post_init__(self) -> None:
        if not 1 <= self.candidates <= self.beam_size:
            raise ConfigError(
                f"transcribe.candidates is {self.candidates}: it must be 1 to transcribe.beam_size, {self.beam_size}"
            )


@lru_cache(1)
def load_transcriber(settings: TranscribeSettings) -> Transcriber:
    """The transcriber of this process, loaded once."""
    return find_object(settings.transcriber)(settings)


@dataclass(frozen=True)
class _TranscriberStage(ClipStage):
    settings: TranscribeSettings = TranscribeSettings()

    def check(self) -> None:
        """See ``PrepareStage``; a transcriber may have a cheap ``check`` of its own."""
        make = find_object(self.settings.transcriber)
        if hasattr(make, "check"):
            make.check(self.settings)

    def _clips(self, item: Item, store: Store) -> list[np.ndarray]:
        return [resample(a, rate, RATE) for a, rate in read_block(item, store)]


@dataclass(frozen=True)
class Transcribe(_TranscriberStage):
    """The stage that finds the words, only of clips that pass the rules so far."""

    name: str = "transcribe"
    version: int = 1

    def work(self, item: Item, store: Store) -> list[Row]:
        rows = []
        for found in load_transcriber(self.settings).transcribe(self._clips(item, store)):
            candidates = [{"text": c.text.strip(), "confidence": round(c.confidence, 4)} for c in found.candidates]
            no_speech = None if found.no_speech is None else round(found.no_speech, 4)
            rows.append({"candidates": candidates, "no_speech": no_speech})
        return rows

    def merge(self, record: ClipRecord) -> None:
        row, clip = record.rows[self.name], record.clip
        clip.candidates = row["candidates"]
        clip.text = clip.candidates[0]["text"] if clip.candidates else ""
        clip.confidence = clip.candidates[0]["confidence"] if clip.candidates else 0.0
        clip.measured["no_speech"] = row["no_speech"]


@dataclass(frozen=True)
class Align(_TranscriberStage):
    """The stage that finds the time of each word of the best transcript, by the transcriber's own attention."""

    name: str = "align"
    version: int = 1

    def wants(self, record: ClipRecord) -> bool:
        return bool(record.clip.text) and not record.clip.reasons

    def depends_on(self, record: ClipRecord) -> Any:
        return record.clip.text

    def work(self, item: Item, store: Store) -> list[Row]:
        found = load_transcriber(self.settings).align(self._clips(item, store), item.content["asked"])
        return [{"words": [[w.word, round(w.start, 2), round(w.end, 2)] for w in words]} for words in found]

    def merge(self, record: ClipRecord) -> None:
        record.clip.words = record.rows[self.name]["words"]


# ---- faster-whisper -------------------------------------------------------------------------------------------------


class FasterWhisper:
    """See ``Transcriber``."""

    def __init__(self, settings: TranscribeSettings) -> None:
        self.settings = settings
        self.model = load_whisper(
            settings.model, extra="prepare", device=settings.device, compute_type=settings.compute_type
        )

    @staticmethod
    def check(settings: TranscribeSettings) -> None:
        """Download a published model if it is missing. Raises MissingExtra without the package, ConfigError without the
        model.
        """
        find_whisper(settings.model, extra="prepare")

    def transcribe(self, clips: list[np.ndarray]) -> list[Transcription]:
        batches = (clips[first : first + _BATCH] for first in range(0, len(clips), _BATCH))
        return [found for batch in batches for found in self._transcribe(batch)]

    def _transcribe(self, clips: list[np.ndarray]) -> list[Transcription]:
        encoded = self._encode(clips)
        tokenizers = self._tokenizers(encoded, len(clips))
        results = self.model.model.generate(
            encoded,
            [[*tokenizer.sot_sequence, tokenizer.no_timestamps] for tokenizer in tokenizers],
            beam_size=self.settings.beam_size, num_hypotheses=self.settings.candidates,
            return_scores=True, return_no_speech_prob=True,
        )  # fmt: skip
        found = []
        for result, tokenizer in zip(results, tokenizers, strict=True):
            candidates: dict[str, TranscriptCandidate] = {}
            for tokens, score in zip(result.sequences_ids, result.scores, strict=True):
                text = tokenizer.decode(tokens).strip()  # hypotheses may differ in tokens that are not shown
                confidence = min(1.0, math.exp(score))  # the score is a mean of tokens
                candidates.setdefault(text, TranscriptCandidate(text, confidence))
            found.append(Transcription(list(candidates.values()), result.no_speech_prob))
        return found

    def align(self, clips: list[np.ndarray], texts: list[str]) -> list[list[TimedWord]]:
        out = []
        for clip, text in zip(clips, texts, strict=True):
            encoded = self._encode([clip])  # one at a time: the words of a batch must be of one language and length
            (tokenizer,) = self._tokenizers(encoded, 1)
            frames = min(_WINDOW, max(2, len(clip) // 160))
            (words,) = self.model.find_alignment(tokenizer, [tokenizer.encode(" " + text.strip())], encoded, frames)
            out.append(_join_punctuation([TimedWord(w["word"], float(w["start"]), float(w["end"])) for w in words]))
        return out

    def _encode(self, clips: list[np.ndarray]) -> Any:
        # The extractor's padding gives one frame too many.
        mels = [self.model.feature_extractor(clip)[:, :-1][:, :_WINDOW] for clip in clips]
        return self.model.encode(np.stack([np.pad(mel, ((0, 0), (0, _WINDOW - mel.shape[1]))) for mel in mels]))

    def _tokenizers(self, encoded: Any, count: int) -> list[Any]:
        from faster_whisper.tokenizer import Tokenizer

        multilingual = self.model.model.is_multilingual
        if self.settings.language is not None or not multilingual:
            languages = [self.settings.language or "en"] * count
        else:
            languages = [guesses[0][0].strip("<|>") for guesses in self.model.model.detect_language(encoded)]
        return [Tokenizer(self.model.hf_tokenizer, multilingual, "transcribe", language) for language in languages]


def _join_punctuation(words: list[TimedWord]) -> list[TimedWord]:
    """Attach punctuation to the word before, or to the next one if it opens a bracket or a quotation."""
    out: list[TimedWord] = []
    opening = ""
    for word, start, end in words:
        bare = word.strip()
        if not bare:
            continue
        begins = word.startswith(" ") or not out  # a quotation mark looks the same at both ends
        if begins and all(character in _OPENING for character in bare):
            opening += bare
        elif out and all(character in _CLOSING for character in bare):
            out[-1] = out[-1]._replace(word=out[-1].word + bare)
        else:
            out.append(TimedWord(opening + bare, start, end))
            opening = ""
    return out
