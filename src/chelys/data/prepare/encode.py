"""Clips to codes, by the VQ-VAE of a training run or of a model folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from chelys.audio.io import resample
from chelys.data.prepare.work import ClipStage, Item, Row, Store, find_object, read_block
from chelys.errors import ModelError
from chelys.parsing import read_json

_WEIGHTS, _CONFIG = "dvae.safetensors", "config.json"

#: Sound ``(n,)`` and its rate (Hz) -> codes ``(m,)``. It may have ``encode_clips``, which takes and gives lists, and
#: ``to(device)``.
ClipEncoder = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class EncodeSettings:
    """The encoder."""

    #: ``package.module:function`` that makes a ``ClipEncoder`` of ``model``
    encoder: str = "chelys.data.prepare.encode:load_encoder"
    model: str | None = None  # run folder of the dvae stage, or a model folder; None leaves the stage out
    digest: str = ""  # of its weights, so that other weights in the same place give other work; found automatically


@dataclass(frozen=True)
class Encode(ClipStage):
    """The stage; ``device`` does not change its keys."""

    settings: EncodeSettings = EncodeSettings()
    name: str = "encode"
    version: int = 1
    device: str = "cpu"

    def check(self) -> None:
        _load(self.settings.encoder, self.settings.model, "cpu")

    def work(self, item: Item, store: Store) -> list[Row]:
        encoder = _load(self.settings.encoder, self.settings.model, self.device)
        clips = list(read_block(item, store))
        if hasattr(encoder, "encode_clips"):
            codes = encoder.encode_clips([audio for audio, _ in clips], clips[0][1])
        else:
            codes = [encoder(audio, rate) for audio, rate in clips]
        return [{"codes": one.tolist()} for one in codes]


@lru_cache(1)
def _load(encoder: str, model: str | None, device: str) -> Any:
    made = find_object(encoder)(model)
    return made.to(device) if hasattr(made, "to") and device != "cpu" else made


class VQVAEEncoder:
    """A VQ-VAE of a run or a model, with its mel; what remains at the end of a clip after whole codes is left out.

    Raises ModelError if the folder holds no VQ-VAE, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        from chelys.audio.mel import MelRange
        from chelys.config import from_mapping
        from chelys.data.dataset import MEL_SPECS, MelSpecName
        from chelys.models.dvae import DVAE, DVAEConfig
        from chelys.weights.tensor_file import load_network

        path = folder / _CONFIG
        try:
            config: dict[str, Any] = read_json(path)
            sizes = config["network"] if "network" in config else config["dvae"]  # of a run, of a model
            bounds = config["mel_range"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path} does not describe a VQ-VAE ({error})") from error
        self.network = DVAE(from_mapping(DVAEConfig, sizes, where=str(path)))
        load_network(folder / _WEIGHTS, self.network)
        self.network.eval()
        self.mel_range = from_mapping(MelRange, bounds, where=str(path))
        bands = self.network.config.bands
        found: list[MelSpecName] = [name for name, spec in MEL_SPECS.items() if spec.bands == bands]
        self.mel_spec: MelSpecName = found[0] if found else "shared"
        self.rate = MEL_SPECS[self.mel_spec].sample_rate
        self.device = "cpu"

    def to(self, device: str) -> VQVAEEncoder:
        self.network.to(device)
        self.device = device
        return self

    def __call__(self, audio: np.ndarray, rate: int) -> np.ndarray:
        return self.encode_clips([audio], rate)[0]

    def encode_clips(self, clips: list[np.ndarray], rate: int) -> list[np.ndarray]:
        """Codes of several clips ``(n,)`` of one rate (Hz), in a batch."""
        import torch

        with torch.inference_mode():
            mels = [self._mel(resample(clip, rate, self.rate)) for clip in clips]
            return [codes.cpu().numpy() for codes in self.network.encode_clips(mels)]

    def _mel(self, waveform: np.ndarray) -> Any:
        import torch

        from chelys.audio.rates import FRAMES_PER_CODE, SAMPLES_PER_CODE
        from chelys.data.dataset import mel_of

        codes = len(waveform) // SAMPLES_PER_CODE
        if codes < 1:
            return torch.zeros(self.network.config.bands, 0, device=self.device)
        samples = torch.from_numpy(np.ascontiguousarray(waveform, np.float32))[None]
        mel = mel_of(samples, self.mel_spec)
        if self.mel_spec == "shared":  # the other is in the network's units already
            mel = self.mel_range.normalize(mel)
        return mel[0, :, : codes * FRAMES_PER_CODE].to(self.device)


def load_encoder(model: str) -> VQVAEEncoder:
    """The default encoder: that of a run folder of the dvae stage, or of a model."""
    return VQVAEEncoder(_folder(model))


def encoder_digest(model: str) -> str:
    """SHA-256 of the weights."""
    from chelys.weights.tensor_file import sha256

    return sha256(_folder(model) / _WEIGHTS)


def _folder(model: str) -> Path:
    from chelys.weights.catalog import find_model

    folder = find_model(model)
    if not (folder / _WEIGHTS).is_file() or not (folder / _CONFIG).is_file():
        raise ModelError(f"{folder} has no VQ-VAE: name the run folder of the dvae stage, or a model that has one")
    return folder
