"""Training of what only the published system has: CVVP, HiFi-GAN, the detector and the voice priors.

**CVVP** compares codes with another clip of the speaker, which has another text, so that voice is all that the two have
in common (Radford et al. 2021).

**HiFi-GAN** makes waveforms from latents. How the published one was trained is not public. This is the objective of its
own paper (Kong et al. 2020, section 2.3) on the latents of the TorToise trick: teacher-forced, the state that predicts
each code, in the voice of another clip of the speaker. XTTS (Casanova et al. 2024) trains its decoder so, too.

The **detector** tells a synthetic waveform from a real one, by cross-entropy. How the original was trained is not
public. It learns whatever differs between the two corpora, so they should differ in nothing else: the same texts,
rates, formats and silences at the ends.

The **voice priors** turn noise into conditioning latents of random voices, distributed as those of real ones are. The
original matched mean and variance of each number of the latents over a batch. That leaves open which numbers go
together, so the default adds a kernel distance, which is 0 for the right distribution alone.

b rows, n samples, m codes, d width of the conditioning latents, f bands, s mel frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from chelys.audio.mel import MelRange
from chelys.audio.rates import HOP, OUTPUT_RATE
from chelys.data.dataset import Clip, ClipDataset, read_waveform
from chelys.data.loader import held_out
from chelys.data.manifest import read_manifest
from chelys.data.pairs import Batch, Pairs, repeat_to
from chelys.errors import ConfigError, ManifestError
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.diffusion import Diffusion, DiffusionConfig
from chelys.tortoise.cvvp import CVVP, CVVPConfig
from chelys.tortoise.detector import MOST_SAMPLES, SYNTHETIC, Detector, DetectorConfig
from chelys.tortoise.hifigan import HiFiGAN, HiFiGANConfig, frame_count, stretch_rows
from chelys.tortoise.voice_prior import VoicePrior, VoicePriorConfig
from chelys.training.checkpoint import load_trained
from chelys.training.config import FeatureRun, PairedRun, Run, published_sizes
from chelys.training.losses import DiscriminatorKind, accuracy, info_nce
from chelys.training.task import CroppedData, FeatureData, Task, TaskData, mean_metrics
from chelys.training.tasks.autoregressive import AutoregressiveSizes
from chelys.training.tasks.diffusion import DiffusionSizes
from chelys.training.tasks.vocoder import AdversarialConfig, AdversarialTask, Generated

REAL = 1 - SYNTHETIC

# ---- CVVP -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CVVPTaskConfig:
    """Weight of the loss, and crops."""

    RENAMED: ClassVar[dict[str, str | None]] = {"contrast": "info_nce"}

    info_nce: float = 1.0  # weight of the contrastive loss
    crop: int = 156  # longest crop of a clip, in codes; 156 are the published 160,000 samples
    #: Codes of other clips of the speaker are no negatives. The original had so many speakers that two clips of one
    #: seldom met in a batch; a small corpus has not.
    spare_speaker: bool = True
    test_clips: int = 128  # held-out clips in an evaluation


@dataclass(frozen=True, kw_only=True)
class CVVPRun(PairedRun):
    network: Annotated[CVVPConfig, published_sizes(CVVPConfig.tortoise_v2)] = field(default_factory=CVVPConfig)
    stage: CVVPTaskConfig = field(default_factory=CVVPTaskConfig)

    def build(self) -> Task:
        return CVVPTask(CVVP(self.network), CVVPData(self.load_pairs(), self.stage))


class CVVPBatch(NamedTuple):
    """Mel of another clip of the speaker ``(b, f, r)``, codes of one length ``(b, m)``, and speaker number ``(b,)``."""

    reference: Tensor
    codes: Tensor
    speaker: Tensor


class CVVPData(CroppedData):
    """Crops of codes, with a reference clip."""

    stream = 6

    def __init__(self, pairs: Pairs, config: CVVPTaskConfig) -> None:
        super().__init__(pairs)
        self.config = config
        names = sorted({clip.speaker for clip in (*pairs.train, *pairs.test)})
        self._speakers = {name: number for number, name in enumerate(names)}

    def length(self, clips: Sequence[Clip]) -> int:
        """Codes of a crop: CVVP averages over all positions, so that no row may be padded."""
        return min(self.config.crop, min(clip.codes for clip in clips))

    def crop(
        self, clips: Sequence[Clip], batch: Batch, rngs: list[np.random.Generator], length: int, step: int
    ) -> CVVPBatch:
        first = [int(rng.integers(clip.codes - length + 1)) for clip, rng in zip(clips, rngs, strict=True)]
        at = torch.tensor(first)[:, None] + torch.arange(length)
        speaker = torch.tensor([self._speakers[clip.speaker] for clip in clips])
        return CVVPBatch(batch.reference, batch.codes.gather(1, at), speaker)


class CVVPTask(Task):
    """Pairs in, named losses out. Every clip is compared with all codes, those of other processes too."""

    name = "cvvp"
    supports_grad_accum = False

    def __init__(self, network: CVVP, data: CVVPData) -> None:
        self.modules = {"cvvp": network}
        self.cvvp, self.config = network, data.config
        self.data: CVVPData = data

    def training_step(self, module: str, batch: CVVPBatch, generator: torch.Generator) -> Mapping[str, Tensor]:
        return {"info_nce": self.config.info_nce * info_nce(self._scores(batch))}

    def _scores(self, batch: CVVPBatch) -> Tensor:
        clips = self.context.all_gather(self.cvvp.encode_clip(batch.reference).float())
        speech = self.context.all_gather(self.cvvp.encode_speech(batch.codes).float())
        scores = self.cvvp.similarity(clips, speech)
        if not self.config.spare_speaker:
            return scores
        speaker = self.context.all_gather(batch.speaker)
        others = ~torch.eye(len(speaker), dtype=torch.bool, device=speaker.device)
        return scores.masked_fill((speaker[:, None] == speaker) & others, float("-inf"))

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracy of picking the right clip for held-out codes, out of all of them at once."""
        clips = self.data.pairs.test[: self.config.test_clips]
        if not clips:
            return {}
        scores = self._scores(self.to_device(self.data.held_out(clips)))
        return {"info_nce": float(info_nce(scores)), "accuracy": float(accuracy(scores))}


