"""Voices and clips as programs written for the original ask for them: tensors ``(1, n)`` at 22.05 kHz, or vectors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor

from chelys.audio.io import CLIP_SUFFIXES, read
from chelys.audio.rates import OUTPUT_RATE, PUBLISHED_CODE_RATE
from chelys.errors import VoiceError
from chelys.inference.voice import Voice
from chelys.inference.voice_library import list_user_voices

Latents = tuple[Tensor, Tensor]
Clips = list[Tensor]

_logger = logging.getLogger(__name__)


def load_audio(audiopath: str | Path, sampling_rate: int) -> Tensor:
    """A recording ``(1, n)`` at a rate, clipped to [-1, 1].

    Raises:
        AudioError: If it is missing, no audio, or damaged.
    """
    return torch.from_numpy(read(audiopath, sampling_rate)).clamp(-1, 1)[None]


def get_voices(extra_voice_dirs: Sequence[str | Path] = ()) -> dict[str, list[str]]:
    """Files of each voice by its name: folders of clips, the user's voices, and those that come with chelys.

    Args:
        extra_voice_dirs: Folders that hold a folder for each voice; a later one goes before all others.
    """
    built_in = Path(str(resources.files("chelys") / "assets" / "nano" / "voices"))
    voices = {path.stem: [str(path)] for path in sorted(built_in.glob("*.safetensors"))}
    voices |= {name: [str(path)] for name, path in list_user_voices().items()}
    for place in map(Path, extra_voice_dirs):
        folders = sorted(path for path in place.expanduser().iterdir() if path.is_dir()) if place.is_dir() else []
        for folder in folders:  # in the order of names, which the original left to the file system
            inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
            voices[folder.name] = [str(path) for path in inside if path.suffix.lower() in {*CLIP_SUFFIXES, ".pth"}]
    return voices


def load_voice(voice: str, extra_voice_dirs: Sequence[str | Path] = ()) -> tuple[Clips | None, Latents | None]:
    """Clips of a voice, or its vectors if nothing but a ``.pth`` lies in its folder; neither for ``random``.

    Nothing is written anywhere. A ``.pth`` of waveforms, such as the original leaves in its folders, is read as clips.

    Raises:
        VoiceError: If there is no such voice, or its file cannot be used.
        AudioError: If a clip cannot be read.
    """
    if voice == "random":
        return None, None
    known = get_voices(extra_voice_dirs)
    if voice not in known:
        raise VoiceError(f"unknown voice {voice!r}: choose from random, {', '.join(known)}, or name more folders")
    paths = [Path(path) for path in known[voice]]
    if len(paths) == 1 and paths[0].suffix == ".safetensors":
        waves = Voice.load(paths[0]).waveforms
        if not waves:
            raise VoiceError(f"voice {voice!r} carries no clips: make it anew from recordings")
        return [_at_published_rate(wave) for wave in waves], None
    if len(paths) == 1 and paths[0].suffix == ".pth":
        return _read_pth(paths[0])
    clips = [load_audio(path, PUBLISHED_CODE_RATE) for path in paths if path.suffix != ".pth"]
    if not clips:
        raise VoiceError(f"the folder of voice {voice!r} holds no recordings: put clips of one speaker into it")
    return clips, None


def load_voices(
    voices: Sequence[str], extra_voice_dirs: Sequence[str | Path] = ()
) -> tuple[Clips | None, Latents | None]:
    """Several voices as one: all their clips, or the mean of their vectors.

    Raises:
        VoiceError: If some have clips and others vectors, or as ``load_voice``.
    """
    if "random" in voices:
        if len(voices) > 1:
            _logger.warning("a random voice cannot be mixed with others: the voice is random")
        return None, None
    clips: Clips = []
    latents: list[Latents] = []
    for voice in voices:
        samples, vectors = load_voice(voice, extra_voice_dirs)
        clips += samples or []
        latents += [vectors] if vectors else []
    if clips and latents:
        raise VoiceError("voices of clips and voices of vectors cannot be mixed: choose voices of one kind")
    if not latents:
        return clips, None
    heard, rendered = (torch.stack(vectors).mean(0) for vectors in zip(*latents, strict=True))
    return None, (heard, rendered)


def _at_published_rate(wave: np.ndarray) -> Tensor:
    resampled = soxr.resample(wave, OUTPUT_RATE, PUBLISHED_CODE_RATE, quality="HQ")
    return torch.from_numpy(np.asarray(resampled, np.float32)).clamp(-1, 1)[None]


def _read_pth(path: Path) -> tuple[Clips | None, Latents | None]:
    """Two vectors, which are a tuple, or waveforms, which are a list; nothing of the file is executed."""
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a dozen kinds
        raise VoiceError(f"{path} is damaged, or holds more than tensors: give clips of the speaker") from error
    rows = isinstance(held, (list, tuple)) and all(isinstance(row, Tensor) and row.ndim == 2 for row in held)
    if not rows or not held or (isinstance(held, tuple) and len(held) != 2):
        raise VoiceError(f"{path} holds neither the two vectors of a voice nor its clips: give clips of the speaker")
    return (None, held) if isinstance(held, tuple) else (list(held), None)
