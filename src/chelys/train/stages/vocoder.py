"""The vocoder's stage: spectral losses first, then least-squares discriminators join (Mao et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import soundfile as sf
import torch
from torch import Tensor, nn

from chelys.audio.mel import log_mel
from chelys.audio.rates import HOP, MEL_24K, MelSpec
from chelys.data.batching import is_held_out
from chelys.data.features import Clip, Features
from chelys.errors import ManifestError
from chelys.models.vocos import Vocos
from chelys.train.discriminators import Discriminators
from chelys.train.loop import Stage

#: Mel front ends of the reconstruction loss: short windows place attacks, long ones resolve harmonics.
_SPECTRA = tuple(
    MelSpec(sample_rate=24_000, bands=bands, f_max=12_000.0, n_fft=n, hop=n // 4)
    for n, bands in ((256, 32), (512, 64), (1024, 100), (2048, 128))
)


@dataclass(frozen=True)
class VocoderStageConfig:
    """Batches and weights of the stage.

    Attributes:
        rows: Crops in a batch.
        frames: Mel frames of a crop.
        mel: Weight of the multi-resolution log-mel loss.
        adversarial: Weight of the generator's adversarial loss.
        feature: Weight of the distance between the discriminators' features of real and made waves.
        adversarial_from: Step at which the discriminators join.
    """

    rows: int = 12
    frames: int = 48
    mel: float = 1.0
    adversarial: float = 0.1
    feature: float = 0.2
    adversarial_from: int = 1500


class VocoderBatch(NamedTuple):
    """Log-mel ``(b, f, s)``, its wave ``(b, 256 s)`` and the step it belongs to."""

    mel: Tensor
    wave: Tensor
    step: int


class VocoderStage(Stage):
    """Crops of mels in, waves out."""

    name = "vocoder"

    def __init__(self, network: Vocos, features: Features, config: VocoderStageConfig, seed: int) -> None:
        self.judges = Discriminators()
        self.players: dict[str, nn.Module] = {"vocoder": network, "discriminators": self.judges}
        self.vocoder, self.features, self.config, self.seed = network, features, config, seed
        usable = [c for c in features.clips if c.frames >= config.frames]
        self.train_clips = [c for c in usable if not is_held_out(c)]
        self.test_clips = [c for c in usable if is_held_out(c)][:24]
        if not self.train_clips:
            raise ManifestError(f"no clip to train on has stage.frames={config.frames} mel frames; use a larger corpus")

    def _crop(self, clip: Clip, start: int, frames: int) -> tuple[Tensor, Tensor]:
        with sf.SoundFile(clip.audio) as file:
            if file.samplerate != MEL_24K.sample_rate:
                raise ManifestError(f"{clip.audio} has {file.samplerate} Hz: resample the corpus to 24000 Hz")
            file.seek(round(clip.start * file.samplerate) + start * HOP)
            wave = file.read(frames * HOP, dtype="float32", always_2d=True).mean(1)
        padded = np.zeros(frames * HOP, np.float32)
        padded[: len(wave)] = wave
        return self.features.mel(clip, start, frames), torch.from_numpy(padded)

    def batch(self, step: int) -> VocoderBatch:
        rng = np.random.default_rng([self.seed, step])
        pairs = []
        for index in rng.integers(len(self.train_clips), size=self.config.rows):
            clip = self.train_clips[index]
            pairs.append(self._crop(clip, int(rng.integers(clip.frames - self.config.frames + 1)), self.config.frames))
        mels, waves = zip(*pairs, strict=True)
        return VocoderBatch(torch.stack(mels), torch.stack(waves), step)

    def losses(self, player: str, batch: VocoderBatch, generator: torch.Generator) -> Mapping[str, Tensor]:
        adversarial = batch.step >= self.config.adversarial_from
        if player == "vocoder":
            self._made = self.vocoder(batch.mel)
            losses = {"mel": self.config.mel * spectral_distance(self._made, batch.wave)}
            if adversarial:
                self.judges.requires_grad_(False)  # they only listen
                made = self.judges(self._made)
                self.judges.requires_grad_(True)
                with torch.no_grad():
                    real = self.judges(batch.wave)
                losses["adversarial"] = self.config.adversarial * _mean(
                    [(score.float() - 1).square().mean() for score, _ in made]
                )
                losses["feature"] = self.config.feature * _mean(
                    [
                        (a.float() - b.float()).abs().mean()
                        for (_, m), (_, r) in zip(made, real, strict=True)
                        for a, b in zip(m, r, strict=True)
                    ]
                )
            return losses
        if not adversarial:
            return {}  # the judges wait
        made, real = self.judges(self._made.detach()), self.judges(batch.wave)
        return {
            "discrimination": _mean(
                [
                    (r.float() - 1).square().mean() + m.float().square().mean()
                    for (m, _), (r, _) in zip(made, real, strict=True)
                ]
            )
        }

    def evaluate(self) -> dict[str, float]:
        if not self.test_clips:
            return {}
        distances = []
        for clip in self.test_clips:
            mel, wave = self._crop(clip, 0, clip.frames)
            distances.append(float(spectral_distance(self.vocoder(mel[None]), wave[None])))
        return {"mel": float(np.mean(distances))}


def spectral_distance(made: Tensor, real: Tensor) -> Tensor:
    """Mean absolute distance of log-mels over four window lengths; waves ``(b, n)``."""
    made = made.float()
    return _mean([(log_mel(made, spec) - log_mel(real, spec)).abs().mean() for spec in _SPECTRA])


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()
