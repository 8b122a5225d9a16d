"""Voices of the published system: conditioning latents of clips, and the files that the original keeps.

Each decoder has mels of its own (``chelys.tortoise.mel``). The original takes six seconds of each clip, drawn at
random, for the one and the first four for the other; here all of a clip is used, in pieces of those lengths, unless
asked for the original (``reference``).

The original's voices are folders of clips, and ``.pth`` files with the two latents of a voice. A ``.pth`` is read
without executing anything of it. The original also writes one of another kind into its voice folders, a list of the
waveforms of the clips; it is refused here, and nothing is ever written into a voice folder.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from chelys.audio.io import CLIP_SUFFIXES, read, resample
from chelys.audio.rates import OUTPUT_RATE, PUBLISHED_CODE_RATE
from chelys.audio.resample import sinc_resample
from chelys.errors import ModelError, VoiceError
from chelys.inference.voice import Voice
from chelys.inference.voice_files import list_user_voices
from chelys.models.autoregressive import Autoregressive
from chelys.models.diffusion import Diffusion
from chelys.tortoise.mel import CODE_CLIP_SAMPLES, DIFFUSION_CLIP_SAMPLES, code_mel, diffusion_mel
from chelys.tortoise.state_dicts import is_plain, load_pickle
from chelys.weights.folder import ModelConfig

#: Bytes of a ``.pth`` with the latents of a voice, or its clips.
MAX_BYTES = 1 << 28
_REMEDY = "give clips of the speaker, or a .pth with the two vectors of a voice"


def latents_file(path: Path) -> Path | None:
    """The ``.pth`` that speaks for a path: the file itself, or the only one of a folder without clips; else None."""
    if path.suffix == ".pth" and path.is_file():
        return path
    try:
        files = [file for file in path.iterdir() if not file.name.startswith(".")] if path.is_dir() else []
    except OSError:  # reading clips from it gives the reason
        return None
    latents = [file for file in files if file.suffix == ".pth"]
    clips = any(file.suffix.lower() in CLIP_SUFFIXES for file in files)
    return latents[0] if len(latents) == 1 and not clips else None


def read_latents(path: Path, sizes: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The two conditioning latents ``(d,)`` and ``(2 d',)``, float32, in a ``.pth`` of the original.

    The file is a tuple of two tensors, ``(1, d)`` and ``(1, 2 d')``, written by ``torch.save``; ``sizes`` are those
    wanted, d and 2 d'.

    Raises:
        VoiceError: If there is no such file, it is damaged, would run code, holds something else, or does not fit.
    """
    if not path.is_file():
        raise VoiceError(f"no voice file at {path}")
    held = _load_pth(path)
    if isinstance(held, list) and held and all(isinstance(waveform, Tensor) for waveform in held):
        raise VoiceError(f"{path} holds waveforms, not the vectors of a voice: give the clips that they are copies of")
    fault = VoiceError(f"{path} is no voice, which is a tuple of two tensors (1, n) of finite numbers: {_REMEDY}")
    if not (isinstance(held, tuple) and len(held) == 2 and all(map(_is_row, held))):
        raise fault
    found = tuple(row.shape[1] for row in held)
    if found != sizes:
        raise VoiceError(
            f"{path} holds vectors of {found[0]} and {found[1]} numbers, the model has {sizes[0]} and {sizes[1]}: "
            "it was made for another model, make the voice anew from clips"
        )
    if not all(row.float().isfinite().all() for row in held):
        raise fault
    return held[0][0].float(), held[1][0].float()


def _load_pth(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"it is larger than {MAX_BYTES} bytes")
        return load_pickle(path)
    except (OSError, ModelError) as error:
        raise VoiceError(
            f"{path} is damaged, no file of torch.save, or holds more than tensors, which is not opened: {_REMEDY}"
        ) from error


def _is_row(held: Any) -> bool:
    return isinstance(held, Tensor) and is_plain(held) and held.is_floating_point() and held.ndim == 2 == 1 + len(held)


