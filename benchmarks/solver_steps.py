"""How far few steps of nano's solver end from many, on the same codes and the same noise.

    python benchmarks/solver_steps.py [--reference 80]
    python benchmarks/solver_steps.py --published

Mean absolute difference of log-mels, in nats, over sentences that no setting was chosen on, with the guidance of
``fast`` and without. ``power`` packs the steps towards the clean end, t = 3999 (1 - i / N) ** power.

With ``--published`` nano's network samples as the published presets do: the reference is 400 evenly spaced steps of
DDIM, which adds no noise of its own, with guidance 2 that grows from step to step, and without guidance.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor

import chelys
from chelys.inference import diffusion_sampling, synthesizer
from chelys.models.diffusion_schedule import packed_timesteps

SENTENCES = ("The hogs were fed corn.", "Four hours of steady work faced us.", "Smoky fires lack flame and heat.")
SETTINGS = {
    3.5: ((10, 1.5), (10, 3.0), (8, 3.0), (7, 3.0), (6, 1.5), (6, 3.0), (5, 3.0)),
    0.0: ((6, 1.5), (6, 3.0), (5, 3.0), (4, 1.5), (4, 3.0)),
}
#: Sampler and steps of the published presets, and those of the paper, against few steps of the solver.
PUBLISHED = (
    ("ddim", 30), ("ddim", 64), ("ddim", 80), ("ddim", 200),
    ("dpm++2m", 8), ("dpm++2m", 10), ("dpm++2m", 15), ("dpm++2m", 18), ("dpm++2m", 20),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=int, default=80, help="Steps of the mel that is compared with.")
    parser.add_argument("--published", action="store_true", help="The published schedule and guidance.")
    args = parser.parse_args()
    tts = chelys.load(device="cpu")
    cases = list(map_cases(tts))
    bounds, nats = tts.model.config.mel_range, (tts.model.config.mel_range.high - tts.model.config.mel_range.low) / 2
    if args.published:
        published(tts, cases, nats)
        return
    for guidance, settings in SETTINGS.items():

        def mel(case: tuple[Tensor, Tensor], steps: int, power: float, guidance: float = guidance) -> Tensor:
            diffusion_sampling.packed_timesteps = lambda count, train_steps: packed_timesteps(count, power, train_steps)
            return diffusion_sampling.sample_mel(tts.model.diffusion, *case, steps, guidance, bounds.bounds)

        wanted = [mel(case, args.reference, 3.0) for case in cases]
        for steps, power in settings:
            apart = [
                float((mel(case, steps, power) - far).abs().mean()) for case, far in zip(cases, wanted, strict=True)
            ]
            print(
                f"guidance {guidance}  {steps:2} steps  power {power}  {nats * sum(apart) / len(apart):.4f}", flush=True
            )


def published(tts: chelys.Synthesizer, cases: list[tuple[Tensor, Tensor]], nats: float) -> None:
    """Compare with 400 steps of the published schedule."""
    for guidance in (2.0, 0.0):

        def mel(case: tuple[Tensor, Tensor], sampler: Any, steps: int, guidance: float = guidance) -> Tensor:
            bounds = tts.model.config.mel_range.bounds
            return diffusion_sampling.sample_mel(
                tts.model.diffusion, *case, steps, guidance, bounds, sampler=sampler, guidance_ramp=True
            )

        wanted = [mel(case, "ddim", 400) for case in cases]
        for sampler, steps in PUBLISHED:
            apart = [
                float((mel(case, sampler, steps) - far).abs().mean()) for case, far in zip(cases, wanted, strict=True)
            ]
            print(f"guidance {guidance}  {sampler:7} {steps:3} steps  {nats * sum(apart) / len(apart):.4f}", flush=True)


def map_cases(tts: chelys.Synthesizer) -> Any:
    """Conditioning and noise of each sentence, as speaking makes them."""
    found: list[tuple[Tensor, Tensor]] = []

    def note(network: object, conditioning: Tensor, start: Tensor, *_: object, **__: object) -> Tensor:
        found.append((conditioning.clone(), start.clone()))
        return start

    real, synthesizer.sample_mel = synthesizer.sample_mel, note  # type: ignore[assignment]
    for number, text in enumerate(SENTENCES):
        tts.speak(text, voice=tts.voice_names[number % len(tts.voice_names)], seed=70 + number)
    synthesizer.sample_mel = real
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
