"""Runs to a model folder: the averaged weights of every stage, the tokenizer, one configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from chelys.audio.mel import MelRange
from chelys.config import from_mapping
from chelys.data.batching import is_held_out
from chelys.data.features import Features
from chelys.errors import ConfigError
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.clvp import CLVP, CLVPConfig
from chelys.models.diffusion import Diffusion, DiffusionConfig
from chelys.models.dvae import DVAE, DVAEConfig
from chelys.models.vocos import Vocos, VocosConfig
from chelys.text.tokenizer import Tokenizer
from chelys.train.run import load_trained
from chelys.weights.folder import ModelConfig, save_model


@dataclass(frozen=True)
class PackConfig:
    """What goes into the folder.

    Attributes:
        name: Of the model.
        runs: Folder name of each stage's run: ``dvae``, ``autoregressive``, ``clvp``, ``diffusion``, ``vocoder``.
        text: Folder of the tokenizer.
        features: Feature folder that the built-in voices' clips come from.
        mel_range: Log-mels that become -1 and 1.
        default_voice: Built-in voice that speaks when none is named.
        voices: Built-in voice to speaker of the corpus.
        clips: Clips of each voice.
        kept_seconds: How much of its clips a voice file carries, so that other models can use the voice.
        license: Of the weights (SPDX).
    """

    name: str
    runs: dict[str, Path]
    text: Path
    features: Path
    mel_range: MelRange
    default_voice: str
    voices: dict[str, str] = field(default_factory=dict)
    clips: int = 3
    kept_seconds: float = 3.0
    license: str = "Apache-2.0"


def pack(config: PackConfig, out: Path) -> ModelConfig:
    """Write the model folder, without voices.

    Raises:
        ConfigError: If a run is missing or not finished.
    """
    tokenizer = Tokenizer.load(config.text)
    sizes: dict[str, Any] = {
        "autoregressive": from_mapping(AutoregressiveConfig, _network(config, "autoregressive")),
        "clvp": from_mapping(CLVPConfig, _network(config, "clvp")),
        "diffusion": from_mapping(DiffusionConfig, _network(config, "diffusion")),
        "vocos": from_mapping(VocosConfig, _network(config, "vocoder")),
        "dvae": from_mapping(DVAEConfig, _network(config, "dvae")),
    }
    networks: dict[str, nn.Module] = {
        "autoregressive": Autoregressive(sizes["autoregressive"]),
        "clvp": CLVP(sizes["clvp"]),
        "diffusion": Diffusion(sizes["diffusion"]),
        "vocoder": Vocos(sizes["vocos"], config.mel_range),
        "dvae": DVAE(sizes["dvae"]),
    }
    for stage, network in networks.items():
        load_trained(network, config.runs[stage] / f"{stage}.safetensors")
    model = ModelConfig(
        name=config.name,
        mel_range=config.mel_range,
        default_voice=config.default_voice,
        license=config.license,
        **sizes,
    )
    return save_model(out, model, networks, tokenizer)


def _network(config: PackConfig, stage: str) -> dict[str, Any]:
    """Sizes that a run was trained with."""
    if stage not in config.runs:
        raise ConfigError(f"runs lacks {stage}")
    path = config.runs[stage] / "config.json"
    if not path.is_file():
        raise ConfigError(f"no run of {stage} in {config.runs[stage]}: train it first")
    return json.loads(path.read_text(encoding="utf8"))["network"]


def voice_clips(config: PackConfig, speaker: str) -> list[Path]:
    """Recordings that make a built-in voice: training clips of three to nine seconds, the first ones.

    Raises:
        ConfigError: If the corpus has too few of them.
    """
    features = Features(config.features)
    mine = [c for c in features.clips if c.speaker == speaker and not is_held_out(c)]
    fit = [c for c in mine if 280 <= c.frames <= 850] or mine
    if not fit:
        raise ConfigError(f"no clips of {speaker!r} in {config.features}")
    return [Path(c.audio) for c in fit[: config.clips]]
