"""The vocoder's stage: mel to wave, by a Fourier head (Vocos) or by UnivNet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from chelys.audio.rates import HOP, OUTPUT_RATE
from chelys.data.dataset import Clip, ClipDataset
from chelys.data.pairs import speaker_weights
from chelys.data.pitch import track_pitch
from chelys.errors import ConfigError, ManifestError
from chelys.models.vocos import Vocos
from chelys.tortoise.univnet import UnivNet
from chelys.training.stage import map_tensors
from chelys.training.tasks.adversarial import AdversarialConfig, AdversarialStage, Made, mean_figures

#: Mel frames on either side of a crop that its pitch is found with.
_AROUND = 8


@dataclass(frozen=True, kw_only=True)
class VocoderStageConfig(AdversarialConfig):
    """Batches and weights of the stage.

    Attributes:
        rows: Crops in a batch.
        frames: Mel frames of a crop.
        pitch: Weight of reading the pitch, where the network has a harmonic source.
        voices: How often clips of a speaker come, against once: ``{"heart": 0.5}``; ``other`` stands for the rest.
    """

    rows: int = 12
    frames: int = 48
    pitch: float = 0.1
    voices: dict[str, float] | None = None


class VocoderBatch(NamedTuple):
    """Log-mel ``(b, f, s)``, its wave ``(b, 256 s)``, noise ``(b, noise_dim, s)`` and pitch ``(b, s)`` in Hz, for
    networks that take them (else of no width), and the batch's step."""

    mel: Tensor
    wave: Tensor
    noise: Tensor
    pitch: Tensor
    step: int


class VocoderStage(AdversarialStage):
    """Crops of mels in, waves out."""

    name = "vocoder"

    def __init__(self, network: Vocos | UnivNet, features: ClipDataset, config: VocoderStageConfig, seed: int) -> None:
        if features.front_end != "shared":
            raise ConfigError(f"{features.folder} has mels of the codes' front end; a vocoder speaks the shared one")
        self.set_players(network, config)
        self.vocoder, self.features, self.config, self.seed = network, features, config, seed
        self.train_clips, test_clips = features.split(features.with_audio(features.at_least(config.frames)))
        self.test_clips = test_clips[: config.test_clips]
        if not self.train_clips:
            raise ManifestError(f"no clip to train on has stage.frames={config.frames} mel frames; use a larger corpus")
        self._shares: np.ndarray | None = None  # of the clips; all the same
        if config.voices is not None:
            weights = speaker_weights(self.train_clips, config.voices)
            if not (weights.min() >= 0 and weights.sum() > 0):
                raise ConfigError("stage.voices leaves no clip to train on: give each voice 0 or more, and one above 0")
            self._shares = weights / weights.sum()

    def rows(self, step: int) -> int:
        return self.config.rows

    def batch(self, step: int) -> VocoderBatch:
        return self.part(step, slice(None))

    def part(self, step: int, rows: slice) -> VocoderBatch:
        places = self._places(step)
        numbers = range(len(places))[rows]
        rngs = [np.random.default_rng([self.seed, step, row, 3]) for row in numbers]
        return self._collate([places[row] for row in numbers], self.config.frames, rngs, step)

    def clips(self, step: int) -> list[str]:
        return [clip.id for clip, _ in self._places(step)]

    def _places(self, step: int) -> list[tuple[Clip, int]]:
        """Clip and first frame of each crop."""
        rng = np.random.default_rng([self.seed, step])
        count, rows = len(self.train_clips), self.config.rows
        drawn = rng.integers(count, size=rows) if self._shares is None else rng.choice(count, rows, p=self._shares)
        places = []
        for index in drawn:
            clip = self.train_clips[index]
            places.append((clip, int(rng.integers(clip.frames - self.config.frames + 1))))
        return places

    def _collate(
        self, places: list[tuple[Clip, int]], frames: int, rngs: list[np.random.Generator], step: int
    ) -> VocoderBatch:
        mels = torch.stack([self.features.mel(clip, start, frames) for clip, start in places])
        waves, pitches = zip(*(self._heard(clip, start, frames) for clip, start in places), strict=True)
        shape = (self.vocoder.config.noise_dim, frames)
        noise = np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in rngs])
        return VocoderBatch(mels, torch.stack(waves), torch.from_numpy(noise), torch.stack(pitches), step)

    def _heard(self, clip: Clip, start: int, frames: int) -> tuple[Tensor, Tensor]:
        """Wave ``(256 frames,)`` of a crop and its pitch, which is found with a little of what is around it."""
        if not (isinstance(self.vocoder, Vocos) and self.vocoder.source):
            return self.features.waveform(clip, start, frames), torch.zeros(0)
        first = max(0, start - _AROUND)
        crop = slice(start - first, start - first + frames)
        wave = self.features.waveform(clip, first, crop.stop + _AROUND)
        return wave[crop.start * HOP : crop.stop * HOP], torch.from_numpy(track_pitch(wave.numpy())[crop])

    def _speak(self, batch: VocoderBatch, pitch: Tensor | None = None) -> Made:
        """The wave, with a source at a pitch or else at the one that is read; and how far that is from the true one."""
        if not (isinstance(self.vocoder, Vocos) and self.vocoder.source):
            return Made(self.vocoder(batch.mel, batch.noise), {})
        x = self.vocoder.features(batch.mel)
        unlike = self.vocoder.source.pitch_loss(x, batch.pitch)
        return Made(self.vocoder.speak(x, batch.noise, pitch), {"pitch": unlike})

    def make(self, batch: VocoderBatch) -> Made:
        wave, losses = self._speak(batch, batch.pitch)
        return Made(wave, {name: self.config.pitch * loss for name, loss in losses.items()})

    def evaluate(self) -> dict[str, float]:
        """Distances of whole held-out clips, at the pitch that is read, and how well it is."""
        figures = []
        device = next(self.vocoder.parameters()).device
        for index, clip in enumerate(self.test_clips):
            batch = self._collate([(clip, 0)], clip.frames, [np.random.default_rng([7, index])], 0)
            batch = map_tensors(batch, lambda tensor: tensor.to(device))
            wave, losses = self._speak(batch)
            figures.append(self.distance(wave, batch.wave) | {name: float(loss) for name, loss in losses.items()})
        return mean_figures(figures)

    def samples(self) -> dict[str, tuple[Tensor, int]]:
        """A held-out clip, and what becomes of it."""
        if not self.test_clips:
            return {}
        clip = self.test_clips[0]
        device = next(self.vocoder.parameters()).device
        batch = self._collate([(clip, 0)], clip.frames, [np.random.default_rng([7, 0])], 0)
        made = self.vocoder(batch.mel.to(device), batch.noise.to(device))
        return {"real": (batch.wave[0], OUTPUT_RATE), "made": (made[0], OUTPUT_RATE)}
