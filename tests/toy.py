"""A model folder made by code in a second: random weights, but of a network that hears, varies and comes to an end.

Everything that training would start at zero is filled with noise, so that no part of the networks is asleep, and the
stop code is about one of ten codes, so that takes are short and differ in length.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from chelys.audio.io import write
from chelys.audio.mel import MelRange
from chelys.audio.rates import OUTPUT_RATE
from chelys.inference.synthesizer import Synthesizer
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.models.clvp import CLVP, CLVPConfig
from chelys.models.diffusion import Diffusion, DiffusionConfig
from chelys.models.vocos import Vocos, VocosConfig
from chelys.text.lexicon import Lexicon
from chelys.text.tokenizer import Tokenizer, make_tokenizer
from chelys.weights.folder import ModelConfig, save_model

CODES = 48
#: Built-in voices and the pitch (Hz) of the tones that they are made of; the first is the default.
VOICES = {"low": 110.0, "high": 260.0}


def tokenizer() -> Tokenizer:
    """Phonemes for a few words, letters for all others."""
    entries = {"hello": "həlˈO", "there": "ðˈɛɹ", "one": "wˈʌn", "two": "tˈu", "three": "θɹˈi", "A": "ˈA"}
    return make_tokenizer(Lexicon(entries, "made for the tests"))


def config(name: str = "toy") -> ModelConfig:
    """The smallest sizes at which every part of the pipeline is there."""
    ids = tokenizer().vocabulary_size
    return ModelConfig(
        name=name,
        mel_range=MelRange(-7.9, -3.2),
        autoregressive=AutoregressiveConfig(
            text_tokens=ids, codes=CODES, dim=32, layers=2, heads=2, conditioning_blocks=1
        ),
        clvp=CLVPConfig(text_tokens=ids, speech_tokens=CODES, dim=32, depth=1, heads=2, head_dim=16, rotary_dim=8),
        diffusion=DiffusionConfig(
            dim=32, heads=2, layers=1, latent_dim=32, latent_blocks=1, codes=CODES, code_blocks=1, context_blocks=1
        ),
        vocos=VocosConfig(dim=32, inner=48, blocks=1, pitches=72),
        default_voice=next(iter(VOICES)),
    )


def networks(config: ModelConfig, seed: int = 0) -> dict[str, nn.Module]:
    """Networks of these sizes with weights drawn from the seed alone."""
    assert config.vocos is not None
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        made = {
            "autoregressive": Autoregressive(config.autoregressive),
            "clvp": CLVP(config.clvp),
            "diffusion": Diffusion(config.diffusion),
            "vocoder": Vocos(config.vocos, config.mel_range),
        }
    for network in made.values():
        stir(network, generator)
    decoder = made["autoregressive"]
    assert isinstance(decoder, Autoregressive)
    with torch.no_grad():
        decoder.code_embedding.weight *= 0.3  # the next code hangs on all that was read, not on the last code alone
        for block in decoder.blocks:
            block.qkv.weight *= 2.0
        decoder.code_head.weight *= 2.0  # some codes are clearly likelier than others
        decoder.code_head.weight[decoder.config.stop_code] = 0.0
        decoder.code_head.bias[decoder.config.stop_code] = 3.8
    return made


@torch.no_grad()
def stir(network: nn.Module, generator: torch.Generator) -> None:
    """Fill every parameter with noise of a size that keeps signals about as large as they are."""
    embeddings = {module.weight for module in network.modules() if isinstance(module, nn.Embedding)}
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter in embeddings:
            parameter.copy_(noise)
        elif parameter.ndim > 1:
            parameter.copy_(noise / parameter[0].numel() ** 0.5)
        elif name.endswith("bias"):
            parameter.copy_(0.1 * noise)
        else:
            parameter.add_(0.1 * noise)


def tone(pitch: float, seconds: float, *, rate: int = OUTPUT_RATE) -> np.ndarray:
    """A buzz of five harmonics with a slow tremolo, ``(n,)`` float32."""
    time = np.arange(round(seconds * rate)) / rate
    buzz = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 6))
    return (0.2 * buzz * (1 + 0.5 * np.sin(2 * np.pi * 3 * time))).astype(np.float32)


def make(folder: Path, *, name: str = "toy", seed: int = 0) -> Path:
    """Write a model folder with its built-in voices.

    Args:
        folder: Where; must not exist.
        name: Of the model.
        seed: Of the weights.
    """
    sizes = config(name)
    save_model(folder, sizes, networks(sizes, seed), tokenizer())
    synthesizer = Synthesizer.from_folder(folder)
    (folder / "voices").mkdir()
    for voice, pitch in VOICES.items():
        clip = folder / f"{voice}.wav"
        write(clip, tone(pitch, 1.5), OUTPUT_RATE)
        synthesizer.voice([clip], name=voice).save(folder / "voices" / f"{voice}.safetensors")
        clip.unlink()
    return folder
