"""Training of the voice priors: noise to conditioning latents of random voices, distributed as those of real ones are.

The original matched mean and variance of each number of the conditioning latents over a batch. That leaves open which
numbers go together, so nano's default adds a kernel distance, which is 0 for the right distribution alone.

b rows, d width of the conditioning latents, f bands, s mel frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from chelys.audio.mel import MelRange
from chelys.data.dataset import Clip, ClipDataset
from chelys.data.pairs import repeat_to
from chelys.errors import ConfigError, ManifestError
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.diffusion import Diffusion, DiffusionConfig
from chelys.tortoise.voice_prior import VoicePrior, VoicePriorConfig
from chelys.training.checkpoint import load_trained
from chelys.training.config import FeatureRun
from chelys.training.losses import mean_loss, mmd, variance_loss
from chelys.training.task import FeatureData, Task
from chelys.training.tasks.autoregressive import AutoregressiveSizes
from chelys.training.tasks.diffusion import DiffusionSizes


@dataclass(frozen=True)
class VoicePriorTaskConfig:
    """Batches and weights of the losses."""

    RENAMED: ClassVar[dict[str, str | None]] = {"kernel": "mmd"}

    rows: int = 64  # voices in a batch, generated and real; the losses compare their statistics, so many are better
    frames: int = 256  # mel frames of a real voice's reference
    mean: float = 1.0  # weight of the squared difference of means
    variance: float = 1.0  # weight of the squared difference of variances
    mmd: float = 1.0  # weight of the maximum mean discrepancy; 0 leaves it out, as published
    test_clips: int = 128  # held-out clips in an evaluation

    def __post_init__(self) -> None:
        if self.rows < 3:
            raise ConfigError(f"stage.rows is {self.rows}; a variance needs 3 or more")


@dataclass(frozen=True, kw_only=True)
class VoicePriorRun(FeatureRun):
    """Run of the prior of one decoder's conditioning latents."""

    RENAMED: ClassVar[dict[str, str | None]] = {"listener": "encoder", "listener_network": "encoder_network"}

    encoder: Path  # weights of the decoder whose encoder of clips is used; its sizes are ``encoder_network``
    stage: VoicePriorTaskConfig = field(default_factory=VoicePriorTaskConfig)

    def task(self, name: str, encoder: Autoregressive | Diffusion, features: ClipDataset, width: int) -> Task:
        """The task of a prior of so wide latents."""
        encoder = load_trained(encoder, self.encoder)
        prior = VoicePrior(VoicePriorConfig(width))
        data = VoicePriorData(features, self.mel_range, width, self.stage, self.loop.seed)
        return VoicePriorTask(name, prior, encoder, data)


@dataclass(frozen=True, kw_only=True)
class AutoregressivePriorRun(VoicePriorRun):
    """Run of the prior of the autoregressive decoder's conditioning latents."""

    encoder_network: AutoregressiveSizes = field(default_factory=AutoregressiveConfig)

    def build(self) -> Task:
        sizes = self.encoder_network
        return self.task("autoregressive_prior", Autoregressive(sizes), self.open_features(sizes.bands), sizes.dim)


@dataclass(frozen=True, kw_only=True)
class DiffusionPriorRun(VoicePriorRun):
    """The same for the diffusion decoder, whose conditioning latents are twice as wide as it is."""

    encoder_network: DiffusionSizes = field(default_factory=DiffusionConfig)

    def build(self) -> Task:
        sizes = self.encoder_network
        return self.task("diffusion_prior", Diffusion(sizes), self.open_features(), 2 * sizes.dim)


class VoicePriorBatch(NamedTuple):
    """Mels of clips ``(b, f, s)`` in network units, and unit noise ``(b, d)``."""

    mel: Tensor
    noise: Tensor


class VoicePriorData(FeatureData):
    def __init__(
        self, features: ClipDataset, mel_range: MelRange, dim: int, config: VoicePriorTaskConfig, seed: int
    ) -> None:
        self.features, self.mel_range, self.dim, self.config, self.seed = features, mel_range, dim, config, seed
        self.train_clips, test_clips = features.split(features.clips)
        self.test_clips = test_clips[: config.test_clips]
        if not self.train_clips:
            raise ManifestError("no clip to train on: all are held out; use a larger corpus")

    def load(self, step: int, rows: range) -> VoicePriorBatch:
        places = self.places(step)
        rngs = [np.random.default_rng([self.seed, step, row]) for row in rows]
        return self._collate([places[row][0] for row in rows], rngs)

    def places(self, step: int) -> list[tuple[Clip, int]]:
        rng = np.random.default_rng([self.seed, step])
        return [(self.train_clips[index], 0) for index in rng.integers(len(self.train_clips), size=self.config.rows)]

    def _collate(self, clips: Sequence[Clip], rngs: list[np.random.Generator]) -> VoicePriorBatch:
        mels, noise = [], []
        for clip, rng in zip(clips, rngs, strict=True):
            frames = min(self.config.frames, clip.frames)
            start = int(rng.integers(clip.frames - frames + 1))
            mels.append(repeat_to(self.features.mel(clip, start, frames), self.config.frames))
            noise.append(rng.standard_normal(self.dim, dtype=np.float32))
        return VoicePriorBatch(self.mel_range.normalize(torch.stack(mels)), torch.from_numpy(np.stack(noise)))

    def held_out(self) -> VoicePriorBatch:
        rngs = [np.random.default_rng([7, index]) for index in range(len(self.test_clips))]
        return self._collate(self.test_clips, rngs)


class VoicePriorTask(Task):
    """Clips in; the distance of two sets of conditioning latents out, over the rows of all processes."""

    supports_grad_accum = False

    def __init__(
        self, name: str, network: VoicePrior, encoder: Autoregressive | Diffusion, data: VoicePriorData
    ) -> None:
        self.name = name
        self.modules = {name: network}
        self.frozen = {"encoder": encoder}
        self.prior, self.encoder, self.config = network, encoder, data.config
        self.data: VoicePriorData = data
        width = encoder.config.dim * (2 if isinstance(encoder, Diffusion) else 1)
        if width != network.config.dim:
            raise ConfigError(
                f"network.dim is {network.config.dim}, but conditioning latents are {width} wide: set it to that"
            )

    def training_step(self, module: str, batch: VoicePriorBatch, generator: torch.Generator) -> Mapping[str, Tensor]:
        fake = self.context.all_gather(self.prior(batch.noise).float())
        real = self.context.all_gather(self._encode(batch.mel))
        config = self.config
        losses = {"mean": config.mean * mean_loss(fake, real), "variance": config.variance * variance_loss(fake, real)}
        return losses | ({"mmd": config.mmd * mmd(fake, real)} if config.mmd else {})

    @torch.no_grad()
    def _encode(self, mel: Tensor) -> Tensor:
        """Conditioning latents ``(b, d)`` of real voices."""
        if isinstance(self.encoder, Autoregressive):
            return self.encoder.condition(mel).float()
        return self.encoder.contextual_embedder(mel).mean(2).float()

    def evaluate(self) -> dict[str, float]:
        """Distances from the conditioning latents of held-out clips, unweighted."""
        if len(self.data.test_clips) < 3:
            return {}
        batch = self.to_device(self.data.held_out())
        fake, real = self.prior(batch.noise).float(), self._encode(batch.mel)
        distances = {"mean": mean_loss, "variance": variance_loss, "mmd": mmd}
        return {name: float(distance(fake, real)) for name, distance in distances.items()}
