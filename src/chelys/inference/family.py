"""What a family of models does in its own way when it speaks.

The methods here are those of chelys' own models. Another family derives from ``Family`` and overrides some; its
models' configuration names the class (``ModelConfig.family_class``), so nothing of it is imported for other models.

m codes, n samples, d width of the latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from chelys import registry
from chelys.audio.io import read_clips
from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import UserError
from chelys.inference.decode import DecodingRules
from chelys.inference.options import NANO_PRESETS, SpeechOptions
from chelys.inference.rerank import Judge
from chelys.inference.voice import Voice
from chelys.inference.voice_vectors import at_rate, shared_vectors
from chelys.text.split import Sentence, split
from chelys.text.tokenizer import Tokenizer
from chelys.weights.folder import Model


class LatentDecoder(Protocol):
    """Renders latents of the autoregressive decoder without diffusion, also while codes still come."""

    def decode(self, latents: Tensor, voice: Tensor) -> Tensor:
        """Latents ``(1, m, d)`` and a voice ``(1, d)`` to a waveform ``(1, n)``."""
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


class Redaction(Protocol):
    """Speaks prompts that are not to be heard, and cuts them out."""

    def applies(self, text: str) -> bool:
        """Whether anything of the text is to be cut out."""
        ...

    def join(self, sentences: Sequence[Sentence]) -> list[Sentence]:
        """Undo cuts that part a prompt from its text."""
        ...

    def cut(self, audio: np.ndarray, text: str) -> np.ndarray:
        """The audio ``(n,)`` of a text without its prompts."""
        ...


class Family:
    """chelys' own models.

    Args:
        model: Loaded; it is not changed.
        compat: A way of speaking that the family knows; chelys' own models have only one.

    Attributes:
        presets: Name to options.
        clip_rate: Sample rate (Hz) at which clips for a voice are read.
        code_rate: Sample rate (Hz) of the mels that the codes stand for.
        text_stops: Stop ids behind a text before any network reads it; the decoder adds its own besides.
        draws_voices: Whether the model has networks that draw random voices.
    """

    clip_rate: int = OUTPUT_RATE
    code_rate: int = OUTPUT_RATE
    draws_voices: bool = False
    text_stops: int = 0

    def __init__(self, model: Model, compat: str = "repaired") -> None:
        if compat not in ("repaired", "reference"):
            raise UserError(f"compat is {compat!r}; choose 'repaired' or 'reference'")
        self.model = model

    @property
    def presets(self) -> Mapping[str, SpeechOptions]:
        return NANO_PRESETS

    # ---- text ---------------------------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Tokenizer:
        """What reads texts for the model."""
        return self.model.tokenizer

    def split(self, text: str, options: SpeechOptions) -> list[Sentence]:
        """A long text in pieces."""
        if options.splitting == "sentences":
            return split(text, longest=options.longest) or [Sentence(text, 0.0)]
        pieces: list[Sentence] = registry.find(registry.SPLITTERS[options.splitting])(text, options)
        return pieces

    def seed_index(self, number: int) -> int:
        """Which random numbers the sentence of this number is given."""
        return number

    def redaction(self, aligner: Any = None) -> Redaction:
        """What cuts [bracketed] prompts out of the audio; ``aligner`` finds words in it, None is the published one."""
        made: Redaction = registry.find(registry.REDACTION)(self.tokenizer, aligner, self.model.device)
        return made

    # ---- voices -------------------------------------------------------------------------------------------------

    def read_clips(self, paths: Sequence[Path]) -> list[np.ndarray]:
        """Recordings as ``conditioning_latents`` wants them, at ``clip_rate``."""
        return read_clips(paths, self.clip_rate)

    def conditioning_latents(self, clips: Sequence[np.ndarray], rate: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """What the two decoders are conditioned on.

        Args:
            clips: Waveforms ``(n,)`` float32 of one speaker.
            rate: Theirs, Hz.
            seed: Of whatever is drawn.

        Returns:
            ``(d,)`` for the autoregressive decoder and ``(2 d',)`` for the diffusion decoder.
        """
        model = self.model
        waves = [at_rate(clip, rate, OUTPUT_RATE) for clip in clips]
        return shared_vectors(waves, model.autoregressive, model.diffusion, model.config.mel_range)

    def read_voice(self, path: Path) -> Voice | None:
        """A voice in another format than chelys' own; None if what lies there is none, but clips."""
        try:
            suffixes = {file.suffix for file in path.iterdir()} if path.is_dir() else {path.suffix}
        except OSError:  # whoever looks for clips in it will say why
            return None
        for suffix in suffixes & registry.VOICE_FORMATS.keys():
            voice: Voice | None = registry.find(registry.VOICE_FORMATS[suffix])(path, self.model.config)
            if voice is not None:
                return voice
        return None

    def draw_latents(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Conditioning latents of a random voice; only where ``draws_voices``."""
        raise NotImplementedError

    # ---- codes --------------------------------------------------------------------------------------------------

    def decoding(self, options: SpeechOptions) -> DecodingRules:
        """How codes are sampled."""
        return DecodingRules()

    def row(self, options: SpeechOptions) -> Callable[[Tensor], Tensor] | None:
        """What makes rows of one length of codes ``(m,)`` for ranking; None reads them as they are."""
        return None

    def check_voice(self, voice: Voice, options: SpeechOptions) -> None:
        """Refuse a voice that lacks what the options need, before any work is done."""

    def judges(self, voice: Voice, options: SpeechOptions) -> list[tuple[float, Judge]]:
        """Networks that rank candidates beside CLVP, each with its weight."""
        if options.cvvp:
            self.model.extra("cvvp")  # a model without it says so
        return []

    def finished_first(self) -> bool:
        """Whether candidates that came to an end rank before those that did not."""
        return True

    # ---- sound --------------------------------------------------------------------------------------------------

    def trimmed(self, codes: Tensor, options: SpeechOptions) -> Tensor:
        """What of a candidate's codes ``(m,)`` is rendered."""
        return codes

    def latent_decoder(self, options: SpeechOptions) -> LatentDecoder | None:
        """What renders latents in place of diffusion and vocoder; None if these do.

        Raises:
            ModelError: If the model lacks it.
        """
        decoder: LatentDecoder | None = None if options.decoder == "diffusion" else self.model.extra(options.decoder)
        return decoder


def family_of(model: Model, compat: str = "repaired") -> Family:
    """How a model is spoken with."""
    made: Family = registry.find(model.config.SPEAKER)(model, compat)
    return made
