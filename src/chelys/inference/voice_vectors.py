"""What the networks hear in clips of a speaker: the two vectors of a voice, by either front end.

nano listens to all of a recording, leveled, through one front end. The published system listens through two
(``chelys.tortoise.mel``) and, as its author ran it, to six seconds of each clip drawn at random and to the first
four; here it listens to all of them in pieces of those lengths, unless asked for the original (``reference``).

n samples, f bands, s mel frames, c clips or pieces of them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from chelys.audio.mel import MelRange, log_mel
from chelys.audio.rates import MEL_24K, OUTPUT_RATE, PUBLISHED_CODE_RATE
from chelys.audio.resample import resample
from chelys.models.autoregressive import Autoregressive
from chelys.models.diffusion import Diffusion
from chelys.tortoise.mel import CODE_CLIP_SAMPLES, DIFFUSION_CLIP_SAMPLES, code_mel, diffusion_mel

#: nano reads a reference in pieces as long as the clips that its networks were trained to be conditioned on.
PIECE_FRAMES = 256


def shared_vectors(
    clips: Sequence[np.ndarray], autoregressive: Autoregressive, diffusion: Diffusion, mel_range: MelRange
) -> tuple[Tensor, Tensor]:
    """Vectors ``(d,)`` and ``(2 d',)`` of waves ``(n,)`` at 24 kHz, by nano's one front end."""
    parameter = next(autoregressive.parameters())
    pieces: list[Tensor] = []
    for clip in clips:
        mel = mel_range.normalize(log_mel(torch.from_numpy(np.ascontiguousarray(leveled(clip)))[None], MEL_24K))
        pieces += pieces_of(mel.to(parameter))
    heard = torch.cat([autoregressive.condition(piece) for piece in pieces]).mean(0)
    return heard, diffusion.voice(pieces)[0]


def published_vectors(
    clips: Sequence[np.ndarray],
    rate: int,
    autoregressive: Autoregressive,
    diffusion: Diffusion,
    *,
    reference: bool = False,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Vectors of waves, by the two front ends of the published system.

    Args:
        clips: Waves ``(n,)`` float32 at ``rate``.
        rate: Hz; at 22.05 kHz the autoregressive decoder hears them unchanged, as it did in the original.
        autoregressive: Decoder whose conditioning encoder listens.
        diffusion: Decoder whose contextual embedder listens.
        reference: Hear of each clip what the original heard.
        seed: Of its random choice.

    Returns:
        ``(d,)`` and ``(2 d',)``.
    """
    parameter = next(autoregressive.parameters())
    code_mels = published_code_mels(clips, rate, reference=reference, seed=seed).to(parameter)
    heard = torch.cat([autoregressive.condition(mel) for mel in code_mels.split(1)]).mean(0)
    pieces: list[Tensor] = []
    for clip in clips:
        wave = _at_rate(clip.clip(-1, 1), rate, OUTPUT_RATE)
        pieces += covering(wave[:DIFFUSION_CLIP_SAMPLES] if reference else wave, DIFFUSION_CLIP_SAMPLES)
    rendered = diffusion.voice([diffusion_mel(piece[None]).to(parameter) for piece in pieces])[0]
    return heard, rendered


def published_code_mels(clips: Sequence[np.ndarray], rate: int, *, reference: bool = False, seed: int = 0) -> Tensor:
    """What the published autoregressive decoder and CVVP hear of waves ``(n,)``: ``(c, 80, 517)``.

    A clip shorter than six seconds is followed by silence. Of a longer one the original takes six seconds at random
    (and the same as it, for a given seed); the default is as many pieces as it takes to hear all of it.
    """
    generator = random.Random(seed)  # Python's, as in the original
    pieces: list[Tensor] = []
    for clip in clips:
        wave = _at_rate(clip.clip(-1, 1), rate, PUBLISHED_CODE_RATE)
        gap = len(wave) - CODE_CLIP_SAMPLES
        if reference and gap > 0:
            start = generator.randint(0, gap)
            wave = wave[start : start + CODE_CLIP_SAMPLES]
        pieces += covering(wave, CODE_CLIP_SAMPLES)
    return code_mel(torch.stack(pieces))


def covering(wave: Tensor, length: int) -> list[Tensor]:
    """As few pieces ``(length,)`` as cover a wave ``(n,)``, evenly spread; a shorter wave is followed by silence."""
    if len(wave) <= length:
        return [F.pad(wave, (0, length - len(wave)))]
    starts = torch.linspace(0, len(wave) - length, -(-len(wave) // length), dtype=torch.float64).round().int().tolist()
    return [wave[start : start + length] for start in starts]


def at_rate(clip: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """A wave ``(n,)`` at another rate, Hz."""
    return clip if rate == wanted else _at_rate(clip, rate, wanted).numpy()


def _at_rate(clip: np.ndarray, rate: int, wanted: int) -> Tensor:
    return resample(torch.from_numpy(np.ascontiguousarray(clip, dtype=np.float32))[None], rate, wanted)[0]


def pieces_of(mel: Tensor) -> list[Tensor]:
    """Cut a mel ``(1, f, s)`` into pieces of the trained length, which overlap where it is no multiple of that."""
    frames = mel.shape[2]
    if frames <= PIECE_FRAMES:
        return [mel.repeat(1, 1, -(-PIECE_FRAMES // frames))[:, :, :PIECE_FRAMES]]
    count = max(1, round(frames / PIECE_FRAMES))
    starts = torch.linspace(0, frames - PIECE_FRAMES, count).round().int().tolist()
    return [mel[:, :, s : s + PIECE_FRAMES] for s in starts]


def leveled(clip: np.ndarray, rms: float = 0.08) -> np.ndarray:
    """A clip at the loudness of the training corpus, so that a quiet recording does not make a quiet voice."""
    gain = rms / (float(np.sqrt(np.mean(clip.astype(np.float64) ** 2))) + 1e-9)
    return (clip * min(gain, 0.95 / (float(np.abs(clip).max()) + 1e-9))).astype(np.float32)
