"""The voice priors' stages: noise to voices that nobody has, distributed as real ones are.

The original matched mean and variance of each number of the conditioning vectors over a batch. That leaves open which
numbers go together, so nano's default adds a kernel distance, which is 0 for the right distribution alone.

b rows, d width of a voice, f bands, s mel frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from chelys.audio.mel import MelRange
from chelys.data.dataset import Clip, ClipDataset
from chelys.data.pairs import repeat_to
from chelys.errors import ConfigError, ManifestError
from chelys.models.autoregressive import Autoregressive
from chelys.models.diffusion import Diffusion
from chelys.tortoise.voice_prior import VoicePrior
from chelys.training.losses import kernel_distance, mean_distance, variance_distance
from chelys.training.stage import Stage, map_tensors


@dataclass(frozen=True)
class VoicePriorStageConfig:
    """Batches and weights of the stage.

    Attributes:
        rows: Voices in a batch, made and real; the losses compare their statistics, so that many are better.
        frames: Mel frames that a real voice is heard for.
        mean: Weight of the squared distance of means.
        variance: Weight of the squared distance of variances.
        kernel: Weight of the kernel distance; 0 leaves it out, as published.
        test_clips: Held-out clips in an evaluation.
    """

    rows: int = 64
    frames: int = 256
    mean: float = 1.0
    variance: float = 1.0
    kernel: float = 1.0
    test_clips: int = 128

    def __post_init__(self) -> None:
        if self.rows < 3:
            raise ConfigError(f"stage.rows is {self.rows}; a variance needs 3 or more")


class VoicePriorBatch(NamedTuple):
    """Mels of clips ``(b, f, s)`` in network units, and unit noise ``(b, d)``."""

    mel: Tensor
    noise: Tensor


class VoicePriorStage(Stage):
    """Clips in; the distance of two sets of voices out, over the rows of all processes."""

    splits = False

    def __init__(
        self,
        name: str,
        network: VoicePrior,
        listener: Autoregressive | Diffusion,
        features: ClipDataset,
        mel_range: MelRange,
        config: VoicePriorStageConfig,
        seed: int,
    ) -> None:
        self.name = name
        self.players: dict[str, nn.Module] = {name: network}
        self.frozen: dict[str, nn.Module] = {"listener": listener}
        self.prior, self.listener, self.features, self.mel_range = network, listener, features, mel_range
        self.config, self.seed = config, seed
        width = listener.config.dim * (2 if isinstance(listener, Diffusion) else 1)
        if width != network.config.dim:
            raise ConfigError(f"network.dim is {network.config.dim}, but voices are {width} wide: set it to that")
        self.train_clips, test_clips = features.split(features.clips)
        self.test_clips = test_clips[: config.test_clips]
        if not self.train_clips:
            raise ManifestError("no clip to train on: all are held out; use a larger corpus")

    def rows(self, step: int) -> int:
        return self.config.rows

    def batch(self, step: int) -> VoicePriorBatch:
        return self.part(step, slice(None))

    def clips(self, step: int) -> list[str]:
        return [clip.id for clip in self._drawn(step)]

    def part(self, step: int, rows: slice) -> VoicePriorBatch:
        clips = self._drawn(step)
        rngs = [np.random.default_rng([self.seed, step, row]) for row in range(len(clips))[rows]]
        return self._collate(clips[rows], rngs)

    def _drawn(self, step: int) -> list[Clip]:
        rng = np.random.default_rng([self.seed, step])
        return [self.train_clips[index] for index in rng.integers(len(self.train_clips), size=self.config.rows)]

    def _collate(self, clips: Sequence[Clip], rngs: list[np.random.Generator]) -> VoicePriorBatch:
        mels, noise = [], []
        for clip, rng in zip(clips, rngs, strict=True):
            frames = min(self.config.frames, clip.frames)
            start = int(rng.integers(clip.frames - frames + 1))
            mels.append(repeat_to(self.features.mel(clip, start, frames), self.config.frames))
            noise.append(rng.standard_normal(self.prior.config.dim, dtype=np.float32))
        return VoicePriorBatch(self.mel_range.normalize(torch.stack(mels)), torch.from_numpy(np.stack(noise)))

    def losses(self, player: str, batch: VoicePriorBatch, generator: torch.Generator) -> Mapping[str, Tensor]:
        made, real = self.ranks.gather(self.prior(batch.noise).float()), self.ranks.gather(self._voices(batch.mel))
        config = self.config
        losses = {
            "mean": config.mean * mean_distance(made, real),
            "variance": config.variance * variance_distance(made, real),
        }
        return losses | ({"kernel": config.kernel * kernel_distance(made, real)} if config.kernel else {})

    @torch.no_grad()
    def _voices(self, mel: Tensor) -> Tensor:
        """Real voices ``(b, d)``."""
        if isinstance(self.listener, Autoregressive):
            return self.listener.condition(mel).float()
        return self.listener.contextual_embedder(mel).mean(2).float()

    def evaluate(self) -> dict[str, float]:
        """Distances from the voices of held-out clips, unweighted."""
        if len(self.test_clips) < 3:
            return {}
        rngs = [np.random.default_rng([7, index]) for index in range(len(self.test_clips))]
        device = next(self.prior.parameters()).device
        batch = map_tensors(self._collate(self.test_clips, rngs), lambda tensor: tensor.to(device))
        made, real = self.prior(batch.noise).float(), self._voices(batch.mel)
        distances = {"mean": mean_distance, "variance": variance_distance, "kernel": kernel_distance}
        return {name: float(distance(made, real)) for name, distance in distances.items()}
