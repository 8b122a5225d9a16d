"""The VQ-VAE of a training run or of a model folder, as an encoder of clips."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor

from chelys.audio.mel import MelRange, log_mel
from chelys.audio.rates import FRAMES_PER_CODE, MEL_22K, MEL_24K, SAMPLES_PER_CODE
from chelys.config import from_mapping
from chelys.data.prepare.encode import Encoder
from chelys.errors import ModelError
from chelys.models.dvae import DVAE, DVAEConfig
from chelys.tortoise.mel import code_mel
from chelys.weights.catalog import find_model
from chelys.weights.tensor_file import load_network, sha256

_WEIGHTS = "dvae.safetensors"


def folder_of(model: str) -> Path:
    """Folder of a run or of a model.

    Raises:
        ModelError: If there is none, or it has no VQ-VAE.
    """
    folder = find_model(model)
    if not (folder / _WEIGHTS).is_file() or not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no VQ-VAE: name the run folder of the dvae stage, or a model that has one")
    return folder


def digest(model: str) -> str:
    """SHA-256 of the weights."""
    return sha256(folder_of(model) / _WEIGHTS)


@lru_cache(1)
def load_encoder(model: str) -> Encoder:
    """See ``Encoder``; codes are of whole code lengths, what is left over at the end of a clip is left out.

    Raises:
        ModelError: If the folder holds no VQ-VAE, or a damaged one.
    """
    folder = folder_of(model)
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf8"))
        sizes = config["network"] if "network" in config else config["dvae"]  # of a run, of a model
        bounds = config["mel_range"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / 'config.json'} does not describe a VQ-VAE ({error})") from error
    network = DVAE(from_mapping(DVAEConfig, sizes, where=str(folder / "config.json")))
    load_network(folder / _WEIGHTS, network)
    network.eval()
    mel_range = from_mapping(MelRange, bounds, where=str(folder / "config.json"))
    published = network.config.bands == MEL_22K.bands
    rate = MEL_22K.sample_rate if published else MEL_24K.sample_rate

    def front_end(wave: Tensor) -> Tensor:
        return code_mel(wave) if published else mel_range.normalize(log_mel(wave, MEL_24K))

    @torch.inference_mode()
    def encode(audio: np.ndarray, source_rate: int) -> np.ndarray:
        wave = soxr.resample(audio, source_rate, rate) if source_rate != rate else audio
        codes = len(wave) // SAMPLES_PER_CODE
        if codes < 1:
            return np.zeros(0, np.int64)
        mel = front_end(torch.from_numpy(np.ascontiguousarray(wave, np.float32))[None])
        return network.encode(mel[:, :, : codes * FRAMES_PER_CODE])[0].numpy()

    return encode
