"""Training of HiFi-GAN: latents of a frozen autoregressive decoder to a waveform, without diffusion and vocoder.

How the published network was trained is not public. This is the objective of HiFi-GAN's own paper (Kong et al. 2020,
section 2.3) on the latents of the TorToise trick: teacher-forced, the state that predicts each code, in the voice of
another clip of the speaker. XTTS (Casanova et al. 2024) trains its decoder so, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from torch import Tensor

from chelys.data.dataset import Clip
from chelys.data.pairs import Batch, Pairs
from chelys.errors import ConfigError
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.tortoise.hifigan import HiFiGAN, HiFiGANConfig, frame_count, stretch_rows
from chelys.training.checkpoint import load_trained
from chelys.training.config import PairedRun, published_sizes
from chelys.training.discriminators import DiscriminatorKind
from chelys.training.task import PairedData, Task, mean_metrics
from chelys.training.tasks.autoregressive import AutoregressiveSizes
from chelys.training.tasks.vocoder import AdversarialConfig, AdversarialTask, Generated


@dataclass(frozen=True, kw_only=True)
class HiFiGANTaskConfig(AdversarialConfig):
    """Crops and weights of the losses; the defaults are those of HiFi-GAN's paper."""

    frames: int = 32  # mel frames of a crop
    mel: float = 45.0
    mel_resolutions: int = 1
    generator_loss: float = 1.0
    feature_matching: float = 2.0
    discriminator_start: int = 0
    discriminators: DiscriminatorKind = "hifigan"


@dataclass(frozen=True, kw_only=True)
class HiFiGANRun(PairedRun):
    """Run of HiFi-GAN's stage; ``decoder`` and ``decoder_network`` as in the diffusion decoder's."""

    decoder: Path
    decoder_network: AutoregressiveSizes = field(default_factory=AutoregressiveConfig)
    network: Annotated[HiFiGANConfig, published_sizes(HiFiGANConfig.tortoise_v2)] = field(default_factory=HiFiGANConfig)
    stage: HiFiGANTaskConfig = field(default_factory=HiFiGANTaskConfig)

    def build(self) -> Task:
        network = HiFiGAN(self.network, weight_norm=True)
        decoder = load_trained(Autoregressive(self.decoder_network), self.decoder)
        return HiFiGANTask(network, decoder, HiFiGANData(self.load_pairs(), self.stage))


class HiFiGANBatch(NamedTuple):
    """Pairs as in ``Batch``, the first mel frame of each crop ``(b,)``, its waveform ``(b, n)``, the batch's step."""

    text: Tensor
    text_lengths: Tensor
    codes: Tensor
    code_lengths: Tensor
    reference: Tensor
    first: Tensor
    waveform: Tensor
    step: int


class HiFiGANData(PairedData):
    """Pairs, and a random crop of each clip's waveform."""

    def __init__(self, pairs: Pairs, config: HiFiGANTaskConfig) -> None:
        super().__init__(pairs)
        self.config = config
        if pairs.features.mel_spec != "codes":
            raise ConfigError(
                f"{pairs.features.folder} is of the shared mel spec; HiFi-GAN reads latents of codes at 22.05 kHz: "
                "make features with 'chelys data features --mel-spec codes'"
            )

    def load(self, step: int, rows: range) -> HiFiGANBatch:
        frames = self._length(self.pairs.clips(step))
        clips, rngs = self.chosen(step, rows, 5)
        return self._crop(clips, super().load(step, rows), rngs, frames, step)

    def _length(self, clips: list[Clip]) -> int:
        return min(self.config.frames, min(frame_count(clip.codes) for clip in clips))

    def _crop(
        self, clips: list[Clip], batch: Batch, rngs: list[np.random.Generator], frames: int, step: int
    ) -> HiFiGANBatch:
        first = [int(rng.integers(frame_count(clip.codes) - frames + 1)) for clip, rng in zip(clips, rngs, strict=True)]
        waveforms = [
            self.pairs.features.waveform(clip, start, frames) for clip, start in zip(clips, first, strict=True)
        ]
        return HiFiGANBatch(
            batch.text, batch.text_lengths, batch.codes, batch.code_lengths, batch.reference,
            torch.tensor(first), torch.stack(waveforms), step,
        )  # fmt: skip

    def held_out(self, index: int) -> HiFiGANBatch:
        """A crop of a held-out clip, the same every time."""
        clip, rng = self.pairs.test[index], np.random.default_rng([7, index])
        return self._crop([clip], self.pairs.collate([clip], rng), [rng], self._length([clip]), 0)


class HiFiGANTask(AdversarialTask):
    """Pairs in, waveforms out."""

    name = "hifigan"

    def __init__(self, network: HiFiGAN, decoder: Autoregressive, data: HiFiGANData) -> None:
        sizes = (decoder.config.dim, decoder.config.dim)
        if sizes != (network.config.latent_dim, network.config.voice_dim):
            raise ConfigError(
                f"the decoder is {sizes[0]} wide; set network.latent_dim and network.voice_dim to that, "
                f"not {network.config.latent_dim} and {network.config.voice_dim}"
            )
        self.set_modules(network, data.config)
        self.frozen = {"decoder": decoder}
        self.hifigan, self.decoder, self.config = network, decoder, data.config
        self.data: HiFiGANData = data

    def generate(self, batch: HiFiGANBatch) -> Generated:
        frames = batch.waveform.shape[1] // self.hifigan.config.hop
        with torch.no_grad():
            voice = self.decoder.condition(batch.reference)
            latents = self.decoder(voice, batch.text, batch.text_lengths, batch.codes, batch.code_lengths)[2]
            stretched = stretch_rows(latents.float().transpose(1, 2), batch.code_lengths, batch.first, frames)
        return Generated(self.hifigan(stretched, voice), {})

    def evaluate(self) -> dict[str, float]:
        """Spectral losses of crops of held-out clips."""
        metrics = []
        for index in range(len(self.data.pairs.test[: self.config.test_clips])):
            batch = self.to_device(self.data.held_out(index))
            metrics.append(self.spectral_metrics(self.generate(batch).waveform, batch.waveform))
        return mean_metrics(metrics)
