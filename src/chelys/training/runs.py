"""What a run of each stage is made of: the keys of its configuration file, and how they become a stage."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from chelys.audio.mel import MelRange
from chelys.audio.rates import MEL_22K, MEL_24K
from chelys.data.dataset import ClipDataset, FrontEnd
from chelys.data.pairs import PairConfig, Pairs, load_pairs
from chelys.data.shards import open_features
from chelys.errors import ConfigError
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.clvp import CLVP, CLVPConfig
from chelys.models.diffusion import Diffusion, DiffusionConfig
from chelys.models.dvae import DVAE, DVAEConfig
from chelys.models.vocos import Vocos, VocosConfig
from chelys.text.tokenizer import Cleaner
from chelys.tortoise.cvvp import CVVP, CVVPConfig
from chelys.tortoise.detector import Detector, DetectorConfig
from chelys.tortoise.hifigan import HiFiGAN, HiFiGANConfig
from chelys.tortoise.univnet import UnivNet
from chelys.tortoise.voice_prior import VoicePrior, VoicePriorConfig
from chelys.training.loop import LoopConfig, Stage, load_strictly
from chelys.training.presets import (
    AutoregressiveSizes,
    CLVPSizes,
    CVVPSizes,
    DetectorSizes,
    DiffusionSizes,
    DVAESizes,
    HiFiGANSizes,
    UnivNetSizes,
)  # fmt: skip
from chelys.training.tasks.autoregressive import AutoregressiveStage, AutoregressiveStageConfig
from chelys.training.tasks.clvp import CLVPStage, CLVPStageConfig
from chelys.training.tasks.cvvp import CVVPStage, CVVPStageConfig
from chelys.training.tasks.detector import DetectorStage, DetectorStageConfig
from chelys.training.tasks.diffusion import DiffusionStage, DiffusionStageConfig
from chelys.training.tasks.dvae import DVAEStage, DVAEStageConfig
from chelys.training.tasks.hifigan import HiFiGANStage, HiFiGANStageConfig
from chelys.training.tasks.rendering import Rendering
from chelys.training.tasks.vocoder import VocoderStage, VocoderStageConfig
from chelys.training.tasks.voice_prior import VoicePriorStage, VoicePriorStageConfig
from chelys.training.trained import check_sizes, load_trained, read_weights


@dataclass(frozen=True, kw_only=True)
class Run:
    """What every run has; a stage's own adds its network's sizes and its stage's weights.

    Attributes:
        run: Run folder.
        start: Weights to begin from, those of an earlier run of the stage.
        loop: Steps and rates.
    """

    run: Path
    start: Path | None = None
    loop: LoopConfig = field(default_factory=LoopConfig)

    @abstractmethod
    def build(self) -> Stage:
        """The stage, its network with fresh weights."""

    def begin(self) -> Stage:
        """The stage as it begins: with fresh weights, or as an earlier run left them."""
        stage = self.build()
        if self.start:
            load_strictly(stage.players[stage.name], read_weights(self.start), str(self.start))
        return stage


@dataclass(frozen=True, kw_only=True)
class FeatureRun(Run):
    """A run on mels laid out beforehand, or made of the sound in shards.

    Attributes:
        features: Feature folder, or shards.
        mel_range: Log-mels that become -1 and 1.
    """

    features: Path
    mel_range: MelRange

    def open_features(self, bands: int = MEL_24K.bands) -> ClipDataset:
        """The features; of shards, those of the front end that has so many bands."""
        front_end: FrontEnd = "codes" if bands == MEL_22K.bands else "shared"
        return open_features(self.features, front_end)


@dataclass(frozen=True, kw_only=True)
class PairedRun(FeatureRun):
    """A run on pairs of text and codes.

    Attributes:
        codes: Codes of the features, ``codes.npy``, or the shards.
        text: Folder of the tokenizer.
        cleaner: What makes words of a text before the tokenizer reads it.
        pairs: What makes a batch.
    """

    codes: Path
    text: Path
    cleaner: Cleaner = "chelys"
    pairs: PairConfig = field(default_factory=PairConfig)

    @property
    def heard_range(self) -> MelRange:
        """Map of the mels that are heard: of the codes' front end where that is not the rendered one."""
        return self.mel_range

    def load_pairs(self) -> Pairs:
        """The batches of the run; no stage reads mels from them, but for those of reference clips."""
        pairs = load_pairs(
            self.features, self.codes, self.text, self.heard_range, self.pairs, self.loop.seed,
            mels=False, cleaner=self.cleaner,
        )  # fmt: skip
        check_sizes("network", getattr(self, "network", None), pairs)
        if getattr(self, "decoder", None) is not None:  # else its sizes are nobody's
            check_sizes("decoder_network", getattr(self, "decoder_network", None), pairs)
        return pairs


