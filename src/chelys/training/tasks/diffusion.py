"""Training of the diffusion decoder, in two phases (Betker 2023, section 3.3 and appendix B.4).

``codes``: it is conditioned on the VQ-VAE's codes. ``latents``: on the states of a frozen autoregressive decoder,
teacher-forced with those codes and the text: the TorToise trick.

A network that predicts the noise and learns the variance of each step has two losses for them, as published: the
squared error, which does not move the variance, and the term of the variational bound at the sampled step, which does
not move the prediction (Nichol & Dhariwal 2021, section 3.1). The term is not multiplied by the number of steps; the
original's was not, so that it weighs about a four-thousandth of the whole bound.

nano has one mel spec: four mel frames to a code. The published system codes at 22.05 kHz and renders at 24 kHz: a
corpus is extracted twice, and a crop of m codes is 4 m x 160 / 147 frames of the other features, rounded down.

b rows, m codes, f bands, s mel frames, r frames of the reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from chelys.audio.mel import MEL_EXTREMES, MelRange
from chelys.audio.rates import FRAMES_PER_CODE, OUTPUT_RATE, mel_frames
from chelys.data.dataset import Clip, ClipDataset
from chelys.data.pairs import Batch, Pairs, repeat_to
from chelys.data.shards import open_features
from chelys.errors import ConfigError
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.diffusion import Diffusion, DiffusionConfig, clip_spectrum
from chelys.models.diffusion_schedule import TRAIN_STEPS, DiffusionSchedule, predict_x0, q_posterior, q_sample
from chelys.training.checkpoint import load_trained
from chelys.training.config import PairedRun, published_sizes
from chelys.training.logging import Picture
from chelys.training.losses import variational_bound
from chelys.training.task import CroppedData, Task
from chelys.training.tasks.autoregressive import AutoregressiveSizes

#: Sizes of the decoder in a configuration file, by key or ``like: tortoise-v2``.
DiffusionSizes = Annotated[DiffusionConfig, published_sizes(DiffusionConfig.tortoise_v2)]
#: Noise's share of the power below which a step weighs no more.
MIN_NOISE = 0.1
#: Parts of the network that read codes, and latents.
CODE_PARTS = ("code_embedding", "code_blocks")
LATENT_PARTS = ("latent_in", "latent_blocks", "context_attention")
#: Clips that the mean spectrum of all speakers is taken of.
MEAN_CLIPS = 512


@dataclass(frozen=True)
class DiffusionTaskConfig:
    """Phase, crops, weights of the losses."""

    RENAMED: ClassVar[dict[str, str | None]] = {
        "content": "conditioning", "error": "mse", "bound": "vlb", "unconditioned": "conditioning_dropout",
    }  # fmt: skip

    #: what the mel is rendered from: ``codes`` (first phase) or ``latents`` (second)
    conditioning: Literal["codes", "latents"] = "codes"
    crop: int = 96  # longest crop of a clip, in codes
    mse: float = 1.0  # weight of the squared error of the prediction
    vlb: float = 1.0  # weight of the term of the variational bound, where the network learns a variance
    mel: float = 0.2  # weight of the auxiliary loss: the mel predicted from the conditioning alone
    conditioning_dropout: float = 0.15  # share of rows without conditioning, for classifier-free guidance
    #: the reference clip: another one of the ``speaker``, the autoregressive decoder's, or the same ``clip``, as
    #: published
    voice_from: Literal["speaker", "clip"] = "speaker"
    voice_frames: int = 400  # mel frames of it, if it is the same clip or of the published mel spec
    #: ``all``; or in the second phase the ``latent_path`` alone, as the original began it
    trains: Literal["all", "latent_path"] = "all"
    test_clips: int = 48  # held-out clips in an evaluation


@dataclass(frozen=True, kw_only=True)
class DiffusionRun(PairedRun):
    RENAMED: ClassVar[dict[str, str | None]] = {"rendered": "target_features"}

    #: features of the same clips at 24 kHz, where ``features`` are of the published codes' mel spec
    target_features: Path | None = None
    decoder: Path | None = None  # weights of the autoregressive decoder, for the phase on latents
    decoder_network: AutoregressiveSizes = field(default_factory=AutoregressiveConfig)  # its sizes
    network: DiffusionSizes = field(default_factory=DiffusionConfig)
    stage: DiffusionTaskConfig = field(default_factory=DiffusionTaskConfig)

    def build(self) -> Task:
        network = Diffusion(self.network)
        decoder = None
        if self.stage.conditioning == "latents":
            if self.decoder is None:
                raise ConfigError("stage.conditioning=latents needs decoder=PATH, the autoregressive decoder's weights")
            decoder = load_trained(Autoregressive(self.decoder_network), self.decoder)
        pairs = self.load_pairs()
        others = open_features(self.target_features, "shared") if self.target_features else None
        targets = TargetMels(pairs.features, self.mel_range, others)
        if self.network.clip_mean and not (self.start or network.mean_spectrum.is_meta):  # weights bring theirs
            network.mean_spectrum.copy_(mean_spectrum(pairs, targets))
        return DiffusionTask(network, decoder, DiffusionData(pairs, targets, self.stage))

    @property
    def reference_range(self) -> MelRange:
        return MelRange(-1.0, 1.0) if self.target_features else self.mel_range


class TargetMels:
    """Target mels and reference mels of the clips of a feature folder."""

    def __init__(self, features: ClipDataset, mel_range: MelRange, targets: ClipDataset | None = None) -> None:
        """Look up targets.

        ``mel_range``: of the targets; ``targets``: the same clips at 24 kHz, where the features are of the published
        codes' mel spec. Raises ConfigError if the two do not go together.
        """
        self.published = features.mel_spec == "codes"
        self.rate = features.spec.sample_rate
        if self.published and targets is None:
            raise ConfigError(
                f"{features.folder} is of the codes' mel spec: name the same corpus of the shared one, "
                "target_features=FOLDER"
            )
        if targets is not None and (not self.published or targets.mel_spec != "shared"):
            raise ConfigError(
                "target_features=FOLDER goes with features of the codes' mel spec, and is of the shared one itself; "
                f"features are {features.mel_spec}, targets {targets.mel_spec}"
            )
        self.mel_range = mel_range
        self.features = targets or features
        self._twins = {clip.id: clip for clip in targets.clips} if targets else {}

    def twin(self, clip: Clip) -> Clip:
        """The clip in the target features. Raises ConfigError if it is not there."""
        if not self.published:
            return clip
        if clip.id not in self._twins:
            raise ConfigError(f"{self.features.folder} lacks {clip.id}: make both feature folders of one manifest")
        return self._twins[clip.id]

    def codes(self, clip: Clip) -> int:
        """How many of a clip's codes have targets: the other features end with a whole code of their own."""
        codes = clip.codes
        while self.published and codes > 1 and mel_frames(codes, self.rate) > self.twin(clip).frames:
            codes -= 1
        return codes

    def target(self, clip: Clip, first: int, codes: int) -> Tensor:
        """Target of a crop of a clip, ``(f, s)`` in network units.

        ``clip``: of the features; ``first``: first code of the crop; ``codes``: how many.
        """
        frames = mel_frames(codes, self.rate)
        start = round(first * FRAMES_PER_CODE * OUTPUT_RATE / self.rate)  # at most half a frame off, 5 ms
        twin = self.twin(clip)
        return self.mel_range.normalize(self.features.mel(twin, min(start, twin.frames - frames), frames))

    def reference(self, clip: Clip, frames: int, rng: np.random.Generator) -> Tensor:
        """Input of the contextual embedder: a random crop of a clip, ``(f, frames)``.

        Published mels are not normalised here, and silence follows a clip that is too short; nano's are repeated.
        """
        twin = self.twin(clip)
        start = int(rng.integers(max(0, twin.frames - frames) + 1))
        mel = self.features.mel(twin, start, min(frames, twin.frames))
        if self.published:
            return F.pad(mel, (0, frames - mel.shape[1]), value=MEL_EXTREMES[0])
        return self.mel_range.normalize(repeat_to(mel, frames))


