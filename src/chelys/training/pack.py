"""Runs to a model folder: the averaged weights of every stage, the tokenizer, one configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import nn

from chelys.audio.mel import MelRange
from chelys.config import from_mapping
from chelys.data.dataset import Features
from chelys.errors import ConfigError
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.clvp import CLVP, CLVPConfig
from chelys.models.diffusion import Diffusion, DiffusionConfig
from chelys.models.dvae import DVAE, DVAEConfig
from chelys.models.vocos import Vocos, VocosConfig
from chelys.text.tokenizer import Tokenizer
from chelys.tortoise.cvvp import CVVP, CVVPConfig
from chelys.tortoise.detector import Detector, DetectorConfig
from chelys.tortoise.hifigan import HiFiGAN, HiFiGANConfig
from chelys.tortoise.model import SilenceTrimming
from chelys.tortoise.univnet import UnivNet, UnivNetConfig
from chelys.tortoise.voice_prior import VoicePrior, VoicePriorConfig
from chelys.training.checkpoint import load_trained
from chelys.training.tasks import RUNS
from chelys.weights.folder import ModelConfig, contradiction, make_config, save_model

#: Stages without which nothing speaks, or nothing could be trained on.
NEEDED = ("dvae", "autoregressive", "clvp", "diffusion", "vocoder")
#: Stages whose networks a model may have besides.
FURTHER = ("cvvp", "hifigan", "autoregressive_prior", "diffusion_prior", "detector")
#: Sizes and network of most stages; the vocoder may be one of two, and priors are as wide as their listener's voices.
NETWORKS: dict[str, tuple[type, Callable[..., nn.Module]]] = {
    "dvae": (DVAEConfig, DVAE),
    "autoregressive": (AutoregressiveConfig, Autoregressive),
    "clvp": (CLVPConfig, CLVP),
    "diffusion": (DiffusionConfig, Diffusion),
    "cvvp": (CVVPConfig, CVVP),
    "hifigan": (HiFiGANConfig, lambda sizes: HiFiGAN(sizes, weight_norm=True)),
    "detector": (DetectorConfig, Detector),
}


@dataclass(frozen=True)
class PackConfig:
    """What goes into the folder."""

    name: str  # of the model
    #: Stage to the folder of its run. ``dvae``, ``autoregressive``, ``clvp``, ``diffusion`` and ``vocoder`` must be
    #: there; ``cvvp``, ``hifigan``, ``autoregressive_prior``, ``diffusion_prior`` and ``detector`` may be.
    runs: dict[str, Path]
    text: Path  # folder of the tokenizer
    features: Path  # feature folder that the built-in voices' clips come from
    mel_range: MelRange  # log-mels that become -1 and 1
    default_voice: str  # built-in voice that speaks when none is named
    #: its share in what voices that users make of clips are sampled with; not in built-in ones
    speaker_blend: float = 0.0
    voices: dict[str, str] = field(default_factory=dict)  # built-in voice to speaker of the corpus
    clips: int = 3  # clips of each voice
    kept_seconds: float = 3.0  # how much of its clips a voice file carries, so that other models can use the voice
    family: Literal["nano", "tortoise-v2"] = "nano"  # whose presets the model is spoken with
    #: ``published`` where the codes have a front end of their own, as in the tortoise-v2 recipes
    mel_spec: Literal["shared", "published"] = "shared"
    cleaner: Literal["chelys", "tortoise", "basic"] = "chelys"  # what made words of the texts in training
    text_stops: int = 0  # stop ids behind a text before any network reads it; the published model has one
    silence_trimming: SilenceTrimming | None = None  # what is done to codes before they are read again
    license: str = "Apache-2.0"  # of the weights (SPDX)

    RENAMED: ClassVar[dict[str, str | None]] = {
        "borrowed": "speaker_blend",
        "front_end": "mel_spec",
        "code_rules": "silence_trimming",
    }


def pack(config: PackConfig, out: Path) -> ModelConfig:
    """Write the model folder, without voices.

    Raises ConfigError if a run is missing, not finished, of a stage that a model folder has no place for, or does not
    go with the others.
    """
    _check_stages(config)
    tokenizer = Tokenizer.load(config.text, cleaner=config.cleaner)
    stages = [stage for stage in (*NEEDED, *FURTHER) if stage in config.runs]
    settings = {stage: _settings(config, stage) for stage in stages}
    for stage in stages:
        _check_run(config, stage, settings[stage])
    made = {stage: _network(config, stage, settings[stage]) for stage in stages}
    model = make_config(
        {
            "name": config.name,
            "mel_range": config.mel_range,
            "family": config.family,
            "mel_spec": config.mel_spec,
            "cleaner": config.cleaner,
            "text_stops": config.text_stops,
            "silence_trimming": config.silence_trimming,
            "default_voice": config.default_voice,
            "speaker_blend": config.speaker_blend,
            "license": config.license,
            **{field: sizes for field, sizes, _ in made.values()},
        }
    )
    if fault := contradiction(model):
        raise ConfigError(f"these runs do not go together: {fault}")
    networks = {stage: network for stage, (_, _, network) in made.items()}
    for stage, network in networks.items():
        load_trained(network, config.runs[stage] / f"{stage}.safetensors")
        if isinstance(network, UnivNet | HiFiGAN):
            network.fold()  # training holds kernels as direction and length, speaking does not
    return save_model(out, model, networks, tokenizer)


def _check_stages(config: PackConfig) -> None:
    """Refuse stages that nothing is known of, and what lacks one that is needed."""
    for stage in NEEDED:
        if stage not in config.runs:
            raise ConfigError(f"runs lacks {stage}")
    for stage in config.runs:
        if stage not in RUNS:
            raise ConfigError(f"runs.{stage}: no such stage; choose from {', '.join((*NEEDED, *FURTHER))}")


def _settings(config: PackConfig, stage: str) -> dict[str, Any]:
    """What a run was trained with."""
    path = config.runs[stage] / "config.json"
    if not path.is_file():
        raise ConfigError(f"no run of {stage} in {config.runs[stage]}: train it first")
    try:
        return dict(json.loads(path.read_text(encoding="utf8")))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} is damaged ({error}): start the run again, it goes on where it stopped") from error


def _check_run(config: PackConfig, stage: str, settings: dict[str, Any]) -> None:
    """Refuse what would load without a word, and speak nonsense: other mels, or codes where latents are given."""
    conditioning_range = MelRange(-1.0, 1.0) if config.mel_spec == "published" else config.mel_range
    wanted = {"autoregressive": conditioning_range, "diffusion": config.mel_range, "vocoder": config.mel_range}.get(
        stage
    )
    if stage == "vocoder" and settings.get("univnet"):
        wanted = None  # it reads mels as they are
    if wanted and "mel_range" in settings:
        trained = from_mapping(MelRange, settings["mel_range"], where=str(config.runs[stage]))
        if trained != wanted:
            raise ConfigError(
                f"{config.runs[stage]} was trained with mel_range {trained.low:g} to {trained.high:g}, but the model's "
                f"would be {wanted.low:g} to {wanted.high:g}: give the range of the runs"
            )
    if stage == "diffusion" and _either(settings.get("stage", {}), "conditioning", "content") == "codes":
        raise ConfigError(
            f"{config.runs[stage]} renders codes; speech is rendered from latents: train the phase with "
            "stage.conditioning=latents, which starts from these weights"
        )


def _network(config: PackConfig, stage: str, settings: dict[str, Any]) -> tuple[str, Any, nn.Module]:
    """Field of the model's configuration, sizes, and the network without its weights."""
    where = str(config.runs[stage] / "config.json")
    if stage == "vocoder" and settings.get("univnet"):
        univnet = from_mapping(UnivNetConfig, settings["univnet"], where=where)
        return "univnet", univnet, UnivNet(univnet, weight_norm=True)
    if stage == "vocoder":
        vocos = from_mapping(VocosConfig, settings.get("network", {}), where=where)
        return "vocos", vocos, Vocos(vocos, config.mel_range)
    if stage == "autoregressive_prior":
        listener = from_mapping(
            AutoregressiveConfig, _either(settings, "encoder_network", "listener_network") or {}, where=where
        )
        prior = VoicePriorConfig(listener.dim)
        return stage, prior, VoicePrior(prior)
    if stage == "diffusion_prior":
        renderer = from_mapping(
            DiffusionConfig, _either(settings, "encoder_network", "listener_network") or {}, where=where
        )
        prior = VoicePriorConfig(2 * renderer.dim)
        return stage, prior, VoicePrior(prior)
    sizes_type, network_type = NETWORKS[stage]
    sizes: Any = from_mapping(sizes_type, settings.get("network", {}), where=where)
    return stage, sizes, network_type(sizes)


def _either(settings: dict[str, Any], key: str, old: str) -> Any:
    """A setting of a run, whose file may be of an older release."""
    return settings.get(key, settings.get(old))


def voice_clips(config: PackConfig, speaker: str) -> list[Path]:
    """Recordings that make a built-in voice: training clips of three to nine seconds, the first ones.

    Raises ConfigError if the corpus has too few of them.
    """
    features = Features(config.features)
    mine = [c for c in features.split(features.clips)[0] if c.speaker == speaker]
    fit = [c for c in mine if 280 <= c.frames <= 850] or mine
    if not fit:
        raise ConfigError(f"no clips of {speaker!r} in {config.features}")
    return [Path(c.audio) for c in fit[: config.clips]]
