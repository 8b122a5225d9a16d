"""What TorToise's models have that chelys' own lack: networks, mels, text cleaning, silence trimming.

A model trained with chelys may be of this kind too, in part or in all.

TorToise gives CLVP and the decoder's latent pass rows of codes of one length. From the stop on, a row is silence, and
its last codes are those that recordings often ended with; then the latents are cut where the silence has lasted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from chelys import registry
from chelys.audio.mel import PUBLISHED_MEL_RANGE
from chelys.text.tokenizer import Tokenizer
from chelys.tortoise.cvvp import CVVP, CVVPConfig
from chelys.tortoise.detector import Detector, DetectorConfig
from chelys.tortoise.hifigan import HiFiGAN, HiFiGANConfig
from chelys.tortoise.sizes import PUBLISHED
from chelys.tortoise.univnet import UnivNet, UnivNetConfig
from chelys.tortoise.voice_prior import VoicePrior, VoicePriorConfig
from chelys.weights.folder import ModelConfig, skeleton


@dataclass(frozen=True)
class SilenceTrimming:
    """Rules of the published codes; the defaults are the published numbers."""

    RENAMED: ClassVar[dict[str, str | None]] = {"calm": "max_silence", "penalised_from_start": "sampled_before"}

    silence: int = 83  # the code of silence
    max_silence: int = 8  # codes of silence in a row that are rendered; what follows them is cut off
    tail: tuple[int, ...] = (45, 45, 248)  # what every row ends with, wherever the speech ended
    length: int = 500  # codes of a row, which is also the most that a candidate may have
    #: Codes that the repetition penalty counts as said before anything is. The original stood for voice and text by as
    #: many ones and by the start code, which is how the published figures came about
    sampled_before: tuple[int, ...] = (1, 8192)

    def padded(self, codes: Tensor) -> Tensor:
        """The row ``(length,)`` that CLVP, CVVP and the latent pass read.

        Codes ``(m,)`` are a candidate's, without start and stop, at most ``length``. One that fills the row never
        stopped, and stays as it is. The tail overwrites the last codes of speech that reaches so far.
        """
        assert len(codes) <= self.length, f"{len(codes)} codes do not fit into a row of {self.length}"
        if len(codes) == self.length:
            return codes
        row = codes.new_full((self.length,), self.silence)
        row[: len(codes)] = codes
        row[self.length - len(self.tail) :] = torch.tensor(self.tail, dtype=codes.dtype, device=codes.device)
        return row

    def end(self, codes: Tensor) -> int:
        """How many of the codes ``(m,)`` are rendered: all before the first silence that is one too many in a row."""
        run = 0
        for place, code in enumerate(codes.tolist()):
            run = run + 1 if code == self.silence else 0
            if run > self.max_silence:
                return place
        return len(codes)

    def trimmed(self, codes: Tensor) -> Tensor:
        """What of a candidate ``(m,)`` is rendered: its row up to that silence; latents look back only."""
        row = self.padded(codes)
        return row[: self.end(row)]


@dataclass(frozen=True)
class TortoiseConfig(ModelConfig):
    """``config.json`` of a model of TorToise's kind."""

    univnet: UnivNetConfig | None = None  # sizes of UnivNet, if that is the vocoder
    cvvp: CVVPConfig | None = None  # sizes of CVVP; this and the four below are of networks that a model may lack
    hifigan: HiFiGANConfig | None = None  # of the decoder that streams
    autoregressive_prior: VoicePriorConfig | None = None  # of what draws random voices for the autoregressive decoder
    diffusion_prior: VoicePriorConfig | None = None  # the same for the diffusion decoder
    detector: DetectorConfig | None = None  # of what tells whether the model made a waveform
    #: Mels of the voices: ``shared``, one at 24 kHz with 100 bands for all networks; or ``published``, 22.05 kHz and 80
    #: bands, each divided by its norm, for the autoregressive decoder and CVVP, and 24 kHz and 100 bands, clipped and
    #: not normalised, for the diffusion decoder
    mel_spec: Literal["shared", "published"] = "shared"
    #: What makes words of a text: chelys' own, or one of the published two
    cleaner: Literal["chelys", "tortoise", "basic"] = "chelys"
    text_stops: int = 0  # stop ids behind a text before any network reads it; the decoder adds its own besides
    #: What is done to codes before they are read again; None leaves them
    silence_trimming: SilenceTrimming | None = None

    RENAMED: ClassVar[dict[str, str | None]] = {
        **ModelConfig.RENAMED, "front_end": "mel_spec", "code_rules": "silence_trimming",
    }  # fmt: skip
    NETWORKS: ClassVar[Mapping[str, Callable[..., nn.Module]]] = {
        **ModelConfig.NETWORKS, "univnet": UnivNet, "cvvp": CVVP, "hifigan": HiFiGAN,
        "autoregressive_prior": VoicePrior, "diffusion_prior": VoicePrior, "detector": Detector,
    }  # fmt: skip
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
    """TorToise v2 as it was published, every optional network included, but for the fields that differ."""
    values: dict[str, Any] = dict(
        name="tortoise-v2", mel_range=PUBLISHED_MEL_RANGE, **PUBLISHED, family="tortoise-v2", mel_spec="published",
        cleaner="tortoise", text_stops=1, silence_trimming=SilenceTrimming(),
    )  # fmt: skip
    return TortoiseConfig(**values | changes)


def published_skeleton(network: str, sizes: Any, *, weight_norm: bool = False) -> nn.Module:
    """`skeleton` of a network by its field in the configuration."""
    return skeleton(TortoiseConfig.NETWORKS[network], sizes, weight_norm=weight_norm)
