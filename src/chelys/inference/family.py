"""What a family of models does in its own way when it speaks.

``Family`` is chelys' own. Another family derives from it and overrides some of the methods. The configuration of its
models names the class (``ModelConfig.SPEAKER``), so nothing of it is imported for other models.

m codes, n samples, d width of the latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from chelys import registry
from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import UserError, VoiceError
from chelys.inference.generation import DecodingRules
from chelys.inference.options import DISTILLED_PRESETS, NANO_PRESETS, UNDISTILLED, SpeechOptions, options_for
from chelys.inference.reranking import Scorer
from chelys.inference.voice import Voice, at_rate, conditioning_latents
from chelys.text.dictionary import Dictionary
from chelys.text.document import Document, Sentence
from chelys.text.front_end import read_text
from chelys.text.split import split
from chelys.text.tokenizer import Tokenizer
from chelys.weights.folder import Model


class LatentDecoder(Protocol):
    """Renders latents of the autoregressive decoder without diffusion, also while codes are still being sampled."""

    def decode(self, latents: Tensor, voice: Tensor) -> Tensor:
        """Latents ``(1, m, d)`` and a conditioning latent ``(1, d)`` to a waveform ``(1, n)``."""
        ...

    def decode_window(self, latents: Tensor, voice: Tensor, start: int, length: int) -> Tensor:
        """Some mel frames of that, from frame ``start`` on."""
        ...

    def frames(self, codes: int) -> int:
        """Mel frames that so many codes make."""
        ...

    def settled_frames(self, codes: int) -> int:
        """How many of them further codes cannot change."""
        ...


class Redactor(Protocol):
    """Speaks prompts that are not to be heard, and cuts them out."""

    def applies(self, text: str) -> bool:
        """Whether anything of the text is to be cut out."""
        ...

    def join(self, sentences: Sequence[Sentence]) -> list[Sentence]:
        """Undo cuts that separate a prompt from its text."""
        ...

    def cut(self, audio: np.ndarray, text: str) -> np.ndarray:
        """The audio ``(n,)`` of a text without its prompts."""
        ...


class Family:
    """chelys' own models. ``compat``: a way of speaking that the family knows; chelys' own models have only one."""

    clip_rate: int = OUTPUT_RATE  # sample rate (Hz) at which clips for a voice are read
    code_rate: int = OUTPUT_RATE  # sample rate (Hz) of the mels that the codes stand for
    draws_voices: bool = False  # whether the model has networks that draw random voices
    reads_tags: bool = True  # whether brackets in a text can be tags; if not, they are as the family's tokenizer has it
    text_stops: int = 0  # stop ids behind a text before any network reads it; the decoder adds its own besides
    speaks_early: bool = True  # whether a sentence can be rendered in pieces while it is being sampled
    unstopped_last: bool = True  # whether candidates without a stop code rank after all others

    def __init__(self, model: Model, compat: str = "repaired") -> None:
        if compat not in ("repaired", "reference"):
            raise UserError(f"compat is {compat!r}; choose 'repaired' or 'reference'")
        self.model, self.compat = model, compat

    @property
    def presets(self) -> Mapping[str, SpeechOptions]:
        """Name to options, without a distilled diffusion decoder."""
        return NANO_PRESETS

    def options(self, preset: str, **changes: object) -> SpeechOptions:
        """A preset with some options changed; some presets take the distilled decoder, where the model has one.

        Not if what its adapters hold, steps or guidance, is changed, or the sampler. Options given as None stay. Raises
        UserError if the preset is unknown, or a value is out of range.
        """
        presets, found = dict(self.presets), self.model.config.distillation
        if found is not None and all(changes.get(name) is None for name in UNDISTILLED):
            for name in presets.keys() & set(DISTILLED_PRESETS):
                presets[name] = replace(presets[name], sampler="distilled", steps=found.steps, guidance=found.guidance)
        return options_for(preset, presets, **changes)

    # ---- text -------------------------------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Tokenizer:
        """What reads texts for the model."""
        return self.model.tokenizer

    def read_text(
        self, text: str, options: SpeechOptions, *, format: str = "auto", locale: str = "en-US",
        dictionary: Dictionary | None = None, join: Callable[[list[Sentence]], list[Sentence]] | None = None,
    ) -> Document:  # fmt: skip
        """What will be said; ``join`` undoes cuts. Arguments and errors as of `chelys.text.front_end.read_text`."""

        def pieces(text: str) -> list[Sentence]:
            found = self.split(text, options)
            return join(found) if join else found

        tags = self.reads_tags and not options.redact
        return read_text(
            text, self.tokenizer, format=format, tags=tags, locale=locale, dictionary=dictionary, split=pieces
        )

    def split(self, text: str, options: SpeechOptions) -> list[Sentence]:
        """A long text in pieces."""
        if options.splitting == "sentences":
            return split(text, max_chars=options.max_chars) or [Sentence(text, 0.0)]
        pieces: list[Sentence] = registry.find(registry.SPLITTERS[options.splitting])(text, options)
        return pieces

    def seed_index(self, number: int) -> int:
        """Which random numbers the sentence of this number gets."""
        return number

    def redaction(self, aligner: Any = None) -> Redactor:
        """What cuts [bracketed] prompts out of the audio; ``aligner`` finds words in it, None is the published one."""
        made: Redactor = registry.find(registry.REDACTION)(self.tokenizer, aligner, self.model.device)
        return made

    # ---- voices -----------------------------------------------------------------------------------------------------

    def read_clips(self, paths: Sequence[Path]) -> list[np.ndarray]:
        """Recordings as ``conditioning_latents`` wants them, at ``clip_rate``."""
        from chelys.audio.io import read_clips  # late: speaking in an existing voice reads no audio

        return read_clips(paths, self.clip_rate)

    def conditioning_latents(self, clips: Sequence[np.ndarray], rate: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """What the two decoders are conditioned on.

        ``clips``: waveforms ``(n,)`` float32 of one speaker; ``rate``: of the waveforms, Hz; ``seed``: of whatever is
        drawn. Returns ``(d,)`` for the autoregressive decoder and ``(2 d',)`` for the diffusion decoder.
        """
        model = self.model
        waveforms = [at_rate(clip, rate, OUTPUT_RATE) for clip in clips]
        return conditioning_latents(waveforms, model.autoregressive, model.diffusion, model.config.mel_range)

    def read_voice(self, path: Path) -> Voice | None:
        """A voice in another format than chelys' own; None if what lies there is none, but clips."""
        try:
            suffixes = {file.suffix for file in path.iterdir()} if path.is_dir() else {path.suffix}
        except OSError:  # reading clips from it gives the reason
            return None
        for suffix in suffixes & registry.VOICE_FORMATS.keys():
            voice: Voice | None = registry.find(registry.VOICE_FORMATS[suffix])(path, self.model.config)
            if voice is not None:
                return voice
        return None

    def draw_latents(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Conditioning latents of a random voice. Raises VoiceError where ``draws_voices`` is not set."""
        raise VoiceError(f"{self.model.config.name} has no networks that draw voices")

    def check_voice(self, voice: Voice, options: SpeechOptions) -> None:
        """Refuse a voice, or a model, that lacks what the options need, before any work is done.

        Raises VoiceError if the voice lacks it; ModelError if the model does.
        """
        if options.cvvp:
            self.model.extra("cvvp")

    # ---- codes ------------------------------------------------------------------------------------------------------

    def decoding_rules(self, options: SpeechOptions) -> DecodingRules:
        """How codes are sampled."""
        return DecodingRules()

    def scorers(self, voice: Voice, options: SpeechOptions) -> list[tuple[float, Scorer]]:
        """What ranks candidates beside CLVP, each with its weight."""
        return []

    def row(self, options: SpeechOptions) -> Callable[[Tensor], Tensor] | None:
        """What makes rows of one length of codes ``(m,)`` for ranking; None scores them as they are."""
        return None

    def trim_codes(self, codes: Tensor, options: SpeechOptions) -> Tensor:
        """What of a candidate's codes ``(m,)`` is rendered."""
        return codes

    # ---- audio ------------------------------------------------------------------------------------------------------

    def latent_decoder(self, options: SpeechOptions) -> LatentDecoder | None:
        """What renders latents in place of diffusion and vocoder; None if these do.

        Raises ModelError if the model lacks it.
        """
        decoder: LatentDecoder | None = None if options.decoder == "diffusion" else self.model.extra(options.decoder)
        return decoder


def family_of(model: Model, compat: str = "repaired") -> Family:
    """How a model speaks."""
    made: Family = registry.find(model.config.SPEAKER)(model, compat)
    return made
