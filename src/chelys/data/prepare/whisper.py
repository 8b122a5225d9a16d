"""Whisper by faster-whisper (extra ``prepare``): several hypotheses of one beam search, in batches, without chance.

A clip is never longer than Whisper's window of 30 s, so each is read at once, without the loop over windows and the
random retries that the package's own ``transcribe`` is made of.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from chelys.data.prepare.transcribe import Candidate, Heard, TranscribeSettings, Word
from chelys.errors import ConfigError, MissingExtra

_AT_ONCE = 8  # clips; more are no faster on a CPU
_WINDOW = 3000  # frames of 10 ms
_OPENING, _CLOSING = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"  # what belongs to the next word, and to the one before


class FasterWhisper:
    """See ``Transcriber``."""

    def __init__(self, settings: TranscribeSettings) -> None:
        self.check(settings)
        from faster_whisper import WhisperModel

        self.settings = settings
        try:
            self.model = WhisperModel(settings.model, device=settings.device, compute_type=settings.compute)
        except Exception as error:  # of the file system, of CTranslate2
            raise _unusable(settings, error) from error

    @staticmethod
    def check(settings: TranscribeSettings) -> None:
        """Whether package and model are there; a published model is fetched if it is not.

        Raises:
            MissingExtra: If the package is not there.
            ConfigError: If the model is not.
        """
        if find_spec("faster_whisper") is None:
            raise MissingExtra("prepare", ImportError("faster-whisper", name="faster-whisper"))
        folder = Path(settings.model)
        if folder.is_dir():
            if not (folder / "model.bin").is_file():
                raise _unusable(settings, FileNotFoundError("it has no model.bin"))
            return
        from faster_whisper.utils import download_model

        try:
            download_model(settings.model)
        except Exception as error:  # of the hub, of the network
            raise _unusable(settings, error) from error

    def transcribe(self, clips: list[np.ndarray]) -> list[Heard]:
        """See ``Transcriber``."""
        return [heard for batch in _batches(clips) for heard in self._transcribe(batch)]

    def _transcribe(self, clips: list[np.ndarray]) -> list[Heard]:
        encoded = self._encode(clips)
        tokenizers = self._tokenizers(encoded, len(clips))
        found = self.model.model.generate(
            encoded,
            [[*tokenizer.sot_sequence, tokenizer.no_timestamps] for tokenizer in tokenizers],
            beam_size=self.settings.beam,
            num_hypotheses=self.settings.candidates,
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [self._heard(*pair) for pair in zip(found, tokenizers, strict=True)]

    @staticmethod
    def _heard(result: Any, tokenizer: Any) -> Heard:
        candidates: dict[str, Candidate] = {}
        for tokens, score in zip(result.sequences_ids, result.scores, strict=True):
            text = tokenizer.decode(tokens).strip()  # hypotheses may differ in what is not read
            candidates.setdefault(text, Candidate(text, min(1.0, math.exp(score))))  # the score is a mean over tokens
        return Heard(list(candidates.values()), result.no_speech_prob)

    def align(self, clips: list[np.ndarray], texts: list[str]) -> list[list[Word]]:
        """See ``Transcriber``."""
        out = []
        for clip, text in zip(clips, texts, strict=True):
            encoded = self._encode([clip])  # one at a time: a batch is aligned to words of one language and one length
            (tokenizer,) = self._tokenizers(encoded, 1)
            tokens = tokenizer.encode(" " + text.strip())
            (words,) = self.model.find_alignment(tokenizer, [tokens], encoded, _frames(clip))
            out.append(_join_punctuation([Word(w["word"], float(w["start"]), float(w["end"])) for w in words]))
        return out

    def _encode(self, clips: list[np.ndarray]) -> Any:
        # A last frame too many comes from the extractor's padding.
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


def _unusable(settings: TranscribeSettings, error: Exception) -> ConfigError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return ConfigError(
        f"cannot load the Whisper model {settings.model!r} ({reason}): name a published one, or the folder of a"
        " converted one, with transcribe.model"
    )


def _batches(values: list[Any]) -> list[list[Any]]:
    return [values[first : first + _AT_ONCE] for first in range(0, len(values), _AT_ONCE)]


def _frames(clip: np.ndarray) -> int:
    return min(_WINDOW, max(2, len(clip) // 160))


def _join_punctuation(words: list[Word]) -> list[Word]:
    """Punctuation is not said: it goes with the word before, or the next one where it opens a bracket."""
    out: list[Word] = []
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
            out.append(Word(opening + bare, start, end))
            opening = ""
    return out
