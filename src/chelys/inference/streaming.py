"""One sentence in pieces, while it is still being sampled.

``pieces`` is for decoders of latents, which settle from left to right. ``early_pieces`` is for diffusion, which looks
both ways: candidates are sampled to a first length, the one that says a beginning of the text best is rendered, all
others go on from it, and so on with longer pieces. Each piece sees some codes beyond its end, and is rendered together
with the end of the piece before, which is known: so it follows on from it. The waveform is made of the whole mel so
far, with the same noise, so phases run on.

f bands, s mel frames, m codes, d width of the latents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from chelys.audio.rates import OUTPUT_RATE
from chelys.inference.family import LatentDecoder
from chelys.inference.generation import CodeGroup, CodeSampler, generate_stream
from chelys.inference.speech import Candidate, Chunk, Progress, as_audio, silence

if TYPE_CHECKING:
    from chelys.inference.rendering import SentencePlan
    from chelys.inference.synthesizer import Synthesizer

#: Codes between two pieces of a streamed candidate: 1.9 seconds, as published.
STREAMED_CODES = 40
#: Codes of the first piece that comes early; how many times as long as all before the next ones are, and at most.
FIRST_CODES, GROWTH, MAX_PIECE = 16, 1.5, 160
#: Codes that are seen beyond a piece: more than the vocoder sees, of nano 27 frames.
AHEAD = 8
#: Codes of the earlier piece that are rendered again with a piece, and how many of those ahead are not kept for it.
CONTEXT, LOOSE = 16, 2


@torch.inference_mode()
def pieces(tts: Synthesizer, plan: SentencePlan, decoder: LatentDecoder) -> Iterator[Chunk]:
    """The only candidate of a sentence while it is being sampled; the first piece carries the text.

    Each piece reaches as far as further codes cannot change it.
    """
    prompt, options = plan.prompt, plan.options
    text = plan.sentence.text
    latents: list[torch.Tensor] = []
    codes: list[int] = []
    done = 0  # mel frames given away

    def piece(end: int) -> Chunk:
        nonlocal text, done, codes
        window = decoder.decode_window(torch.stack(latents)[None], prompt.conditioning[None], done, end - done)
        audio = as_audio(window)
        chunk = Chunk(audio, OUTPUT_RATE, text, [Candidate(audio, math.nan, [codes])])
        text, done, codes = "", end, []
        return chunk

    rules = tts.family.decoding_rules(options)
    if plan.sentence.lead_s:
        yield _pause(plan.sentence.lead_s)
    sampled = generate_stream(tts.reader, prompt, options, plan.generators[0], rules=rules)
    for code, latent in sampled:
        latents.append(latent)
        codes.append(code)
        settled = decoder.settled_frames(len(latents))
        if len(codes) >= STREAMED_CODES and settled > done:
            yield piece(settled)
    end = decoder.frames(len(latents))
    if end > done:
        yield piece(end)
    if plan.sentence.pause_s:
        yield _pause(plan.sentence.pause_s)


@torch.inference_mode()
def early_pieces(
    tts: Synthesizer, plan: SentencePlan, first_codes: int = FIRST_CODES, progress: Progress | None = None
) -> Iterator[Chunk]:
    """A sentence in pieces, the first as soon as it can be; it carries the text, the last one the scores.

    ``first_codes``: how many the first piece has; ``progress``: called while codes are sampled and pieces rendered.
    """
    options, sentence, model = plan.options, plan.sentence, tts.model
    sampler = CodeSampler(tts.reader)
    group = sampler.join(plan.prompt, options, plan.generators, tts.family.decoding_rules(options), whole=True)
    noise = torch.Generator().manual_seed(plan.generators[0].initial_seed() ^ 1)  # the candidates draw other numbers
    mel = torch.empty(1, model.config.diffusion.bands, 0, device=tts.device)
    source = torch.empty(1, model.vocoder.config.noise_dim, 0)
    done, wanted, text = 0, first_codes, sentence.text  # codes given away, codes of the next piece

    def step() -> None:
        sampler.step()
        if progress:
            progress("sampling", group.steps, group.max_codes)

    while True:
        while len(group.active) == len(group.generators) and group.steps < done + wanted + AHEAD:
            step()
        last = len(group.active) < len(group.generators)  # the others will soon come to their end
        while last and group.active:
            step()
        best, scores = _best(tts, plan, group, last=last)
        codes = group.codes[best]
        end = len(codes) if last else done + wanted
        first, kept = max(0, done - CONTEXT), done + AHEAD - LOOSE if done else 0
        start, known, frames = (tts.frames(count, options) if count else 0 for count in (first, kept, len(codes)))
        latents = tts.latents(
            plan.prompt.text_ids, torch.tensor(codes, device=tts.device), plan.voice,
            group.latents[best] if tts.keeps_latents(plan) else (),
        )[:, first:]  # fmt: skip
        window = tts.mel(latents, plan.voice, noise, options, frames - start, progress, known=mel[:, :, start:known])
        mel = torch.cat((mel[:, :, :start], window), dim=2)
        fresh = torch.randn(1, frames - source.shape[2], source.shape[1], generator=noise).transpose(1, 2)
        source = torch.cat((source, fresh), dim=2)
        wave = as_audio(model.vocoder(tts.log_mel(mel), source.to(mel.device)).clamp(-1.0, 1.0))
        hop = len(wave) // frames
        audio = wave[hop * (tts.frames(done, options) if done else 0) : hop * tts.frames(end, options)]
        if not done:
            audio = np.concatenate((silence(sentence.lead_s), audio))
        if not last:
            piece = Candidate(audio, math.nan, [codes[done:end]])
            yield Chunk(audio, OUTPUT_RATE, text, [piece], complete=False)
            sampler.follow(group, best)
            done, wanted, text = end, min(round(GROWTH * end), MAX_PIECE), ""
            continue
        audio = np.concatenate((audio, silence(sentence.pause_s)))
        warnings = []
        if not group.stopped[best]:
            warnings.append(f"no candidate came to its end: {sentence.text[:60]!r} may be cut or ramble")
        yield Chunk(audio, OUTPUT_RATE, text, [Candidate(audio, scores[best], [codes[done:end]])], scores, warnings)
        return


def _best(tts: Synthesizer, plan: SentencePlan, group: CodeGroup, *, last: bool) -> tuple[int, list[float]]:
    """The candidate that says the text best, or a beginning of it, and the scores of all."""
    if len(group.generators) == 1:
        return 0, [math.nan]
    if last:
        scores, order = tts.rank(plan, group.candidates)
        return order[0], scores
    codes = torch.tensor(group.codes, device=tts.device)
    beginnings = tts.model.clvp.score_beginnings(plan.prompt.text_ids[None], codes)
    return int(beginnings.argmax()), beginnings.tolist()


def _pause(seconds: float) -> Chunk:
    return Chunk(silence(seconds), OUTPUT_RATE, "", [Candidate(silence(seconds), math.nan, [])])
