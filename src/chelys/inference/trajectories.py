"""Trajectories of the guided diffusion decoder, which a distilled one learns from (`chelys.training.distillation`).

The model speaks sentences, no corpus is needed: of each the best candidate is rendered by DPM-Solver++ with guidance,
two passes a step, and some of the noisy mels on the way are kept: not the end, since the last step of a distilled
decoder is one of the network as it is. Without guidance, that sounds better than many with it (guidance in a limited
interval, Kynkaanniemi et al. 2024).

f bands, s mel frames, d width, p positions, k steps of the student.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from chelys.files import atomic_path, output_errors
from chelys.inference.diffusion_sampling import dpm_step, guided_x0, sampling_schedule
from chelys.inference.generation import CodeCandidate, CodeSampler
from chelys.inference.options import SpeechOptions
from chelys.inference.rendering import SentencePlan
from chelys.inference.speech import Progress
from chelys.inference.synthesizer import Synthesizer
from chelys.inference.voice import Voice
from chelys.models.diffusion_steps import DiffusionSteps

#: Sentences that are sampled together, and candidates of each.
TOGETHER, CANDIDATES = 8, 2


def make_trajectories(
    tts: Synthesizer, texts: Sequence[str], voices: Sequence[Voice], folder: Path, *, sentences: int, kept: int,
    steps: int, guidance: float, seed: int, progress: Progress | None = None,
) -> list[Path]:  # fmt: skip
    """A file for each sentence; those that are there are not made again.

    A file holds ``conditioning`` ``(1, d, p)`` and ``mels`` ``(k, f, s)``, the noise first, in half precision.
    Sentences without an end are left out, so there may be fewer than were asked for. Raises OutputError if they cannot
    be written.

    Args:
        tts: The teacher.
        texts: Of which sentences are drawn.
        voices: Each sentence is spoken by one of them.
        folder: Of the files.
        sentences: How many.
        kept: Mels that are kept of each, k: the noise, and those before each further step of the student.
        steps: Steps of the teacher, a multiple of the student's.
        guidance: Weight w of its guidance.
        seed: Of all that is random.
        progress: Called with the stage, the sentences done and their number.
    """
    options = tts.options("fast", candidates=CANDIDATES, sampler="dpm++2m", steps=steps, guidance=guidance)
    with output_errors(folder, "choose another --out"):
        folder.mkdir(parents=True, exist_ok=True)
        for start in range(0, sentences, TOGETHER):
            numbers = range(start, min(start + TOGETHER, sentences))
            done = folder / f"{start:06d}.done"
            if not done.exists():
                plans = [_draw(tts, texts, voices, options, [seed, number]) for number in numbers]
                for number, tensors in zip(numbers, _trajectories(tts, plans, kept), strict=True):
                    if tensors:
                        with atomic_path(folder / f"{number:06d}.safetensors") as unfinished:
                            save_file(tensors, unfinished)
                done.touch()
            if progress:
                progress("making trajectories", numbers.stop, sentences)
    return sorted(path for path in folder.glob("*.safetensors") if int(path.stem) < sentences)


def _draw(
    tts: Synthesizer, texts: Sequence[str], voices: Sequence[Voice], options: SpeechOptions, seed: list[int]
) -> SentencePlan:
    """The plan of one sentence; its text, its voice and its random numbers follow from the seed."""
    rng = np.random.default_rng(seed)
    text, voice = texts[int(rng.integers(len(texts)))], voices[int(rng.integers(len(voices)))]
    return tts.plan(text, voice=voice, options=options, seed=int(rng.integers(1 << 31)))[0]


@torch.inference_mode()
def _trajectories(tts: Synthesizer, plans: Sequence[SentencePlan], kept: int) -> Iterator[dict[str, Tensor]]:
    """Of each sentence the tensors of its file; none where no candidate came to its end."""
    sampler = CodeSampler(tts.reader)
    groups = [sampler.join(p.prompt, p.options, p.generators, tts.family.decoding_rules(p.options)) for p in plans]
    while sampler.groups:
        sampler.step()
    for plan, group in zip(plans, groups, strict=True):
        best = tts.rank(plan, group.candidates)[1][0]
        candidate = group.candidates[best]
        yield _trajectory(tts, plan, candidate, plan.generators[best], kept) if candidate.stopped else {}


def _trajectory(
    tts: Synthesizer, plan: SentencePlan, candidate: CodeCandidate, generator: torch.Generator, kept: int
) -> dict[str, Tensor]:
    network, options = tts.model.diffusion, plan.options
    bounds = network.bounds(tts.model.config.mel_range.bounds)
    known = candidate.latents if tts.keeps_latents(plan) else ()
    latents = tts.latents(plan.prompt.text_ids, candidate.codes, plan.voice, known)
    frames = tts.frames(len(candidate.codes), options)
    voice = plan.voice.diffusion.to(latents.device, latents.dtype)[None]
    conditioning = network.conditioning(latents, voice, frames // network.config.patch)
    x = torch.randn(1, network.config.bands, frames, generator=generator).to(latents.device)
    schedule = sampling_schedule(options.sampler, options.steps)
    steps = DiffusionSteps(network, conditioning, guided=options.guidance > 0)
    mels, x0_prev, each = [x], None, options.steps // kept
    for index in reversed(range(each, options.steps)):
        x0, _ = guided_x0(steps, schedule, index, x, conditioning, options.guidance, bounds)
        x, x0_prev = dpm_step(schedule, index, x, x0, x0_prev), x0
        if index % each == 0:
            mels.append(x)
    return {"conditioning": conditioning.half().cpu(), "mels": torch.cat(mels).half().cpu()}
