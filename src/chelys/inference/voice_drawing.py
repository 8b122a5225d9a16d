"""Voices that nobody has: ``random:SEED``.

A family of models may have networks that draw one. Without them the built-in voices are blended by random shares.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import replace

import torch

from chelys.errors import VoiceError
from chelys.inference.family import Family
from chelys.inference.voice import Voice

SEEDS = 2**32
_RANDOM = re.compile(r"random(:[^+]*)?")  # with a plus it is a mix


def drawn_seed(name: str) -> int | None:
    """Seed that a name asks for: that of ``random:SEED``, a fresh one for ``random``, None for any other name.

    Raises:
        VoiceError: If what follows ``random:`` is no seed.
    """
    match = _RANDOM.fullmatch(name)
    if match is None:
        return None
    if match[1] is None:
        return secrets.randbelow(SEEDS)
    digits = match[1][1:]
    if not re.fullmatch("[0-9]{1,10}", digits) or int(digits) >= SEEDS:
        raise VoiceError(f"no voice {name!r}: write random:SEED with a whole seed from 0 to {SEEDS - 1}")
    return int(digits)


@torch.inference_mode()
def draw_voice(family: Family, seed: int) -> Voice:
    """The voice ``random:SEED`` of a model.

    Without networks that draw voices the shares of the built-in voices follow Dirichlet's distribution with
    concentration 1/2, so that one or two of them mostly prevail.

    Raises:
        VoiceError: If the seed is out of range, or the model has neither priors nor voices.
    """
    if not 0 <= seed < SEEDS:
        raise VoiceError(f"the seed of a random voice is {seed}; it must lie between 0 and {SEEDS - 1}")
    generator = torch.Generator().manual_seed(seed)
    name, model, config = f"random:{seed}", family.model, family.model.config
    if family.draws_voices:
        heard, rendered = (vector.float().cpu() for vector in family.draw_latents(generator))
        about = {"name": name, "description": "drawn from the model's priors"}
        return Voice(heard, rendered, config.fingerprint, about=about)
    files = sorted((model.folder / "voices").glob("*.safetensors"))
    if not files:
        raise VoiceError(f"{config.name} cannot draw a voice, it has no priors and no voices to blend: give clips")
    voices = [Voice.load(file) for file in files]
    gammas = torch.randn(len(voices), generator=generator, dtype=torch.float64).square()  # of shape 1/2
    blend = Voice.mix(voices, gammas.tolist())
    shares = sorted(zip((gammas / gammas.sum()).tolist(), (voice.name for voice in voices), strict=True), reverse=True)
    parts = ", ".join(f"{share:.0%} {part}" for share, part in shares if share >= 0.005)
    about = {"name": name, "description": f"a blend of {parts}"}
    return replace(blend, about=about)
