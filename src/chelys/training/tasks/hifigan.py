"""HiFi-GAN's stage: latents of a frozen autoregressive decoder to a wave, past diffusion decoder and vocoder.

How the published network was trained is not public. What stands here is the objective of HiFi-GAN's own paper (Kong et
al. 2020, section 2.3) on the latents of the TorToise trick: teacher-forced, the state that foretells each code, in the
voice of another clip of the speaker. XTTS (Casanova et al. 2024) trains its decoder so, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from chelys.data.dataset import Clip
from chelys.data.pairs import Batch, Pairs
from chelys.errors import ConfigError
from chelys.models.autoregressive import Autoregressive
from chelys.tortoise.hifigan import HiFiGAN, frame_count, stretch_rows
from chelys.training.discriminators import Judges
from chelys.training.stage import map_tensors
from chelys.training.tasks.adversarial import AdversarialConfig, AdversarialStage, Made, mean_figures


@dataclass(frozen=True, kw_only=True)
class HiFiGANStageConfig(AdversarialConfig):
    """Batches and weights of the stage; the defaults are those of HiFi-GAN's paper.

    Attributes:
        frames: Mel frames of a crop.
    """

    frames: int = 32
    mel: float = 45.0
    mel_spectra: int = 1
    adversarial: float = 1.0
    feature: float = 2.0
    adversarial_from: int = 0
    judges: Judges = "hifigan"


class HiFiGANBatch(NamedTuple):
    """Pairs as in ``Batch``, the first mel frame of each row's crop ``(b,)``, its wave ``(b, n)``, the batch's step."""

    text: Tensor
    text_lengths: Tensor
    codes: Tensor
    code_lengths: Tensor
    reference: Tensor
    first: Tensor
    wave: Tensor
    step: int


class HiFiGANStage(AdversarialStage):
    """Pairs in, waves out."""

    name = "hifigan"

    def __init__(self, network: HiFiGAN, decoder: Autoregressive, pairs: Pairs, config: HiFiGANStageConfig) -> None:
        sizes = (decoder.config.dim, decoder.config.dim)
        if sizes != (network.config.latent_dim, network.config.voice_dim):
            raise ConfigError(
                f"the decoder is {sizes[0]} wide; set network.latent_dim and network.voice_dim to that, "
                f"not {network.config.latent_dim} and {network.config.voice_dim}"
            )
        if pairs.features.front_end != "codes":
            raise ConfigError(
                f"{pairs.features.folder} is of the shared front end; HiFi-GAN reads latents of codes at 22.05 kHz: "
                "make features with 'chelys data features --front-end codes'"
            )
        self.set_players(network, config)
        self.frozen: dict[str, nn.Module] = {"decoder": decoder}
        self.hifigan, self.decoder, self.pairs, self.config = network, decoder, pairs, config

    def rows(self, step: int) -> int:
        return len(self.pairs.clips(step))

    def batch(self, step: int) -> HiFiGANBatch:
        return self.part(step, slice(None))

    def clips(self, step: int) -> list[str]:
        return [clip.id for clip in self.pairs.clips(step)]

    def part(self, step: int, rows: slice) -> HiFiGANBatch:
        clips = self.pairs.clips(step)
        frames = self._length(clips)
        numbers = range(len(clips))[rows]
        rngs = [np.random.default_rng([self.pairs.seed, step, row, 5]) for row in numbers]
        return self._crop([clips[row] for row in numbers], self.pairs.batch(step, rows), rngs, frames, step)

    def _length(self, clips: list[Clip]) -> int:
        return min(self.config.frames, min(frame_count(clip.codes) for clip in clips))

    def _crop(
        self, clips: list[Clip], batch: Batch, rngs: list[np.random.Generator], frames: int, step: int
    ) -> HiFiGANBatch:
        first = [int(rng.integers(frame_count(clip.codes) - frames + 1)) for clip, rng in zip(clips, rngs, strict=True)]
        waves = [self.pairs.features.waveform(clip, start, frames) for clip, start in zip(clips, first, strict=True)]
        return HiFiGANBatch(
            batch.text, batch.text_lengths, batch.codes, batch.code_lengths, batch.reference,
            torch.tensor(first), torch.stack(waves), step,
        )  # fmt: skip

    def make(self, batch: HiFiGANBatch) -> Made:
        frames = batch.wave.shape[1] // self.hifigan.config.hop
        with torch.no_grad():
            voice = self.decoder.condition(batch.reference)
            latents = self.decoder(voice, batch.text, batch.text_lengths, batch.codes, batch.code_lengths)[2]
            stretched = stretch_rows(latents.float().transpose(1, 2), batch.code_lengths, batch.first, frames)
        return Made(self.hifigan(stretched, voice), {})

    def evaluate(self) -> dict[str, float]:
        """Distances of crops of held-out clips."""
        figures = []
        device = next(self.hifigan.parameters()).device
        for index, clip in enumerate(self.pairs.test[: self.config.test_clips]):
            rng = np.random.default_rng([7, index])
            batch = self._crop([clip], self.pairs.collate([clip], rng), [rng], self._length([clip]), 0)
            batch = map_tensors(batch, lambda tensor: tensor.to(device))
            figures.append(self.distance(self.make(batch).wave, batch.wave))
        return mean_figures(figures)
