"""Training of vocoders, which make waveforms of mels: a Fourier head (Vocos) or UnivNet.

`AdversarialTask` is what all have that make waveforms: spectral losses, and discriminators that join at some step (Mao
et al. 2017). Generator and discriminators take turns within a step: first the generator, then the discriminators, on
what it made before it learned.

A recording of 16 kHz has nothing above 8 kHz, where the mel of a feature folder may have been filled
(`chelys.data.bandwidth`). There the recording says nothing of what the vocoder should do: real and generated waveforms
are compared below that.

b rows, n samples, f bands, s mel frames.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from chelys.audio.mel import log_mel, mel_band_edges
from chelys.audio.rates import MEL_24K, OUTPUT_RATE
from chelys.audio.resample import low_pass
from chelys.data.dataset import Clip, ClipDataset
from chelys.data.pairs import speaker_weights
from chelys.data.pitch import PitchCache
from chelys.errors import ConfigError
from chelys.models.vocos import Vocos, VocosConfig
from chelys.tortoise.univnet import UnivNet, UnivNetConfig
from chelys.training.config import FeatureRun, published_sizes
from chelys.training.logging import Preview
from chelys.training.losses import (
    MEL_RESOLUTIONS,
    DiscriminatorKind,
    Discriminators,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    multi_resolution_mel_loss,
    multi_resolution_stft_loss,
)
from chelys.training.task import FeatureData, Task, mean_metrics

#: Held-out clips that an evaluation writes for who listens.
_SAMPLES = 4
#: A band of the mel was filled where it is so much (in nepers) above what the recording has, on average.
_FILLED = 0.7
#: Mel frames at both ends of a crop that the recording around it has a part in.
_EDGE = 2


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """Weights of the losses; one of weight 0 is left out."""

    RENAMED: ClassVar[dict[str, str | None]] = {
        "mel_spectra": "mel_resolutions", "adversarial": "generator_loss", "feature": "feature_matching",
        "adversarial_from": "discriminator_start", "judges": "discriminators",
        "narrow_judges": "discriminator_divisor",
    }  # fmt: skip

    mel: float = 1.0  # of the multi-resolution mel loss
    mel_resolutions: int = 4  # window lengths that it is the mean over, the longest ones of four
    stft: float = 0.0  # of the multi-resolution STFT loss (UnivNet)
    generator_loss: float = 0.1  # of the adversarial loss of the generator
    #: of the difference between the discriminators' feature maps of real and generated waveforms
    feature_matching: float = 0.2
    discriminator_start: int = 1500  # step at which the discriminators join
    #: nano's (``compact``), or those of the papers, ``univnet`` or ``hifigan``
    discriminators: DiscriminatorKind = "compact"
    discriminator_divisor: int = 1  # divides their channels, for networks smaller than published
    test_clips: int = 24  # held-out clips in an evaluation

    def __post_init__(self) -> None:
        if not (self.mel or self.stft):
            raise ConfigError("stage.mel and stage.stft are both 0: one of them must say what the waveform should be")
        if not 1 <= self.mel_resolutions <= len(MEL_RESOLUTIONS):
            raise ConfigError(
                f"stage.mel_resolutions is {self.mel_resolutions}; it must be 1 to {len(MEL_RESOLUTIONS)}"
            )
        if self.discriminator_divisor not in (1, 2, 4, 8):
            raise ConfigError(f"stage.discriminator_divisor is {self.discriminator_divisor}; it must be 1, 2, 4 or 8")


class Generated(NamedTuple):
    """A waveform ``(b, n)``, and further losses of the generator."""

    waveform: Tensor
    losses: dict[str, Tensor]


class AdversarialTask(Task):
    """A generator of waveforms and its discriminators; a batch has a real ``waveform`` ``(b, n)`` and its ``step``."""

    weights: AdversarialConfig

    def set_modules(self, generator: nn.Module, config: AdversarialConfig) -> None:
        """Put the generator first and its discriminators second."""
        self.weights = config
        self.discriminators = Discriminators(config.discriminators, config.discriminator_divisor)
        self.modules = {self.name: generator, "discriminators": self.discriminators}
        self._generated: list[tuple[Any, Tensor]] = []  # of each micro-batch of a step

    @abstractmethod
    def generate(self, batch: Any) -> Generated:
        """The generator's waveform for a batch."""

    def training_step(self, module: str, batch: Any, generator: torch.Generator) -> Mapping[str, Tensor]:
        joined = batch.step >= self.weights.discriminator_start
        if module != "discriminators":
            fake, losses = self.generate(batch)
            self._generated = [(other, waveform) for other, waveform in self._generated if other.step == batch.step]
            self._generated.append((batch, fake.detach()))
            losses |= self._spectral_losses(fake, batch.waveform)
            return losses | (self._adversarial_losses(fake, batch.waveform) if joined else {})
        if not joined:
            return {}
        fake_out, real_out = self.discriminators(self._generated_of(batch)), self.discriminators(batch.waveform)
        return {"discriminator_loss": discriminator_loss(fake_out, real_out)}

    def _generated_of(self, batch: Any) -> Tensor:
        """The waveform that was generated for the batch a moment ago, before the generator learned from it."""
        for other, waveform in self._generated:
            if other is batch:
                return waveform
        with torch.no_grad():
            return self.generate(batch).waveform

    def _spectral_losses(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        losses, weights = {}, self.weights
        if weights.mel:
            resolutions = MEL_RESOLUTIONS[-weights.mel_resolutions :]
            losses["mel"] = weights.mel * multi_resolution_mel_loss(fake, real, resolutions)
        if weights.stft:
            losses["stft"] = weights.stft * multi_resolution_stft_loss(fake, real)
        return losses

    def _adversarial_losses(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        self.discriminators.requires_grad_(False)  # their own turn comes later
        fake_out = self.discriminators(fake)
        self.discriminators.requires_grad_(True)
        losses = {"generator_loss": self.weights.generator_loss * generator_loss(fake_out)}
        if self.weights.feature_matching:
            with torch.no_grad():
                real_out = self.discriminators(real)
            losses["feature_matching"] = self.weights.feature_matching * feature_matching_loss(fake_out, real_out)
        return losses

    def spectral_metrics(self, fake: Tensor, real: Tensor) -> dict[str, float]:
        """Held-out metrics of one waveform: the spectral losses, unweighted."""
        scale = {"mel": self.weights.mel, "stft": self.weights.stft}
        return {name: float(loss) / scale[name] for name, loss in self._spectral_losses(fake, real).items()}


# ---- Vocos and UnivNet ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class VocoderTaskConfig(AdversarialConfig):
    """Batches and weights of the losses."""

    rows: int = 12  # crops in a batch
    frames: int = 48  # mel frames of a crop
    pitch: float = 0.1  # weight of the pitch loss, where the network has a harmonic source
    #: how often clips of a speaker come, against once: ``{"heart": 0.5}``; ``other`` stands for the rest
    voices: dict[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class VocoderRun(FeatureRun):
    network: VocosConfig = field(default_factory=VocosConfig)  # sizes of the Fourier head
    #: sizes of UnivNet, which is then trained in its place
    univnet: Annotated[UnivNetConfig, published_sizes(UnivNetConfig.c32)] | None = None
    stage: VocoderTaskConfig = field(default_factory=VocoderTaskConfig)

    def build(self) -> Task:
        vocoder: Vocos | UnivNet = Vocos(self.network, self.mel_range)
        if self.univnet:
            vocoder = UnivNet(self.univnet, weight_norm=True)
        source = isinstance(vocoder, Vocos) and bool(vocoder.source)
        features, noise_dim = self.open_features(), vocoder.config.noise_dim
        return VocoderTask(vocoder, VocoderData(features, self.stage, noise_dim, self.loop.seed, pitch=source))


class VocoderBatch(NamedTuple):
    """Crops of one length."""

    mel: Tensor  # log-mel ``(b, f, s)``
    waveform: Tensor  # ``(b, 256 s)``
    noise: Tensor  # ``(b, noise_dim, s)``, for networks that take it (else of no width)
    f0_hz: Tensor  # pitch ``(b, s)`` in Hz, for networks with a harmonic source (else of no width)
    #: ``(b,)``, Hz: above it ``waveform`` has nothing though the mel has; infinite where it has all, and of no width
    #: where all rows have
    cutoff_hz: Tensor
    step: int  # the batch's


class VocoderData(FeatureData):
    def __init__(
        self, features: ClipDataset, config: VocoderTaskConfig, noise_dim: int, seed: int, *, pitch: bool
    ) -> None:
        if features.mel_spec != "shared":
            raise ConfigError(f"{features.folder} has mels of the codes' mel spec; a vocoder speaks the shared one")
        self.features, self.config, self.noise_dim, self.seed = features, config, noise_dim, seed
        self.pitch = PitchCache(features) if pitch else None
        self.train_clips, test_clips = features.split(features.with_audio(features.at_least(config.frames)))
        self.test_clips = test_clips[: config.test_clips]
        self.require_clips()
        self._shares: np.ndarray | None = None  # of the clips; all the same
        if config.voices is not None:
            weights = speaker_weights(self.train_clips, config.voices)
            if not (weights.min() >= 0 and weights.sum() > 0):
                raise ConfigError("stage.voices leaves no clip to train on: give each voice 0 or more, and one above 0")
            self._shares = weights / weights.sum()

    def load(self, step: int, rows: range) -> VocoderBatch:
        places = self.places(step)
        rngs = [np.random.default_rng([self.seed, step, row, 3]) for row in rows]
        return self._collate([places[row] for row in rows], self.config.frames, rngs, step)

    def places(self, step: int) -> list[tuple[Clip, int]]:
        rng = np.random.default_rng([self.seed, step])
        count, rows = len(self.train_clips), self.config.rows
        drawn = rng.integers(count, size=rows) if self._shares is None else rng.choice(count, rows, p=self._shares)
        places = []
        for index in drawn:
            clip = self.train_clips[index]
            places.append((clip, int(rng.integers(clip.frames - self.config.frames + 1))))
        return places

    def held_out(self, index: int) -> VocoderBatch:
        """A whole held-out clip, with the same noise every time."""
        clip = self.test_clips[index]
        return self._collate([(clip, 0)], clip.frames, [np.random.default_rng([7, index])], 0)

    def _collate(
        self, places: list[tuple[Clip, int]], frames: int, rngs: list[np.random.Generator], step: int
    ) -> VocoderBatch:
        mels = torch.stack([self.features.mel(clip, start, frames) for clip, start in places])
        waveforms, f0 = zip(*(self._crop(clip, start, frames) for clip, start in places), strict=True)
        noise = np.stack([rng.standard_normal((self.noise_dim, frames), dtype=np.float32) for rng in rngs])
        cutoff_hz = torch.tensor([narrow_cutoff_hz(m, w) for m, w in zip(mels, waveforms, strict=True)])
        if not cutoff_hz.isfinite().any():
            cutoff_hz = cutoff_hz[:0]
        waveform = _comparable(torch.stack(waveforms), cutoff_hz)
        return VocoderBatch(mels, waveform, torch.from_numpy(noise), torch.stack(f0), cutoff_hz, step)

    def _crop(self, clip: Clip, start: int, frames: int) -> tuple[Tensor, Tensor]:
        """Waveform ``(256 frames,)`` of a crop, and its pitch."""
        f0_hz = self.pitch.of(clip, start, frames) if self.pitch else torch.zeros(0)
        return self.features.waveform(clip, start, frames), f0_hz


def narrow_cutoff_hz(mel: Tensor, waveform: Tensor) -> float:
    """Above which frequency, Hz, a recording ``(256 s,)`` lacks what its mel ``(f, s)`` has; infinite if nowhere."""
    own = log_mel(waveform[None], MEL_24K)[0, :, : mel.shape[1]]
    filled = (mel - own)[:, _EDGE:-_EDGE].mean(1) > _FILLED
    if not filled[-1]:
        return math.inf
    whole = torch.nonzero(~filled)  # the bands above the last of these were filled
    last = int(whole[-1]) if len(whole) else 0
    return float(mel_band_edges(MEL_24K)[max(0, last - 1)])


def _comparable(waveform: Tensor, cutoff_hz: Tensor) -> Tensor:
    """Waveforms without what their recordings cannot say anything of, see ``VocoderBatch.cutoff_hz``."""
    return low_pass(waveform, cutoff_hz, OUTPUT_RATE) if len(cutoff_hz) else waveform


class VocoderTask(AdversarialTask):
    name = "vocoder"

    def __init__(self, network: Vocos | UnivNet, data: VocoderData) -> None:
        self.set_modules(network, data.config)
        self.vocoder, self.config = network, data.config
        self.data: VocoderData = data

    def _speak(self, batch: VocoderBatch, f0_hz: Tensor | None = None) -> Generated:
        """The waveform, its source at the given pitch or else at the predicted one, and the unweighted pitch loss."""
        if not (isinstance(self.vocoder, Vocos) and self.vocoder.source):
            return Generated(_comparable(self.vocoder(batch.mel, batch.noise), batch.cutoff_hz), {})
        x = self.vocoder.features(batch.mel)
        pitch = self.vocoder.source.pitch_loss(x, batch.f0_hz)
        waveform = self.vocoder.speak(x, batch.noise, f0_hz)
        return Generated(_comparable(waveform, batch.cutoff_hz), {"pitch": pitch})

    def generate(self, batch: VocoderBatch) -> Generated:
        waveform, losses = self._speak(batch, batch.f0_hz)
        return Generated(waveform, {name: self.config.pitch * loss for name, loss in losses.items()})

    def evaluate(self) -> dict[str, float]:
        """Spectral losses of whole held-out clips at the predicted pitch, and the pitch loss."""
        metrics = []
        for index in range(len(self.data.test_clips)):
            batch = self.to_device(self.data.held_out(index))
            waveform, losses = self._speak(batch)
            found = {name: float(loss) for name, loss in losses.items()}
            metrics.append(self.spectral_metrics(waveform, batch.waveform) | found)
        return mean_metrics(metrics)

    def samples(self) -> dict[str, Preview]:
        """Some held-out clips, and the vocoder's versions of them."""
        found = {}
        for index, clip in enumerate(self.data.test_clips[:_SAMPLES]):
            batch = self.to_device(self.data.held_out(index))
            generated = self.vocoder(batch.mel, batch.noise)
            number = f"-{index + 1}" if index else ""
            found[f"real{number}"] = Preview(batch.waveform[0], OUTPUT_RATE, clip.text)
            found[f"generated{number}"] = Preview(generated[0], OUTPUT_RATE, clip.text, f"real{number}")
        return found
