"""What TorToise's models have that chelys' own lack: networks, mels, text cleaning, silence trimming.

A model trained with chelys may be of this kind too, in part or in all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import nn

from chelys import registry
from chelys.audio.mel import PUBLISHED_MEL_RANGE
from chelys.text.tokenizer import Tokenizer
from chelys.tortoise.cvvp import CVVP, CVVPConfig
from chelys.tortoise.detector import Detector, DetectorConfig
from chelys.tortoise.hifigan import HiFiGAN, HiFiGANConfig
from chelys.tortoise.silence_trimming import SilenceTrimming
from chelys.tortoise.sizes import PUBLISHED
from chelys.tortoise.univnet import UnivNet, UnivNetConfig
from chelys.tortoise.voice_prior import VoicePrior, VoicePriorConfig
from chelys.weights.folder import ModelConfig, skeleton


@dataclass(frozen=True)
class TortoiseConfig(ModelConfig):
    """``config.json`` of a model of TorToise's kind.

    Attributes:
        univnet: Sizes of UnivNet, if that is the vocoder.
        cvvp: Sizes of CVVP; this and the four below are of networks that a model may lack.
        hifigan: Of the decoder that streams.
        autoregressive_prior: Of what draws random voices for the autoregressive decoder.
        diffusion_prior: The same for the diffusion decoder.
        detector: Of what tells whether the model made a waveform.
        mel_spec: Mels of the voices: ``shared``, one at 24 kHz with 100 bands for all networks; or ``published``,
            22.05 kHz and 80 bands, each divided by its norm, for the autoregressive decoder and CVVP, and 24 kHz and
            100 bands, clipped and not normalised, for the diffusion decoder.
        cleaner: What makes words of a text: chelys' own, or one of the published two.
        text_stops: Stop ids behind a text before any network reads it; the decoder adds its own besides.
        silence_trimming: What is done to codes before they are read again; None leaves them.
    """

    univnet: UnivNetConfig | None = None
    cvvp: CVVPConfig | None = None
    hifigan: HiFiGANConfig | None = None
    autoregressive_prior: VoicePriorConfig | None = None
    diffusion_prior: VoicePriorConfig | None = None
    detector: DetectorConfig | None = None
    mel_spec: Literal["shared", "published"] = "shared"
    cleaner: Literal["chelys", "tortoise", "basic"] = "chelys"
    text_stops: int = 0
    silence_trimming: SilenceTrimming | None = None

    RENAMED: ClassVar[dict[str, str | None]] = {
        **ModelConfig.RENAMED,
        "front_end": "mel_spec",
        "code_rules": "silence_trimming",
    }
    NETWORKS: ClassVar[Mapping[str, type[nn.Module]]] = {
        **ModelConfig.NETWORKS,
        "univnet": UnivNet,
        "cvvp": CVVP,
        "hifigan": HiFiGAN,
        "autoregressive_prior": VoicePrior,
        "diffusion_prior": VoicePrior,
        "detector": Detector,
    }
    VOCODERS: ClassVar[tuple[str, ...]] = ("vocos", "univnet")
    EXTRAS: ClassVar[tuple[str, ...]] = ("cvvp", "hifigan", "autoregressive_prior", "diffusion_prior", "detector")
    SPEAKER: ClassVar[str] = registry.SPEAKERS["tortoise-v2"]

    @property
    def vocoder_bands(self) -> int:
        return self.univnet.mel_bands if self.univnet else super().vocoder_bands

    def rules(self) -> dict[str, bool]:
        decoder, cvvp, hifigan, trimming = self.autoregressive, self.cvvp, self.hifigan, self.silence_trimming
        priors = self.autoregressive_prior, self.diffusion_prior
        return super().rules() | {
            "text_stops must not be negative": self.text_stops >= 0,
            "silence_trimming must name codes below autoregressive.codes": trimming is None
            or all(0 <= code < decoder.codes for code in (trimming.silence, *trimming.tail)),
            "cvvp.speech_tokens must be at least autoregressive.codes": not cvvp or cvvp.speech_tokens >= decoder.codes,
            "cvvp.bands must be autoregressive.bands": not cvvp or cvvp.bands == decoder.bands,
            "hifigan.latent_dim must be autoregressive.dim": not hifigan or hifigan.latent_dim == decoder.dim,
            "hifigan.voice_dim must be autoregressive.dim": not hifigan or hifigan.voice_dim == decoder.dim,
            "autoregressive_prior.dim must be autoregressive.dim": not priors[0] or priors[0].dim == decoder.dim,
            "diffusion_prior.dim must be twice diffusion.dim": not priors[1] or priors[1].dim == 2 * self.diffusion.dim,
        }

    def load_tokenizer(self, folder: Path) -> Tokenizer:
        return Tokenizer.load(folder, cleaner=self.cleaner)


def published_config(**changes: Any) -> TortoiseConfig:
    """TorToise v2 as it was published, every optional network included.

    Args:
        changes: Fields that differ.
    """
    values: dict[str, Any] = {
        "name": "tortoise-v2",
        "mel_range": PUBLISHED_MEL_RANGE,
        **PUBLISHED,
        "family": "tortoise-v2",
        "mel_spec": "published",
        "cleaner": "tortoise",
        "text_stops": 1,
        "silence_trimming": SilenceTrimming(),
    }
    return TortoiseConfig(**values | changes)


def published_skeleton(network: str, sizes: Any, *, weight_norm: bool = False) -> nn.Module:
    """`skeleton` of a network by its field in the configuration."""
    return skeleton(TortoiseConfig.NETWORKS[network], sizes, weight_norm=weight_norm)