class DiffusionBatch(NamedTuple):
    """Crops of one length, and all that is random about them."""

    mel: Tensor  # target, ``(b, f, s)`` in network units
    at: Tensor  # which codes of its clip a crop is, ``(b, m)``
    text: Tensor  # as in ``Batch``, and so the next four: the whole clip, for the autoregressive decoder
    text_lengths: Tensor  # ``(b,)``
    codes: Tensor  # ``(b, c)``
    code_lengths: Tensor  # ``(b,)``
    reference: Tensor  # reference mel of the autoregressive decoder
    voice: Tensor  # reference mel of the diffusion decoder, ``(b, f, r)``
    timesteps: Tensor  # of the trained schedule, ``(b,)``
    noise: Tensor  # unit noise ``(b, f, s)``
    uncond_mask: Tensor  # rows without conditioning, ``(b,)``


class DiffusionData(CroppedData):
    """Crops of the clips of pairs, with their noise and timesteps."""

    stream = 2

    def __init__(self, pairs: Pairs, targets: TargetMels, config: DiffusionTaskConfig) -> None:
        super().__init__(pairs)
        self.targets, self.config = targets, config

    def length(self, clips: Sequence[Clip]) -> int:
        """Codes of a crop, no more than the shortest clip has: without padding, norms over time see speech alone."""
        return min(self.config.crop, min(self.targets.codes(clip) for clip in clips))

    def crop(
        self, clips: Sequence[Clip], batch: Batch, rngs: list[np.random.Generator], length: int, step: int
    ) -> DiffusionBatch:
        rows = [self._row(clip, rng, length) for clip, rng in zip(clips, rngs, strict=True)]
        first, mel, voice, timesteps, noise, chance = zip(*rows, strict=True)
        shared = self.config.voice_from == "speaker" and not self.targets.published
        return DiffusionBatch(
            mel=torch.stack(mel),
            at=torch.tensor(first)[:, None] + torch.arange(length),
            text=batch.text,
            text_lengths=batch.text_lengths,
            codes=batch.codes,
            code_lengths=batch.code_lengths,
            reference=batch.reference,
            voice=batch.reference if shared else torch.stack(voice),
            timesteps=torch.tensor(timesteps),
            noise=torch.from_numpy(np.stack(noise)),
            uncond_mask=torch.tensor(chance) < self.config.conditioning_dropout,
        )

    def _row(
        self, clip: Clip, rng: np.random.Generator, length: int
    ) -> tuple[int, Tensor, Tensor, int, np.ndarray, float]:
        """First code, mel, voice, timestep, noise, and the chance that decides about the conditioning."""
        first = int(rng.integers(self.targets.codes(clip) - length + 1))
        mel = self.targets.target(clip, first, length)
        voice = self.targets.reference(self._voice_clip(clip, rng), self.config.voice_frames, rng)
        timestep, chance = int(rng.integers(TRAIN_STEPS)), float(rng.random())
        return first, mel, voice, timestep, rng.standard_normal(tuple(mel.shape), dtype=np.float32), chance

    def _voice_clip(self, clip: Clip, rng: np.random.Generator) -> Clip:
        if self.config.voice_from == "clip":
            return clip
        return self.pairs.other_clip(clip, rng)


