"""What is said, by a transcriber: faster-whisper, or any object with the same two methods."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import soxr

from chelys.data.prepare.blocks import Draft, sounds
from chelys.data.prepare.named import named
from chelys.data.prepare.work import Item, Row, Store
from chelys.errors import ConfigError

RATE = 16_000  # Hz


class Candidate(NamedTuple):
    """One way to read a clip.

    Attributes:
        text: The words.
        confidence: 0 to 1.
    """

    text: str
    confidence: float


class Word(NamedTuple):
    """A word and its time, seconds from the clip's start."""

    word: str
    start: float
    end: float


class Heard(NamedTuple):
    """What was made of a clip.

    Attributes:
        candidates: Best first; may be empty.
        no_speech: Probability that nobody speaks; None if the transcriber cannot say.
    """

    candidates: list[Candidate]
    no_speech: float | None = None


class Transcriber(Protocol):
    """Writes down speech. The same clips in the same order always give the same."""

    def transcribe(self, clips: list[np.ndarray]) -> list[Heard]:
        """Write down clips ``(n,)`` at 16 kHz."""
        ...

    def align(self, clips: list[np.ndarray], texts: list[str]) -> list[list[Word]]:
        """Find the words of known texts."""
        ...


@dataclass(frozen=True)
class TranscribeSettings:
    """Who writes down, and how.

    Attributes:
        transcriber: ``package.module:function`` that makes a ``Transcriber`` of these settings.
        model: Name of a published Whisper model, or the folder of a converted one.
        language: Code of the language; None lets the model guess, clip by clip.
        candidates: How many to keep.
        beam: Width of the search.
        compute: Number format of the weights, as CTranslate2 calls it.
        device: ``cpu``, ``cuda`` or ``auto``.
    """

    transcriber: str = "chelys.data.prepare.whisper:FasterWhisper"
    model: str = "base"
    language: str | None = "en"
    candidates: int = 3
    beam: int = 5
    compute: str = "int8"
    device: str = "auto"

    def __post_init__(self) -> None:
        if not 1 <= self.candidates <= self.beam:
            raise ConfigError(
                f"transcribe.candidates is {self.candidates}: it must be 1 to transcribe.beam, {self.beam}"
            )


@lru_cache(1)
def transcriber(settings: TranscribeSettings) -> Transcriber:
    """The transcriber of this process, loaded once."""
    return named(settings.transcriber)(settings)


def check(settings: TranscribeSettings) -> None:
    """Find out cheaply whether the transcriber can be had, if it can tell.

    Raises:
        UserError: If not.
    """
    make = named(settings.transcriber)
    if hasattr(make, "check"):
        make.check(settings)


def heard_at_16k(item: Item, store: Store) -> list[np.ndarray]:
    """Sound of a block's clips, as a transcriber listens."""
    return [soxr.resample(audio, rate, RATE) if rate != RATE else audio for audio, rate in sounds(item, store)]


@dataclass(frozen=True)
class Transcribe:
    """The stage; it writes down only what keeps the rules so far."""

    settings: TranscribeSettings = TranscribeSettings()
    name: str = "transcribe"
    version: int = 1

    def check(self) -> None:
        """See ``Stage``."""
        check(self.settings)

    def wants(self, draft: Draft) -> bool:
        """Clips that are not dropped already."""
        return not draft.clip.reasons

    def asks(self, draft: Draft) -> Any:
        """Nothing but the sound."""
        return None

    def work(self, item: Item, store: Store) -> list[Row]:
        """Write down a block."""
        rows = []
        for heard in transcriber(self.settings).transcribe(heard_at_16k(item, store)):
            candidates = [{"text": c.text.strip(), "confidence": round(c.confidence, 4)} for c in heard.candidates]
            no_speech = None if heard.no_speech is None else round(heard.no_speech, 4)
            rows.append({"candidates": candidates, "no_speech": no_speech})
        return rows

    def merge(self, draft: Draft) -> None:
        """See ``BlockStage``."""
        row, clip = draft.rows[self.name], draft.clip
        clip.candidates = row["candidates"]
        clip.text = clip.candidates[0]["text"] if clip.candidates else ""
        clip.confidence = clip.candidates[0]["confidence"] if clip.candidates else 0.0
        clip.measured["no_speech"] = row["no_speech"]