def read_voice(path: str | Path, config: ModelConfig) -> Voice:
    """A voice of the original that is a pair of latents, for a model whose weights are the original's.

    The path is a ``.pth`` with a tuple of two tensors, or a voice folder with nothing else in it. Raises as
    ``read_latents``.
    """
    path = Path(path)
    file = latents_file(path) or path
    vectors = read_latents(file, (config.autoregressive.dim, 2 * config.diffusion.dim))
    return Voice(*vectors, config.fingerprint, about={"name": path.stem, "sources": [file.name]})


def voice_at(path: Path, config: ModelConfig) -> Voice | None:
    """The same where a path is such a voice; None where it is not."""
    return read_voice(path, config) if latents_file(path) else None


# ---- clips ------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def published_latents(
    clips: Sequence[np.ndarray], rate: int, autoregressive: Autoregressive, diffusion: Diffusion, *,
    reference: bool = False, seed: int = 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Conditioning latents ``(d,)`` and ``(2 d',)`` of waveforms ``(n,)``, by the two mels of the published system.

    At a rate of 22.05 kHz the autoregressive decoder hears them unchanged, as in the original. With ``reference`` each
    clip gives what the original took of it, by a random choice that has the seed.
    """
    parameter = next(autoregressive.parameters())
    code_mels = published_code_mels(clips, rate, reference=reference, seed=seed).to(parameter)
    first = torch.cat([autoregressive.condition(mel) for mel in code_mels.split(1)]).mean(0)
    pieces: list[Tensor] = []
    for clip in clips:
        waveform = _resampled(clip.clip(-1, 1), rate, OUTPUT_RATE)
        pieces += covering(waveform[:DIFFUSION_CLIP_SAMPLES] if reference else waveform, DIFFUSION_CLIP_SAMPLES)
    second = diffusion.voice([diffusion_mel(piece[None]).to(parameter) for piece in pieces])[0]
    return first, second


def published_code_mels(clips: Sequence[np.ndarray], rate: int, *, reference: bool = False, seed: int = 0) -> Tensor:
    """What the published autoregressive decoder and CVVP hear of waveforms ``(n,)``: ``(c, 80, 517)``.

    A clip shorter than six seconds is followed by silence. Of a longer one the original takes six seconds at random
    (and the same as it, for a given seed); the default is as many pieces as it takes to hear all of it.
    """
    generator = random.Random(seed)  # Python's, as in the original
    pieces: list[Tensor] = []
    for clip in clips:
        waveform = _resampled(clip.clip(-1, 1), rate, PUBLISHED_CODE_RATE)
        gap = len(waveform) - CODE_CLIP_SAMPLES
        if reference and gap > 0:
            start = generator.randint(0, gap)
            waveform = waveform[start : start + CODE_CLIP_SAMPLES]
        pieces += covering(waveform, CODE_CLIP_SAMPLES)
    return code_mel(torch.stack(pieces))


def _resampled(clip: np.ndarray, rate: int, wanted: int) -> Tensor:
    return sinc_resample(torch.from_numpy(np.ascontiguousarray(clip, dtype=np.float32))[None], rate, wanted)[0]


def covering(waveform: Tensor, length: int) -> list[Tensor]:
    """As few pieces ``(length,)`` as cover a waveform ``(n,)``, evenly spread; a shorter one is padded with silence."""
    if len(waveform) <= length:
        return [F.pad(waveform, (0, length - len(waveform)))]
    gap, count = len(waveform) - length, -(-len(waveform) // length)
    starts = torch.linspace(0, gap, count, dtype=torch.float64).round().int().tolist()
    return [waveform[start : start + length] for start in starts]


@torch.inference_mode()
def clip_mels(voice: Voice, *, reference: bool = False, seed: int = 0) -> Tensor:
    """What CVVP compares candidates with: the clips that a voice carries, as `published_code_mels` ``(c, 80, 517)``.

    These are the first twelve seconds of what the voice was made of, at 16 bits.

    Raises:
        VoiceError: If the voice carries no clips.
    """
    require_clips(voice)
    return published_code_mels(voice.waveforms, OUTPUT_RATE, reference=reference, seed=seed)


def require_clips(voice: Voice) -> None:
    """Raise a VoiceError if a voice carries no clips, which CVVP needs."""
    if not voice.clips:
        raise VoiceError(
            f"voice {voice.name!r} carries no clips for CVVP to hear: make it anew from recordings, or set cvvp to 0"
        )


# ---- as programs written for the original ask for them: tensors ``(1, n)`` at 22.05 kHz, or latents --------------

Latents = tuple[Tensor, Tensor]
Clips = list[Tensor]

_logger = logging.getLogger(__name__)


def load_audio(audiopath: str | Path, sampling_rate: int) -> Tensor:
    """A recording ``(1, n)`` at a rate, clipped to [-1, 1]; errors as ``chelys.audio.io.read``."""
    return torch.from_numpy(read(audiopath, sampling_rate)).clamp(-1, 1)[None]


def get_voices(extra_voice_dirs: Sequence[str | Path] = ()) -> dict[str, list[str]]:
    """Files of each voice by its name: folders of clips, the user's voices, and those that come with chelys.

    A folder in one of ``extra_voice_dirs`` is a voice; one of a later folder goes before all others.
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
    """Clips of a voice, or its latents if nothing but a ``.pth`` lies in its folder; neither for ``random``.

    Nothing is written anywhere. A ``.pth`` of waveforms, such as the original leaves in its folders, is read as clips.

    Raises:
        VoiceError, AudioError: If there is no such voice, or its file or a clip cannot be used.
    """
    if voice == "random":
        return None, None
    known = get_voices(extra_voice_dirs)
    if voice not in known:
        raise VoiceError(f"unknown voice {voice!r}: choose from random, {', '.join(known)}, or name more folders")
    paths = [Path(path) for path in known[voice]]
    if len(paths) == 1 and paths[0].suffix == ".safetensors":
        waveforms = Voice.load(paths[0]).waveforms
        if not waveforms:
            raise VoiceError(f"voice {voice!r} carries no clips: make it anew from recordings")
        resampled = [resample(waveform, OUTPUT_RATE, PUBLISHED_CODE_RATE) for waveform in waveforms]
        return [torch.from_numpy(np.asarray(clip, np.float32)).clamp(-1, 1)[None] for clip in resampled], None
    if len(paths) == 1 and paths[0].suffix == ".pth":
        return _read_pth(paths[0])
    clips = [load_audio(path, PUBLISHED_CODE_RATE) for path in paths if path.suffix != ".pth"]
    if not clips:
        raise VoiceError(f"the folder of voice {voice!r} holds no recordings: put clips of one speaker into it")
    return clips, None


def load_voices(
    voices: Sequence[str], extra_voice_dirs: Sequence[str | Path] = ()
) -> tuple[Clips | None, Latents | None]:
    """Several voices as one: all their clips, or the mean of their latents.

    Raises:
        VoiceError: If some have clips and others latents, or as ``load_voice``.
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
    autoregressive, diffusion = (torch.stack(vectors).mean(0) for vectors in zip(*latents, strict=True))
    return None, (autoregressive, diffusion)


def _read_pth(path: Path) -> tuple[Clips | None, Latents | None]:
    """Two latents, which are a tuple, or waveforms, which are a list; nothing of the file is executed."""
    held = _load_pth(path)
    rows = isinstance(held, (list, tuple)) and all(
        isinstance(row, Tensor) and row.ndim == 2 and is_plain(row) and row.isfinite().all() for row in held
    )
    if not rows or not held or (isinstance(held, tuple) and len(held) != 2):
        raise VoiceError(f"{path} holds neither the two vectors of a voice nor its clips: give clips of the speaker")
    return (None, held) if isinstance(held, tuple) else (list(held), None)
