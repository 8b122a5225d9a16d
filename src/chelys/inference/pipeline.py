"""The networks in their order: ids and a voice to takes, the best of them to waves.

    ids + voice -> N takes of codes -> ranked by CLVP -> latents of the best -> mel -> wave
                                                        latents --(a latent decoder)--> wave, piece by piece

t text ids, m codes, d width of the latents, n samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from chelys.audio.rates import mel_frames
from chelys.inference import rerank
from chelys.inference.decode import Prompt, Take, code_limit, decode, decode_stream
from chelys.inference.diffusion_sampling import sample_mel
from chelys.inference.family import Family, LatentDecoder
from chelys.inference.options import SpeechOptions
from chelys.inference.voice import Voice

#: Codes between two pieces of a streamed wave, as published: 1.9 seconds.
STREAMED_CODES = 40

Counter = Callable[[int, int], None]


class Pipeline:
    """A model at work on one sentence at a time.

    Args:
        family: How the model is spoken with.
    """

    def __init__(self, family: Family) -> None:
        self.family, self.model = family, family.model
        parameter = next(self.model.autoregressive.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype

    def ids(self, ids: list[int]) -> Tensor:
        """Ids of a text ``(t,)``, with the stops that this family of models wants behind them."""
        stops = [self.model.config.autoregressive.stop_text] * self.family.text_stops
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
            rules=self.family.decoding(options), progress=progress,
        )  # fmt: skip

    def rank(
        self, ids: Tensor, takes: list[Take], voice: Voice, options: SpeechOptions
    ) -> tuple[list[float], list[int]]:
        """Scores in the order of the takes, and the places of the takes, best first.

        Raises:
            VoiceError: If CVVP has a weight, but the voice carries no clips.
            ModelError: If it has a weight, but the model lacks it.
        """
        scores = rerank.score(
            self.model.clvp, ids, takes, row=self.family.row(options), judges=self.family.judges(voice, options),
            clvp_weight=1.0 - options.cvvp,
        )  # fmt: skip
        return scores, rerank.ranked(takes, scores, finished_first=self.family.finished_first())

    def render(
        self, ids: Tensor, codes: Tensor, voice: Voice, generator: torch.Generator, options: SpeechOptions,
        progress: Counter | None,
    ) -> np.ndarray:  # fmt: skip
        """Codes ``(m,)`` of one take to its wave ``(n,)``."""
        model, decoder = self.model, self.family.latent_decoder(options)
        heard = voice.autoregressive.to(self.device, self.dtype)[None]
        if decoder is not None:
            latents = model.autoregressive.latents(heard, ids[None], codes[None])
            return _wave(decoder.decode(latents, heard))
        codes = self.family.trimmed(codes, options)
        latents = model.autoregressive.latents(heard, ids[None], codes[None])
        mel = self._mel(latents, voice, generator, options, progress)
        return _wave(model.vocoder.vocode(model.config.mel_range.denormalize(mel.float()).to(self.dtype), generator))

    def _mel(
        self, latents: Tensor, voice: Voice, generator: torch.Generator, options: SpeechOptions,
        progress: Counter | None,
    ) -> Tensor:  # fmt: skip
        """Latents ``(1, m, d)`` to the mel ``(1, f, s)`` that the diffusion decoder makes of them."""
        config, network = self.model.config, self.model.diffusion
        frames = mel_frames(latents.shape[1], self.family.code_rate)
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
        self, prompt: Prompt, options: SpeechOptions, generator: torch.Generator, decoder: LatentDecoder
    ) -> Iterator[tuple[np.ndarray, list[int]]]:
        """One take by a decoder of latents, while it is being sampled.

        Yields:
            Wave ``(n,)`` as far as further codes cannot change it, and the codes that were sampled for it.
        """
        heard = prompt.conditioning[None]
        latents: list[Tensor] = []
        codes: list[int] = []
        done = 0  # mel frames given away

        def piece(end: int) -> np.ndarray:
            return _wave(decoder.decode_window(torch.stack(latents)[None], heard, done, end - done))

        sampled = decode_stream(
            self.model.autoregressive, prompt, options, generator, rules=self.family.decoding(options)
        )
        for code, latent in sampled:
            latents.append(latent)
            codes.append(code)
            settled = decoder.settled_frames(len(latents))
            if len(codes) >= STREAMED_CODES and settled > done:
                yield piece(settled), codes
                done, codes = settled, []
        end = decoder.frames(len(latents))
        if end > done:
            yield piece(end), codes


def _wave(samples: Tensor) -> np.ndarray:
    return samples.flatten().float().cpu().numpy()