@dataclass(frozen=True, kw_only=True)
class DVAERun(FeatureRun):
    """Run of the VQ-VAE's stage."""

    network: DVAESizes = field(default_factory=DVAEConfig)
    stage: DVAEStageConfig = field(default_factory=DVAEStageConfig)

    def build(self) -> Stage:
        return DVAEStage(
            DVAE(self.network), self.open_features(self.network.bands), self.mel_range, self.stage, self.loop.seed
        )


@dataclass(frozen=True, kw_only=True)
class VocoderRun(FeatureRun):
    """Run of the vocoder's stage.

    Attributes:
        network: Sizes of the Fourier head.
        univnet: Sizes of UnivNet, which is then trained in its place.
    """

    network: VocosConfig = field(default_factory=VocosConfig)
    univnet: UnivNetSizes | None = None
    stage: VocoderStageConfig = field(default_factory=VocoderStageConfig)

    def build(self) -> Stage:
        vocoder: Vocos | UnivNet = Vocos(self.network, self.mel_range)
        if self.univnet:
            vocoder = UnivNet(self.univnet, weight_norm=True)
        return VocoderStage(vocoder, self.open_features(), self.stage, self.loop.seed)


@dataclass(frozen=True, kw_only=True)
class AutoregressiveRun(PairedRun):
    """Run of the autoregressive decoder's stage."""

    network: AutoregressiveSizes = field(default_factory=AutoregressiveConfig)
    stage: AutoregressiveStageConfig = field(default_factory=AutoregressiveStageConfig)

    def build(self) -> Stage:
        return AutoregressiveStage(Autoregressive(self.network), self.load_pairs(), self.stage)


@dataclass(frozen=True, kw_only=True)
class CLVPRun(PairedRun):
    """Run of CLVP's stage."""

    network: CLVPSizes = field(default_factory=CLVPConfig)
    stage: CLVPStageConfig = field(default_factory=CLVPStageConfig)

    def build(self) -> Stage:
        return CLVPStage(CLVP(self.network), self.load_pairs(), self.stage)


@dataclass(frozen=True, kw_only=True)
class DiffusionRun(PairedRun):
    """Run of the diffusion decoder's stage.

    Attributes:
        rendered: The same clips of the shared front end, where ``features`` are of the codes'.
        decoder: Weights of the autoregressive decoder, for the phase on latents.
        decoder_network: Its sizes.
    """

    rendered: Path | None = None
    decoder: Path | None = None
    decoder_network: AutoregressiveSizes = field(default_factory=AutoregressiveConfig)
    network: DiffusionSizes = field(default_factory=DiffusionConfig)
    stage: DiffusionStageConfig = field(default_factory=DiffusionStageConfig)

    def build(self) -> Stage:
        network = Diffusion(self.network)
        decoder = None
        if self.stage.content == "latents":
            if self.decoder is None:
                raise ConfigError("stage.content=latents needs decoder=PATH, the autoregressive decoder's weights")
            decoder = load_trained(Autoregressive(self.decoder_network), self.decoder)
        pairs = self.load_pairs()
        rendered = open_features(self.rendered, "shared") if self.rendered else None
        return DiffusionStage(network, decoder, pairs, Rendering(pairs.features, self.mel_range, rendered), self.stage)

    @property
    def heard_range(self) -> MelRange:
        return MelRange(-1.0, 1.0) if self.rendered else self.mel_range


