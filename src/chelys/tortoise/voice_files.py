"""Voices as the original keeps them: folders of clips, and ``.pth`` files with the two vectors of a voice.

A ``.pth`` is read without executing anything of it. The original also writes one of another kind into its voice
folders, a list of the waveforms of the clips; it is refused here, and nothing is ever written into a voice folder.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chelys.audio.io import CLIP_SUFFIXES
from chelys.errors import VoiceError

_REMEDY = "give clips of the speaker, or a .pth with the two vectors of a voice"


def latents_file(path: Path) -> Path | None:
    """The ``.pth`` that speaks for a path: the file itself, or the only one of a folder without clips; else None."""
    if path.suffix == ".pth" and path.is_file():
        return path
    try:
        files = [file for file in path.iterdir() if not file.name.startswith(".")] if path.is_dir() else []
    except OSError:  # whoever looks for clips in it will say why
        return None
    latents = [file for file in files if file.suffix == ".pth"]
    clips = any(file.suffix.lower() in CLIP_SUFFIXES for file in files)
    return latents[0] if len(latents) == 1 and not clips else None


def read_latents(path: Path, sizes: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The two vectors in a ``.pth`` of the original.

    Args:
        path: A tuple of two tensors, ``(1, d)`` and ``(1, 2 d')``, written by ``torch.save``.
        sizes: Wanted, d and 2 d'.

    Returns:
        ``(d,)`` and ``(2 d',)``, float32.

    Raises:
        VoiceError: If there is no such file, it is damaged, would run code, holds something else, or does not fit.
    """
    if not path.is_file():
        raise VoiceError(f"no voice file at {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that torch has doubts about; the answer below is enough
            held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a dozen kinds; whichever it was, nothing of the file has been executed
        raise VoiceError(
            f"{path} is damaged, no file of torch.save, or holds more than tensors, which is not opened: {_REMEDY}"
        ) from error
    if isinstance(held, list) and held and all(isinstance(wave, Tensor) for wave in held):
        raise VoiceError(f"{path} holds waveforms, not the vectors of a voice: give the clips that they are copies of")
    if not (isinstance(held, tuple) and len(held) == 2 and all(map(_is_row, held))):
        raise VoiceError(f"{path} is no voice, which is a tuple of two tensors (1, n) of finite numbers: {_REMEDY}")
    found = tuple(row.shape[1] for row in held)
    if found != sizes:
        raise VoiceError(
            f"{path} holds vectors of {found[0]} and {found[1]} numbers, the model has {sizes[0]} and {sizes[1]}: "
            "it was made for another model, make the voice anew from clips"
        )
    return held[0][0].float(), held[1][0].float()


def _is_row(held: Any) -> bool:
    if not (isinstance(held, Tensor) and held.layout == torch.strided and held.is_floating_point()):
        return False
    return held.ndim == 2 and held.shape[0] == 1 and bool(held.isfinite().all())
