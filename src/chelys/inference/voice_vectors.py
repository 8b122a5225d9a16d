"""What the networks hear in clips of a speaker: all of each recording, leveled, as one kind of mel.

n samples, f bands, s mel frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from chelys.audio.mel import MelRange, log_mel
from chelys.audio.rates import MEL_24K
from chelys.audio.resample import sinc_resample
from chelys.models.autoregressive import Autoregressive
from chelys.models.diffusion import Diffusion

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


def at_rate(clip: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """A wave ``(n,)`` at another rate, Hz."""
    return clip if rate == wanted else resampled(clip, rate, wanted).numpy()


def resampled(clip: np.ndarray, rate: int, wanted: int) -> Tensor:
    """The same as a tensor ``(n,)``; never the clip itself."""
    return sinc_resample(torch.from_numpy(np.ascontiguousarray(clip, dtype=np.float32))[None], rate, wanted)[0]


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