# ---- HiFi-GAN -------------------------------------------------------------------------------------------------------


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


class HiFiGANData(CroppedData):
    """Pairs, and a random crop of each clip's waveform."""

    stream = 5

    def __init__(self, pairs: Pairs, config: HiFiGANTaskConfig) -> None:
        super().__init__(pairs)
        self.config = config
        if pairs.features.mel_spec != "codes":
            raise ConfigError(
                f"{pairs.features.folder} is of the shared mel spec; HiFi-GAN reads latents of codes at 22.05 kHz: "
                "make features with 'chelys data features --mel-spec codes'"
            )

    def length(self, clips: Sequence[Clip]) -> int:
        return min(self.config.frames, min(frame_count(clip.codes) for clip in clips))

    def crop(
        self, clips: Sequence[Clip], batch: Batch, rngs: list[np.random.Generator], length: int, step: int
    ) -> HiFiGANBatch:
        first = [int(rng.integers(frame_count(clip.codes) - length + 1)) for clip, rng in zip(clips, rngs, strict=True)]
        waveforms = [
            self.pairs.features.waveform(clip, start, length) for clip, start in zip(clips, first, strict=True)
        ]
        return HiFiGANBatch(
            batch.text, batch.text_lengths, batch.codes, batch.code_lengths, batch.reference,
            torch.tensor(first), torch.stack(waveforms), step,
        )  # fmt: skip


class HiFiGANTask(AdversarialTask):
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
        for index, clip in enumerate(self.data.pairs.test[: self.config.test_clips]):
            batch = self.to_device(self.data.held_out([clip], index))
            metrics.append(self.spectral_metrics(self.generate(batch).waveform, batch.waveform))
        return mean_metrics(metrics)


# ---- detector -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DetectorTaskConfig:
    """Batches and the weight of the loss."""

    RENAMED: ClassVar[dict[str, str | None]] = {"origin": "cross_entropy"}

    rows: int = 16  # clips in a batch, half of them of each kind
    samples: int = 48_128  # of a crop, at 24 kHz; silence follows a shorter clip
    gain: float = 6.0  # clips are made louder or softer by up to so many decibels, so that loudness gives nothing away
    cross_entropy: float = 1.0  # weight of the loss
    test_clips: int = 64  # held-out clips of each kind in an evaluation

    def __post_init__(self) -> None:
        if self.rows < 2 or self.rows % 2:
            raise ConfigError(f"stage.rows is {self.rows}; it must be even, for half of them are of each kind")
        if self.samples % HOP or not 0 < self.samples <= MOST_SAMPLES:
            raise ConfigError(
                f"stage.samples is {self.samples}; it must be a multiple of {HOP}, {MOST_SAMPLES} at most"
            )


@dataclass(frozen=True, kw_only=True)
class DetectorRun(Run):
    RENAMED: ClassVar[dict[str, str | None]] = {"made": "synthetic"}

    real: list[Path]  # manifests of recordings of people
    synthetic: list[Path]  # manifests of synthetic speech
    network: Annotated[DetectorConfig, published_sizes(DetectorConfig.tortoise_v2)] = field(
        default_factory=DetectorConfig
    )
    stage: DetectorTaskConfig = field(default_factory=DetectorTaskConfig)

    def build(self) -> Task:
        data = DetectorData(self.real, self.synthetic, self.stage, self.loop.seed)
        return DetectorTask(Detector(self.network), data)


class DetectorBatch(NamedTuple):
    """Waveforms ``(b, n)`` and their kind, ``(b,)``: SYNTHETIC or REAL."""

    waveform: Tensor
    kind: Tensor


