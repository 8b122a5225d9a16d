"""How far a copy is from its original: what a vocoder, a codec or a VQ-VAE makes of a recording of the same length.

n samples at 24 kHz, s mel frames.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from chelys.audio.mel import log_mel
from chelys.audio.rates import MEL_24K
from chelys.data.pitch import track_pitch

#: Share by which lengths may differ; copies that are longer or shorter have other timing, and frames mean nothing.
SAME_LENGTH = 0.05
_DECIBELS = 20 / math.log(10)  # of a natural logarithm of a magnitude


def same_length(copy: np.ndarray, original: np.ndarray) -> bool:
    """Whether ``(n,)`` and ``(n',)`` can be compared frame by frame."""
    return abs(len(copy) - len(original)) <= SAME_LENGTH * len(original)


def log_mel_error(copy: np.ndarray, original: np.ndarray) -> float:
    """Mean absolute difference of the log-mels of ``(n,)`` and ``(n',)``, decibels; 100 bands to 12 kHz."""
    count = min(len(copy), len(original))
    mels = [log_mel(torch.from_numpy(np.ascontiguousarray(x[:count]))[None], MEL_24K) for x in (copy, original)]
    return float((mels[0] - mels[1]).abs().mean()) * _DECIBELS


def pitch_errors(copy: np.ndarray, original: np.ndarray) -> tuple[float | None, float]:
    """Root mean square error of the pitch in cents where both have one, and the share of frames where only one has.

    WORLD's Dio tracks the pitch of ``(n,)`` and ``(n',)``; the first is None if no frame has it in both. Raises
    MissingExtra if pyworld is not installed.
    """
    count = min(len(copy), len(original))
    one, other = (track_pitch(np.ascontiguousarray(x[:count])) for x in (copy, original))
    both = (one > 0) & (other > 0)
    cents = 1200 * np.log2(one[both] / other[both])
    return float(np.sqrt(np.mean(cents**2))) if both.any() else None, float(np.mean((one > 0) != (other > 0)))
