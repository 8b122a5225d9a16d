"""Candidates of a sentence to its waveform: ranked by CLVP, latents of the best, mel, waveform.

t text ids, m codes, d width of the latents, f bands, s mel frames, n samples.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chelys.audio.rates import OUTPUT_RATE, mel_frames
from chelys.inference.diffusion_sampling import sample_mel
from chelys.inference.family import Family, Redactor
from chelys.inference.generation import CodeCandidate, Prompt
from chelys.inference.memory import MemoryLimit
from chelys.inference.options import SpeechOptions
from chelys.inference.reranking import rank, score
from chelys.inference.speech import Candidate, Chunk, Progress, as_audio, silence
from chelys.inference.voice import Voice
from chelys.text.document import Sentence
from chelys.weights.folder import Model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SentencePlan:
    """One sentence, ready to be sampled."""

    sentence: Sentence
    prompt: Prompt
    generators: list[torch.Generator]  # one for each candidate; sampling and rendering go on with it
    voice: Voice
    options: SpeechOptions
    keep: int  # candidates to render
    redaction: Redactor | None  # what cuts prompts out of the audio


class Renderer:
    """Ranks and renders with the networks of a model."""

    def __init__(self, model: Model, family: Family) -> None:
        self.model, self.family = model, family
        self._memory: MemoryLimit | None = None
        parameter = next(model.autoregressive.parameters())
        self.device, self._dtype = parameter.device, parameter.dtype

    # ---- candidates -------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def finish(
        self, plan: SentencePlan, candidates: Sequence[CodeCandidate], progress: Progress | None = None
    ) -> Chunk:
        """Rank the candidates of a sentence, one for each of its generators, and render the best."""
        started = time.perf_counter()
        scores, order = self.rank(plan, candidates)
        best = order[: plan.keep]
        log.info("ranked them, best is number %d: %.2f s", best[0] + 1, time.perf_counter() - started)
        log.debug("scores %s", " ".join(f"{value:.4f}" for value in scores))
        lead, pause = silence(plan.sentence.lead_s), silence(plan.sentence.pause_s)
        kept, started = [], time.perf_counter()
        for i in best:
            audio = self.render_candidate(plan, candidates[i], plan.generators[i], progress)
            kept.append(Candidate(np.concatenate((lead, audio, pause)), scores[i], [candidates[i].codes.tolist()]))
        spent = time.perf_counter() - started
        log.info("rendered %d of them, %.2f s of sound: %.2f s", len(kept), len(kept[0].audio) / OUTPUT_RATE, spent)
        warnings = []
        if not candidates[best[0]].stopped:
            warnings.append(f"no candidate came to its end: {plan.sentence.text[:60]!r} may be cut or ramble")
        return Chunk(kept[0].audio, OUTPUT_RATE, plan.sentence.text, kept, scores, warnings)

    def rank(self, plan: SentencePlan, candidates: Sequence[CodeCandidate]) -> tuple[list[float], list[int]]:
        """Scores of the candidates of a sentence, and their places, best first."""
        family, options = self.family, plan.options
        self._let_go("autoregressive")
        scores = score(
            self.model.clvp, plan.prompt.text_ids, candidates, row=family.row(options),
            scorers=family.scorers(plan.voice, options), clvp_weight=1.0 - options.cvvp,
        )  # fmt: skip
        self._let_go("clvp")
        return scores, rank(candidates, scores, unstopped_last=family.unstopped_last)

    def keeps_latents(self, plan: SentencePlan) -> bool:
        """Whether what a candidate of a sentence was sampled from is what it is rendered from."""
        # the voice renders with what it samples with, and codes stand at their places
        return plan.voice.blended is None and not self.family.decoding_rules(plan.options).position_offset

    @torch.inference_mode()
    def render_candidate(
        self, plan: SentencePlan, candidate: CodeCandidate, generator: torch.Generator,
        progress: Progress | None = None,
    ) -> np.ndarray:  # fmt: skip
        """The waveform ``(n,)`` of one candidate of a sentence, without pauses; its generator goes on from sampling."""
        latents = candidate.latents if self.keeps_latents(plan) else ()
        audio = self.render(
            plan.prompt.text_ids, candidate.codes, plan.voice, generator, plan.options, progress, latents=latents
        )
        return audio if plan.redaction is None else plan.redaction.cut(audio, plan.sentence.text)

    # ---- codes to audio ---------------------------------------------------------------------------------------------

    def render(
        self, text_ids: Tensor, codes: Tensor, voice: Voice, generator: torch.Generator, options: SpeechOptions,
        progress: Progress | None = None, *, latents: Sequence[Tensor] = (),
    ) -> np.ndarray:  # fmt: skip
        """Codes ``(m,)`` of one candidate to its waveform ``(n,)``.

        ``latents``: of each code ``(d,)``, where they are known; else they are computed.
        """
        decoder = self.family.latent_decoder(options)
        trimmed = codes if decoder is not None else self.family.trim_codes(codes, options)
        states = self.latents(text_ids, trimmed, voice, latents if torch.equal(trimmed, codes[: len(trimmed)]) else ())
        if decoder is not None:
            return as_audio(decoder.decode(states, voice.autoregressive.to(self.device, self._dtype)[None]))
        mel = self.mel(states, voice, generator, options, self.frames(len(trimmed), options), progress)
        return as_audio(self.model.vocoder.vocode(self.log_mel(mel), generator))

    def latents(self, text_ids: Tensor, codes: Tensor, voice: Voice, known: Sequence[Tensor] = ()) -> Tensor:
        """Latents ``(1, m, d)`` of codes ``(m,)``: what is known of each ``(d,)``, or else computed."""
        if len(known) >= len(codes) > 0:
            return torch.stack(tuple(known[: len(codes)]))[None]
        conditioning = voice.autoregressive.to(self.device, self._dtype)[None]
        latents = self.model.autoregressive.latents(conditioning, text_ids[None], codes[None])
        self._let_go("autoregressive")
        return latents

    def log_mel(self, mel: Tensor) -> Tensor:
        """A mel in network units as what the vocoder reads."""
        return self.model.config.mel_range.denormalize(mel.float()).to(self._dtype)

    def frames(self, codes: int, options: SpeechOptions) -> int:
        """Mel frames of so many codes, a multiple of what makes one position.

        Another pace is another stretch of the latents: the decoder renders more or fewer frames of the same codes.
        """
        frames = mel_frames(codes, self.family.code_rate)
        if options.speed != 1:
            patch = self.model.config.diffusion.patch
            frames = max(1, round(frames / options.speed / patch)) * patch
        return frames

    def mel(
        self, latents: Tensor, voice: Voice, generator: torch.Generator, options: SpeechOptions, frames: int,
        progress: Progress | None = None, *, known: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Latents ``(1, m, d)`` to the mel ``(1, f, s)``, in network units, that the diffusion decoder makes of them.

        ``frames``: how many, s. ``known``: its first frames ``(1, f, k)``, where they are known.
        """
        network, distilled = self.model.diffusion, options.sampler == "distilled"
        speaker = voice.diffusion.to(self.device, self._dtype)[None]
        conditioning = network.conditioning(latents, speaker, frames // network.config.patch)
        bounds = self.model.config.mel_range.bounds
        if known is not None:
            known = network.without_spectrum(known, speaker)

        def noise() -> Tensor:
            # float32 whatever the networks compute with, so that many steps add up
            return torch.randn(1, network.config.bands, frames, generator=generator).to(self.device)

        mel = sample_mel(
            network, conditioning, noise() * options.diffusion_temperature, options.steps,
            0.0 if distilled else options.guidance, network.bounds(bounds), sampler=options.sampler,
            eta=options.eta, guidance_ramp=options.guidance_ramp, guidance_share=options.guidance_share, noise=noise,
            known=known, adapters=self.model.adapters if distilled else None, progress=progress,
        )  # fmt: skip
        self._let_go("diffusion")
        return network.with_spectrum(mel, speaker, bounds)

    def _let_go(self, network: str) -> None:
        if self._memory is not None:
            self._memory.let_go(network)
