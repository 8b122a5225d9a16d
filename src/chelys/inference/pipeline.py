"""The networks in their order: ids and a voice to takes, the best of them to waves.

    ids + voice -> N takes of codes -> ranked by CLVP -> latents of the best -> mel -> wave
                                                        latents --HiFi-GAN----> wave, piece by piece

t text ids, m codes, d width of the latents, n samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from chelys.audio.rates import OUTPUT_RATE, PUBLISHED_CODE_RATE, mel_frames
from chelys.inference import rerank
from chelys.inference.decode import Prompt, Take, code_limit, decode, decode_stream
from chelys.inference.diffusion_sampling import sample_mel
from chelys.inference.options import SpeechOptions
from chelys.inference.voice import Voice, clip_mels
from chelys.tortoise.code_rules import CodeRules
from chelys.tortoise.hifigan import HiFiGAN
from chelys.weights.folder import Model

#: Codes between two pieces of a streamed wave, as published: 1.9 seconds.
STREAMED_CODES = 40

Counter = Callable[[int, int], None]


class Pipeline:
    """A model at work on one sentence at a time.

    Args:
        model: Loaded.
        reference: Do as the original did, faults included.
    """

    def __init__(self, model: Model, *, reference: bool = False) -> None:
        self.model, self.reference = model, reference
        parameter = next(model.autoregressive.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype

    def ids(self, ids: list[int]) -> Tensor:
        """Ids of a text ``(t,)``, with the stops that this family of models wants behind them."""
        stops = [self.model.config.autoregressive.stop_text] * self.model.config.text_stops
        return torch.tensor(ids + stops, device=self.device)

    def prompt(self, ids: Tensor, voice: Voice, options: SpeechOptions) -> Prompt:
        """What takes of a text are sampled from."""
        conditioning = voice.reader.to(self.device, self.dtype)
        return Prompt(conditioning, ids, options.most_codes or code_limit(len(ids)))

    def sample(
        self, prompt: Prompt, options: SpeechOptions, generators: list[torch.Generator], progress: Counter | None
    ) -> list[Take]:
        """A take for each generator."""
        return decode(
            self.model.autoregressive, [prompt] * len(generators), options, generators,
            rules=self._rules(options), reference=self.reference, progress=progress,
        )  # fmt: skip

    def _rules(self, options: SpeechOptions) -> CodeRules | None:
        """The rules of this model's codes; a row is as long as a take may be."""
        rules = self.model.config.code_rules
        return replace(rules, length=options.most_codes) if rules and options.most_codes else rules

    def rank(
        self, ids: Tensor, takes: list[Take], voice: Voice, options: SpeechOptions
    ) -> tuple[list[float], list[int]]:
        """Scores in the order of the takes, and the places of the takes, best first.

        Raises:
            VoiceError: If CVVP has a weight, but the voice carries no clips.
            ModelError: If it has a weight, but the model lacks it.
        """
        cvvp, clips = None, torch.zeros(0)
        if options.cvvp:
            clips = clip_mels(voice, reference=self.reference).to(self.device, self.dtype)
            cvvp = self.model.extra("cvvp")
        scores = rerank.score(
            self.model.clvp, ids, takes, rules=self._rules(options), cvvp=cvvp, clips=clips, weight=options.cvvp
        )
        return scores, rerank.ranked(takes, scores, reference=self.reference)

    def render(
        self, ids: Tensor, codes: Tensor, voice: Voice, generator: torch.Generator, options: SpeechOptions,
        progress: Counter | None,
    ) -> np.ndarray:  # fmt: skip
        """Codes ``(m,)`` of one take to its wave ``(n,)``."""
        model, rules = self.model, self._rules(options)
        heard = voice.autoregressive.to(self.device, self.dtype)[None]
        if options.decoder == "hifigan":
            latents = model.autoregressive.latents(heard, ids[None], codes[None])
            return _wave(self._hifigan().decode(latents, heard))
        if rules is not None:
            codes = rules.rendered(codes)
        latents = model.autoregressive.latents(heard, ids[None], codes[None])
        mel = self._mel(latents, voice, generator, options, progress)
        return _wave(model.vocoder.vocode(model.config.mel_range.denormalize(mel.float()).to(self.dtype), generator))

    def _mel(
        self, latents: Tensor, voice: Voice, generator: torch.Generator, options: SpeechOptions,
        progress: Counter | None,
    ) -> Tensor:  # fmt: skip
        """Latents ``(1, m, d)`` to the mel ``(1, f, s)`` that the diffusion decoder makes of them."""
        config, network = self.model.config, self.model.diffusion
        rate = PUBLISHED_CODE_RATE if config.front_end == "published" else OUTPUT_RATE
        frames = mel_frames(latents.shape[1], rate)
        rendered = voice.diffusion.to(self.device, self.dtype)[None]
        content = network.content(latents, rendered, frames // network.config.patch)

        def noise() -> Tensor:
            # in single precision whatever the networks compute with, so that many steps add up
            return torch.randn(1, network.config.bands, frames, generator=generator).to(self.device)

        return sample_mel(
            network, content, noise() * options.diffusion_temperature, options.steps, options.guidance,
            config.mel_range.bounds, sampler=options.sampler, eta=options.eta, guidance_ramp=options.guidance_ramp,
            noise=noise, progress=progress,
        )  # fmt: skip

    @torch.inference_mode()
    def stream(
        self, prompt: Prompt, options: SpeechOptions, generator: torch.Generator
    ) -> Iterator[tuple[np.ndarray, list[int]]]:
        """One take by HiFi-GAN, while it is being sampled.

        Yields:
            Wave ``(n,)`` as far as further codes cannot change it, and the codes that were sampled for it.
        """
        hifigan = self._hifigan()
        heard = prompt.conditioning[None]
        latents: list[Tensor] = []
        codes: list[int] = []
        done = 0  # mel frames given away

        def piece(end: int) -> np.ndarray:
            return _wave(hifigan.decode_window(torch.stack(latents)[None], heard, done, end - done))

        sampled = decode_stream(
            self.model.autoregressive, prompt, options, generator, rules=self._rules(options),
            reference=self.reference,
        )  # fmt: skip
        for code, latent in sampled:
            latents.append(latent)
            codes.append(code)
            settled = hifigan.settled_frames(len(latents))
            if len(codes) >= STREAMED_CODES and settled > done:
                yield piece(settled), codes
                done, codes = settled, []
        end = hifigan.frames(len(latents))
        if end > done:
            yield piece(end), codes

    def _hifigan(self) -> HiFiGAN:
        return self.model.extra("hifigan")


def _wave(samples: Tensor) -> np.ndarray:
    return samples.flatten().float().cpu().numpy()
