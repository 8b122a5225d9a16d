"""A model folder that can be adapted, and a folder of clips to adapt it to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
import toy
import toy_corpus

from chelys.inference.synthesizer import Synthesizer
from chelys.models.dvae import DVAE, DVAEConfig
from chelys.weights.folder import save_model

#: Sample rate of the clips, Hz; not the model's.
RATE = 22_050


def make_model(folder: Path) -> Path:
    """The toy model with a VQ-VAE and one voice."""
    sizes = replace(
        toy.config(), dvae=DVAEConfig(tokens=toy.CODES, code_width=4, hidden=16, residual_blocks=1), default_voice="low"
    )
    networks = toy.networks(sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks["dvae"] = DVAE(sizes.dvae)
    save_model(folder, sizes, networks, toy.tokenizer())
    clip = folder / "low.wav"
    sf.write(clip, toy.tone(110.0, 1.5), 24_000)
    (folder / "voices").mkdir()
    Synthesizer.from_folder(folder).voice([clip], name="low").save(folder / "voices" / "low.safetensors")
    clip.unlink()
    return folder


def make_clips(folder: Path, count: int = 12, *, silence: float = 0.0) -> Path:
    """LJSpeech's layout: vowels of one speaker, as the words of the text have them.

    Args:
        folder: Where.
        count: How many clips, of 1 to 2 s.
        silence: Seconds of it before and after each clip.
    """
    (folder / "wavs").mkdir(parents=True)
    rng, rows, quiet = np.random.default_rng(5), [], np.zeros(int(silence * RATE), np.float32)
    for index in range(count):
        words = [str(word) for word in rng.choice(list(toy_corpus.WORDS), size=6)]
        wave = toy_corpus.speak(words, 190.0, rng, rate=RATE)
        sf.write(folder / "wavs" / f"clip{index}.wav", np.concatenate((quiet, wave, quiet)), RATE)
        rows.append(f"clip{index}|{' '.join(words)}.\n")
    (folder / "metadata.csv").write_text("".join(rows))
    return folder
