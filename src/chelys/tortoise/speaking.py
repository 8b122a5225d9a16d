"""How models of TorToise's kind speak: what they do otherwise than chelys' own.

``compat="reference"`` does what the original did, its faults included: its cached loop embedded sampled code number n
in the place of number n + 1, unlike its training; nothing kept it from sampling the start code, or the stop at once;
every piece of a text began with the same seed; candidates ranked by their scores alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from chelys.audio.io import read_clip, read_clips
from chelys.audio.rates import PUBLISHED_CODE_RATE
from chelys.errors import VoiceError
from chelys.inference.family import Family, Redactor
from chelys.inference.generation import DecodingRules
from chelys.inference.options import NANO_PRESETS, SpeechOptions
from chelys.inference.reranking import Scorer
from chelys.inference.voice import Voice
from chelys.text.document import Sentence
from chelys.text.tokenizer import Tokenizer
from chelys.tortoise import redact, splitter
from chelys.tortoise.cvvp import CVVP
from chelys.tortoise.mel import read_published
from chelys.tortoise.model import SilenceTrimming, TortoiseConfig
from chelys.tortoise.tokenizer import TortoiseTokenizer
from chelys.tortoise.voices import clip_mels, published_latents, require_clips
from chelys.weights.folder import Model

_PUBLISHED = SpeechOptions(
    batch=16, temperature=0.8, top_p=0.8, repetition_penalty=2.0, max_new_tokens=500, sampler="ddpm", guidance=2.0,
    guidance_ramp=True, guidance_share=1.0, max_chars=300, redact=True,
)  # fmt: skip

#: TorToise v2's, as its author published them; the sixty-four DDIM steps of the paper (Betker 2023, section 4); and
#: one candidate that HiFi-GAN renders while it is being sampled. ``compat="reference"`` speaks with these.
PUBLISHED_PRESETS = {
    "ultra_fast": replace(_PUBLISHED, candidates=16, steps=30, guidance=0.0),
    "fast": replace(_PUBLISHED, candidates=96, steps=80),
    "standard": replace(_PUBLISHED, candidates=256, steps=200),
    "high_quality": replace(_PUBLISHED, candidates=256, steps=400),
    "paper": replace(_PUBLISHED, candidates=256, steps=64, sampler="ddim"),
    "streaming": replace(_PUBLISHED, candidates=1, decoder="hifigan"),
}
#: Steps of DPM-Solver++ in place of 30 to 400 of DDPM.
SOLVER_STEPS = {"ultra_fast": 10, "fast": 15, "standard": 18, "high_quality": 20}
#: The same with the solver, ``paper`` and ``streaming`` as they are.
PRESETS = PUBLISHED_PRESETS | {
    name: replace(PUBLISHED_PRESETS[name], sampler="dpm++2m", steps=steps) for name, steps in SOLVER_STEPS.items()
}


class TortoiseFamily(Family):
    """The published models, and others that are trained as they were; see ``Family``."""

    reads_tags = False
    speaks_early = False

    def __init__(self, model: Model, compat: str = "repaired") -> None:
        super().__init__(model, compat)
        self.reference = compat == "reference"
        self.unstopped_last = not self.reference
        self.config = config = cast(TortoiseConfig, model.config)
        self.text_stops = config.text_stops
        self.published_mels = config.mel_spec == "published"
        if self.published_mels:
            self.clip_rate = self.code_rate = PUBLISHED_CODE_RATE
        self.draws_voices = config.autoregressive_prior is not None and config.diffusion_prior is not None
        self._tokenizer: Tokenizer | None = None

    @property
    def presets(self) -> Mapping[str, SpeechOptions]:
        if self.config.family != "tortoise-v2":
            return NANO_PRESETS
        return PUBLISHED_PRESETS if self.reference else PRESETS

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's; with ``reference`` a copy that cleans texts as the original did."""
        theirs = self.model.tokenizer
        if not self.reference or not isinstance(theirs, TortoiseTokenizer):
            return theirs
        if self._tokenizer is None or self._tokenizer.core is not theirs.core:
            self._tokenizer = TortoiseTokenizer(theirs.core, cleaner=theirs.cleaner, reference=True)
        return self._tokenizer

    def split(self, text: str, options: SpeechOptions) -> list[Sentence]:
        if options.splitting != "tortoise":
            return super().split(text, options)
        return splitter.split_by_options(text, options, reference=self.reference)

    def seed_index(self, number: int) -> int:
        return 0 if self.reference else number

    def redaction(self, aligner: Any = None) -> Redactor:
        return redact.Redaction(self.tokenizer, aligner, self.model.device, reference=self.reference)

    # ---- voices -------------------------------------------------------------------------------------------------

    def read_clips(self, paths: Sequence[Path]) -> list[np.ndarray]:
        return read_clips(paths, self.clip_rate, reader=read_published if self.reference else read_clip)

    def conditioning_latents(self, clips: Sequence[np.ndarray], rate: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        if not self.published_mels:
            return super().conditioning_latents(clips, rate, seed=seed)
        networks = self.model.autoregressive, self.model.diffusion
        return published_latents(clips, rate, *networks, reference=self.reference, seed=seed)

    def draw_latents(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Those that the original draws: first for the autoregressive decoder, then for the diffusion decoder."""
        first, second = (self.model.extra(f"{part}_prior").draw(generator) for part in ("autoregressive", "diffusion"))
        return first, second

    # ---- codes --------------------------------------------------------------------------------------------------

    def _rules(self, options: SpeechOptions) -> SilenceTrimming | None:
        """Rules of this model's codes; a row is as long as a candidate may be."""
        rules = self.config.silence_trimming
        return replace(rules, length=options.max_new_tokens) if rules and options.max_new_tokens else rules

    def decoding_rules(self, options: SpeechOptions) -> DecodingRules:
        return decoding_rules(self._rules(options), reference=self.reference)

    def row(self, options: SpeechOptions) -> Callable[[Tensor], Tensor] | None:
        rules = self._rules(options)
        return rules.padded if rules else None

    def check_voice(self, voice: Voice, options: SpeechOptions) -> None:
        super().check_voice(voice, options)
        if options.cvvp:
            require_clips(voice)

    def scorers(self, voice: Voice, options: SpeechOptions) -> list[tuple[float, Scorer]]:
        """CVVP, which hears whether a candidate sounds like the clips, where the options give it a weight."""
        if not options.cvvp:
            return []
        weight = self.model.autoregressive.code_head.weight
        clips = clip_mels(voice, reference=self.reference).to(weight.device, weight.dtype)
        return cvvp_scorers(self.model.extra("cvvp"), clips, options.cvvp)

    def trim_codes(self, codes: Tensor, options: SpeechOptions) -> Tensor:
        rules = self._rules(options)
        return rules.trimmed(codes) if rules else codes


def decoding_rules(rules: SilenceTrimming | None, *, reference: bool = False) -> DecodingRules:
    """How codes under these rules are sampled; with ``reference`` as the original sampled them."""
    quirks = DecodingRules(constrained=False, position_offset=1) if reference else DecodingRules()
    return replace(quirks, max_codes=rules.length, sampled_before=rules.sampled_before) if rules else quirks


def cvvp_scorers(cvvp: CVVP | None, clips: Sequence[Tensor] | Tensor, weight: float) -> list[tuple[float, Scorer]]:
    """What scores codes ``(b, m)`` by the mean of their similarity to clips, which are mels ``(bands, s)``.

    Raises:
        VoiceError: If it has a weight, but nothing to listen to.
    """
    if not weight:
        return []
    if cvvp is None or len(clips) == 0:
        raise VoiceError(
            f"cvvp is {weight}, but there are no clips of the voice to compare with: give clips, or set cvvp to 0"
        )
    points = torch.cat([cvvp.encode_clip(mel[None]) for mel in clips])  # (clips, d)
    return [(weight, lambda codes: cvvp.similarity(points, cvvp.encode_speech(codes)).mean(0))]
