"""How far few steps of nano's solver end from many, on the same codes and the same noise.

    python benchmarks/solver_steps.py [--reference 80]

Mean absolute difference of log-mels, in nats, over sentences that no setting was chosen on, with the guidance of
``fast`` and without. ``power`` packs the steps towards the clean end, t = 3999 (1 - i / N) ** power.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=int, default=80, help="Steps of the mel that is compared with.")
    args = parser.parse_args()
    tts = chelys.load(device="cpu")
    cases = list(map_cases(tts))
    bounds, nats = tts.model.config.mel_range, (tts.model.config.mel_range.high - tts.model.config.mel_range.low) / 2
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