@dataclass(frozen=True, kw_only=True)
class CVVPRun(PairedRun):
    """Run of CVVP's stage."""

    network: CVVPSizes = field(default_factory=CVVPConfig)
    stage: CVVPStageConfig = field(default_factory=CVVPStageConfig)

    def build(self) -> Stage:
        return CVVPStage(CVVP(self.network), self.load_pairs(), self.stage)


@dataclass(frozen=True, kw_only=True)
class HiFiGANRun(PairedRun):
    """Run of HiFi-GAN's stage; ``decoder`` and ``decoder_network`` as in the diffusion decoder's."""

    decoder: Path
    decoder_network: AutoregressiveSizes = field(default_factory=AutoregressiveConfig)
    network: HiFiGANSizes = field(default_factory=HiFiGANConfig)
    stage: HiFiGANStageConfig = field(default_factory=HiFiGANStageConfig)

    def build(self) -> Stage:
        network = HiFiGAN(self.network, weight_norm=True)
        decoder = load_trained(Autoregressive(self.decoder_network), self.decoder)
        return HiFiGANStage(network, decoder, self.load_pairs(), self.stage)


@dataclass(frozen=True, kw_only=True)
class AutoregressivePriorRun(FeatureRun):
    """Run of the stage of what draws voices for the autoregressive decoder.

    Attributes:
        listener: Weights of the decoder whose voices are to be drawn.
        listener_network: Its sizes.
    """

    listener: Path
    listener_network: AutoregressiveSizes = field(default_factory=AutoregressiveConfig)
    stage: VoicePriorStageConfig = field(default_factory=VoicePriorStageConfig)

    def build(self) -> Stage:
        listener = load_trained(Autoregressive(self.listener_network), self.listener)
        prior = VoicePrior(VoicePriorConfig(self.listener_network.dim))
        features, seed = self.open_features(self.listener_network.bands), self.loop.seed
        return VoicePriorStage("autoregressive_prior", prior, listener, features, self.mel_range, self.stage, seed)


@dataclass(frozen=True, kw_only=True)
class DiffusionPriorRun(FeatureRun):
    """The same for the diffusion decoder, whose voices are twice as wide as it is."""

    listener: Path
    listener_network: DiffusionSizes = field(default_factory=DiffusionConfig)
    stage: VoicePriorStageConfig = field(default_factory=VoicePriorStageConfig)

    def build(self) -> Stage:
        listener = load_trained(Diffusion(self.listener_network), self.listener)
        prior = VoicePrior(VoicePriorConfig(2 * self.listener_network.dim))
        features, seed = self.open_features(), self.loop.seed
        return VoicePriorStage("diffusion_prior", prior, listener, features, self.mel_range, self.stage, seed)


@dataclass(frozen=True, kw_only=True)
class DetectorRun(Run):
    """Run of the detector's stage.

    Attributes:
        real: Manifests of what people said.
        made: Manifests of what the system said.
    """

    real: list[Path]
    made: list[Path]
    network: DetectorSizes = field(default_factory=DetectorConfig)
    stage: DetectorStageConfig = field(default_factory=DetectorStageConfig)

    def build(self) -> Stage:
        return DetectorStage(Detector(self.network), self.real, self.made, self.stage, self.loop.seed)


RUNS: dict[str, type[Run]] = {
    "dvae": DVAERun,
    "autoregressive": AutoregressiveRun,
    "clvp": CLVPRun,
    "diffusion": DiffusionRun,
    "vocoder": VocoderRun,
    "cvvp": CVVPRun,
    "hifigan": HiFiGANRun,
    "autoregressive_prior": AutoregressivePriorRun,
    "diffusion_prior": DiffusionPriorRun,
    "detector": DetectorRun,
}