def mean_spectrum(pairs: Pairs, targets: TargetMels) -> Tensor:
    """Mean over the spectra of training clips, evenly drawn: ``(f,)``."""
    clips = [pairs.train[i] for i in range(0, len(pairs.train), -(-len(pairs.train) // MEAN_CLIPS))]
    mels = (targets.target(clip, 0, targets.codes(clip)) for clip in clips)
    return torch.stack([clip_spectrum(mel[None])[0] for mel in mels]).mean(0)


class DiffusionTask(Task):
    name = "diffusion"

    def __init__(self, network: Diffusion, decoder: Autoregressive | None, data: DiffusionData) -> None:
        self.modules = {"diffusion": network}
        self.frozen = {"decoder": decoder} if decoder is not None else {}
        self.diffusion, self.decoder, self.pairs = network, decoder, data.pairs
        self.data: DiffusionData = data
        self.config = data.config
        self.noise_schedule = DiffusionSchedule(range(TRAIN_STEPS))
        self._freeze()

    def _freeze(self) -> None:
        """Leave out of training what this phase has no gradients for, or is not to change."""
        if self.config.trains == "latent_path":
            self.diffusion.requires_grad_(False)
        for part in LATENT_PARTS:
            getattr(self.diffusion, part).requires_grad_(self.config.conditioning == "latents")
        if self.config.conditioning == "latents":
            for part in CODE_PARTS:
                getattr(self.diffusion, part).requires_grad_(False)

    def training_step(self, module: str, batch: DiffusionBatch, generator: torch.Generator) -> Mapping[str, Tensor]:
        network, config = self.diffusion, self.config
        bands, frames = batch.mel.shape[1:]
        voice = network.voices(batch.voice)
        content = self._conditioning(batch, voice, frames // network.config.patch)
        batch = batch._replace(mel=network.without_spectrum(batch.mel, voice))
        uncond_mask = batch.uncond_mask[:, None, None]
        x = q_sample(self.noise_schedule, batch.timesteps, batch.mel, batch.noise)
        dropped = torch.where(uncond_mask, network.uncond_embedding.to(content.dtype), content)
        out = network(x, batch.timesteps, dropped).float()
        prediction = out[:, :bands]
        losses = {"mse": config.mse * self._mse(prediction, batch)}
        if network.config.learned_variance:
            losses["vlb"] = config.vlb * self._vlb(prediction.detach(), out[:, bands:], x, batch)
        auxiliary = (network.mel_from_conditioning(content).float() - batch.mel).square() * ~uncond_mask
        return losses | {"mel": config.mel * auxiliary.mean()}

    def _conditioning(self, batch: DiffusionBatch, voice: Tensor, positions: int) -> Tensor:
        network = self.diffusion
        if self.config.conditioning == "codes":
            return network.conditioning_of_codes(batch.codes.gather(1, batch.at), voice, positions)
        latents = self._latents(batch)
        crop = latents.gather(1, batch.at.unsqueeze(2).expand(-1, -1, latents.shape[2]))
        return network.conditioning(crop, voice, positions)

    @torch.no_grad()
    def _latents(self, batch: DiffusionBatch) -> Tensor:
        """States that predict each code of the whole clips, ``(b, c, d)``."""
        assert self.decoder is not None, "the second phase needs the autoregressive decoder"
        voice = self.decoder.condition(batch.reference)
        latents = self.decoder(voice, batch.text, batch.text_lengths, batch.codes, batch.code_lengths)[2]
        return latents[:, :-1].float()

    def _mse(self, prediction: Tensor, batch: DiffusionBatch) -> Tensor:
        if self.diffusion.config.prediction == "epsilon":
            return (prediction - batch.noise).square().mean()
        # weighted like an error of the velocity (Salimans & Ho 2022), short of where there is nothing to remove
        alphas = self.noise_schedule.alphas_cumprod.float().to(batch.timesteps.device)
        noise = 1 - alphas[batch.timesteps][:, None, None]
        return ((prediction - batch.mel).square() / noise.clamp(min=MIN_NOISE)).mean()

    def _vlb(self, prediction: Tensor, variance: Tensor, x: Tensor, batch: DiffusionBatch) -> Tensor:
        schedule, t = self.noise_schedule, batch.timesteps
        epsilon = self.diffusion.config.prediction == "epsilon"
        x0 = predict_x0(schedule, t, x, prediction) if epsilon else prediction
        predicted = q_posterior(schedule, t, x, x0, variance)
        return variational_bound(schedule, t, batch.mel, x, predicted).mean()

    def evaluate(self) -> dict[str, float]:
        """Losses on held-out clips, four clips a batch, with the same noise every time."""
        sums: dict[str, float] = {}
        clips = sorted(self.pairs.test[: self.config.test_clips], key=lambda c: c.frames)
        groups = [clips[i : i + 4] for i in range(0, len(clips), 4)]
        for index, group in enumerate(groups):
            batch = self.to_device(self.data.held_out(group, index))
            for name, loss in self.training_step("", batch, torch.Generator()).items():
                sums[name] = sums.get(name, 0.0) + float(loss) / len(groups)
        return sums

    def pictures(self) -> dict[str, Picture]:
        """A held-out mel, and what is predicted of it from the conditioning alone."""
        if not self.pairs.test:
            return {}
        batch = self.to_device(self.data.held_out(self.pairs.test[:1], 0))
        positions = batch.mel.shape[2] // self.diffusion.config.patch
        voice = self.diffusion.voices(batch.voice)
        predicted = self.diffusion.mel_from_conditioning(self._conditioning(batch, voice, positions)).float()
        both = torch.cat((self.diffusion.without_spectrum(batch.mel, voice), predicted), 1)[0]
        return {"conditioning": Picture(both, x="frame", y="band: real below, from the conditioning alone above")}