class DetectorData(TaskData):
    """Crops of both kinds, in turn."""

    def __init__(self, real: list[Path], synthetic: list[Path], config: DetectorTaskConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        clips = {SYNTHETIC: _clips(synthetic), REAL: _clips(real)}
        self.train_clips: dict[int, list[Clip]] = {}
        self.test_clips: dict[int, list[Clip]] = {}
        for kind, some in clips.items():
            held = held_out(clip.id for clip in some)
            self.train_clips[kind] = [c for c, kept in zip(some, held, strict=True) if not kept]
            self.test_clips[kind] = [c for c, kept in zip(some, held, strict=True) if kept][: config.test_clips]
        for kind, name in ((REAL, "real"), (SYNTHETIC, "synthetic")):
            if not self.train_clips[kind]:
                raise ManifestError(f"{name}: no clip to train on; name a manifest with more clips")

    def rows(self, step: int) -> int:
        return self.config.rows

    def load(self, step: int, rows: range) -> DetectorBatch:
        drawn = self._draw(step)
        rngs = [np.random.default_rng([self.seed, step, row]) for row in rows]
        waveforms = [self._crop(drawn[row][0], rng) for row, rng in zip(rows, rngs, strict=True)]
        return DetectorBatch(torch.stack(waveforms), torch.tensor([drawn[row][1] for row in rows]))

    def clip_ids(self, step: int) -> list[str]:
        return [clip.id for clip, _ in self._draw(step)]

    def _draw(self, step: int) -> list[tuple[Clip, int]]:
        rng = np.random.default_rng([self.seed, step])
        kinds = [SYNTHETIC, REAL] * (self.config.rows // 2)
        return [(self.train_clips[kind][int(rng.integers(len(self.train_clips[kind])))], kind) for kind in kinds]

    def _crop(self, clip: Clip, rng: np.random.Generator) -> Tensor:
        frames = self.config.samples // HOP
        start = int(rng.integers(max(0, clip.frames - frames) + 1))
        gain = 10 ** (float(rng.uniform(-self.config.gain, self.config.gain)) / 20)
        return (read_waveform(clip, start, frames) * gain).clamp(-1, 1)


class DetectorTask(Task):
    name = "detector"

    def __init__(self, network: Detector, data: DetectorData) -> None:
        self.modules = {"detector": network}
        self.detector, self.config = network, data.config
        self.data: DetectorData = data

    def training_step(self, module: str, batch: DetectorBatch, generator: torch.Generator) -> Mapping[str, Tensor]:
        loss = F.cross_entropy(self.detector(batch.waveform).float(), batch.kind)
        return {"cross_entropy": self.config.cross_entropy * loss}

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracy on held-out clips, as much of each as a crop holds."""
        loss, right = [], []
        for kind, clips in self.data.test_clips.items():
            for clip in clips:
                waveform = read_waveform(clip, 0, self.config.samples // HOP)[None].to(self.device)
                logits = self.detector(waveform).float()
                loss.append(float(F.cross_entropy(logits, torch.tensor([kind], device=self.device))))
                right.append(float(logits.argmax(1) == kind))
        return {"cross_entropy": float(np.mean(loss)), "accuracy": float(np.mean(right))} if loss else {}


def _clips(manifests: list[Path]) -> list[Clip]:
    """Utterances of manifests as clips, with their length in mel frames."""
    return [
        Clip(u.id, u.audio, u.text, u.speaker, 0, max(1, int(u.seconds * OUTPUT_RATE) // HOP), u.start)
        for manifest in manifests
        for u in read_manifest(manifest)
    ]


# ---- voice priors ---------------------------------------------------------------------------------------------------


def mean_loss(fake: Tensor, real: Tensor) -> Tensor:
    """Squared distance of the means of two sets of vectors ``(b, d)``, mean over the d numbers."""
    return (fake.float().mean(0) - real.float().mean(0)).square().mean()


def variance_loss(fake: Tensor, real: Tensor) -> Tensor:
    """Squared distance of the variances of each number in two sets of vectors ``(b, d)``."""
    return (fake.float().var(0) - real.float().var(0)).square().mean()


def mmd(fake: Tensor, real: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two sets of vectors ``(b, d)``: 0 where they are of one distribution.

    The kernel is a sum of five rational quadratics around the real set's own mean distance; the estimate is the
    unbiased one and can fall below 0.

    Source: Gretton et al. 2012, A kernel two-sample test, lemma 6; Bińkowski et al. 2018 for the kernel.
    """
    fake, real = fake.float(), real.float()
    apart = torch.cdist(real.detach(), real.detach()).square()
    scale = apart.sum() / (len(real) * (len(real) - 1))

    def alike(a: Tensor, b: Tensor) -> Tensor:
        squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
        ratio = squares.clamp(min=0) / scale
        return torch.stack([(1 + ratio / (2 * width)) ** -width for width in (0.2, 0.5, 1.0, 2.0, 5.0)]).mean(0)

    def within(a: Tensor) -> Tensor:
        kernel = alike(a, a)
        return (kernel.sum() - kernel.diagonal().sum()) / (len(a) * (len(a) - 1))

    return within(fake) + within(real) - 2 * alike(fake, real).mean()


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
