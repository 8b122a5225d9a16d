"""TorToise v2's files in small: published names and layout, networks of a few thousand numbers, made in a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import toy
from torch import Tensor

from chelys.models.autoregressive import AutoregressiveConfig
from chelys.models.clvp import CLVPConfig
from chelys.models.diffusion import DiffusionConfig
from chelys.models.dvae import DVAEConfig
from chelys.tortoise.cvvp import CVVPConfig
from chelys.tortoise.detector import DetectorConfig
from chelys.tortoise.hifigan import HiFiGANConfig
from chelys.tortoise.model import TortoiseConfig
from chelys.tortoise.state_dicts import TABLES, to_tortoise
from chelys.tortoise.univnet import UnivNetConfig
from chelys.tortoise.voice_prior import VoicePriorConfig

CODES = 300

SIZES: dict[str, Any] = {
    "autoregressive": replace(
        AutoregressiveConfig.tortoise_v2(),
        codes=CODES, dim=64, layers=2, heads=1, text_positions=80, code_positions=520, conditioning_blocks=1,
    ),
    "clvp": replace(CLVPConfig.tortoise_v2(), speech_tokens=CODES, dim=64, depth=1, heads=1),
    "diffusion": replace(
        DiffusionConfig.tortoise_v2(),
        dim=64, heads=1, layers=1, final_blocks=2, timestep_encoder_layers=1, latent_dim=64, latent_blocks=1,
        codes=CODES, code_blocks=1, context_blocks=1,
    ),
    "univnet": replace(UnivNetConfig.c32(), channels=4, predictor_channels=8, predictor_blocks=1),
    "cvvp": replace(CVVPConfig.tortoise_v2(), speech_tokens=CODES, dim=64, clip_depth=1, speech_depth=2, heads=1),
    "hifigan": replace(HiFiGANConfig.tortoise_v2(), latent_dim=64, voice_dim=64, channels=16),
    "autoregressive_prior": VoicePriorConfig(64),
    "diffusion_prior": VoicePriorConfig(128),
    "detector": replace(DetectorConfig.tortoise_v2(), channels=32, stages=2, dim=128, attention_blocks=1, heads=1),
    "dvae": replace(DVAEConfig.tortoise_v2(), tokens=CODES, code_width=8, hidden=8),
}  # fmt: skip


def published(network: str, seed: int = 0) -> dict[str, Tensor]:
    """Weights of one network under their published names, drawn from the seed."""
    normed = {"weight_norm": True} if TABLES[network].weight_norm else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TortoiseConfig.NETWORKS[network](SIZES[network], **normed)
    toy.stir(model, torch.Generator().manual_seed(seed))
    return {name: tensor.detach().clone() for name, tensor in to_tortoise(network, model.state_dict()).items()}


def save(path: Path, network: str, state: dict[str, Tensor]) -> None:
    """A file as the published one is laid out."""
    entry = TABLES[network].entry
    torch.save({entry: state, "step": 7, "githash": "abc"} if entry else state, path)


def make(folder: Path, *, seed: int = 0) -> Path:
    """Write all files."""
    folder.mkdir(parents=True, exist_ok=True)
    for network in SIZES:
        save(folder / TABLES[network].file, network, published(network, seed))
    return folder
