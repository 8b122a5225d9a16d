"""Runs to a model folder: the averaged weights of every stage, the tokenizer, one configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import nn

from chelys.audio.mel import MelRange
from chelys.config import from_mapping
from chelys.configs import read_settings
from chelys.data.dataset import Features
from chelys.errors import ConfigError
from chelys.models.vocos import Vocos
from chelys.text.tokenizer import Tokenizer
from chelys.tortoise.hifigan import HiFiGAN
from chelys.tortoise.model import SilenceTrimming, TortoiseConfig
from chelys.tortoise.univnet import UnivNet
from chelys.tortoise.voice_prior import VoicePriorConfig
from chelys.training.checkpoint import load_trained
from chelys.training.tasks import RUNS
from chelys.weights.folder import ModelConfig, contradiction, make_config, save_model

#: Stages whose networks a model may have, and those without which nothing speaks, or nothing could be trained on.
FURTHER = TortoiseConfig.EXTRAS
NEEDED = tuple(stage for stage in RUNS if stage not in FURTHER)


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
    int8: tuple[str, ...] = ()  # networks whose matrices are kept as int8, half as large; they are computed in floats

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
    for stage in NEEDED:
        if stage not in config.runs:
            raise ConfigError(f"runs lacks {stage}")
    for stage in config.runs:
        if stage not in RUNS:
            raise ConfigError(f"runs.{stage}: no such stage; choose from {', '.join((*NEEDED, *FURTHER))}")
    if odd := sorted(set(config.int8) - config.runs.keys()):
        raise ConfigError(f"int8 names {odd[0]}, which is not among the runs")
    tokenizer = Tokenizer.load(config.text, cleaner=config.cleaner)
    stages = [stage for stage in (*NEEDED, *FURTHER) if stage in config.runs]
    runs = {stage: read_run_folder(stage, config.runs[stage]) for stage in stages}
    for stage, run in runs.items():
        _check_run(config, stage, run)
    made = {stage: _network(config, stage, run) for stage, run in runs.items()}
    same = (
        "name", "mel_range", "family", "mel_spec", "cleaner", "text_stops", "silence_trimming", "default_voice",
        "speaker_blend", "license",
    )  # fmt: skip
    sizes = {field: sizes for field, sizes, _ in made.values()}
    model = make_config({key: getattr(config, key) for key in same} | sizes)
    if fault := contradiction(model):
        raise ConfigError(f"these runs do not go together: {fault}")
    networks = {stage: network for stage, (_, _, network) in made.items()}
    for stage, network in networks.items():
        load_trained(network, config.runs[stage] / f"{stage}.safetensors")
        if isinstance(network, UnivNet | HiFiGAN):
            network.fold()  # training holds kernels as direction and length, speaking does not
    return save_model(out, model, networks, tokenizer, int8=config.int8)


def read_run_folder(stage: str, folder: Path) -> Any:
    """The settings that a run was trained with. Raises ConfigError if they are missing or damaged."""
    path = folder / "config.json"
    if not path.is_file():
        raise ConfigError(f"no run of {stage} in {folder}: train it first")
    return from_mapping(RUNS[stage], read_settings(path), where=str(path))


def _check_run(config: PackConfig, stage: str, run: Any) -> None:
    """Refuse what would load without a word, and speak nonsense: other mels, or codes where latents are given."""
    wanted = config.mel_range
    if stage == "autoregressive" and config.mel_spec == "published":
        wanted = MelRange(-1.0, 1.0)
    reads_range = stage in ("autoregressive", "diffusion") or (stage == "vocoder" and not run.univnet)
    if reads_range and run.mel_range != wanted:
        raise ConfigError(
            f"{config.runs[stage]} was trained with mel_range {run.mel_range.low:g} to {run.mel_range.high:g}, but the "
            f"model's would be {wanted.low:g} to {wanted.high:g}: give the range of the runs"
        )
    if stage == "diffusion" and run.stage.conditioning == "codes":
        raise ConfigError(
            f"{config.runs[stage]} renders codes; speech is rendered from latents: train the phase with "
            "stage.conditioning=latents, which starts from these weights"
        )


def _network(config: PackConfig, stage: str, run: Any) -> tuple[str, Any, nn.Module]:
    """Field of the model's configuration, sizes, and the network without its weights."""
    if stage == "vocoder" and run.univnet:
        return "univnet", run.univnet, UnivNet(run.univnet, weight_norm=True)
    if stage == "vocoder":
        return "vocos", run.network, Vocos(run.network, config.mel_range)
    sizes: Any
    if stage.endswith("_prior"):  # as wide as the conditioning latents of its encoder
        sizes = VoicePriorConfig(run.encoder_network.dim * (2 if stage == "diffusion_prior" else 1))
    else:
        sizes = run.network
    network = TortoiseConfig.NETWORKS[stage]
    return stage, sizes, HiFiGAN(sizes, weight_norm=True) if network is HiFiGAN else network(sizes)


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
