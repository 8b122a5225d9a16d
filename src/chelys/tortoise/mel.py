"""The two front ends of the published system, which hears a voice twice.

The autoregressive decoder, CVVP and the VQ-VAE listen at 22.05 kHz in 80 bands, the diffusion decoder and the vocoder
at 24 kHz in 100. The two differ in everything: the first takes powers on HTK's scale and divides each band by a number
of its own, the second takes magnitudes on Slaney's scale and leaves them as they are.

b batch, n samples, f bands, s mel frames.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from chelys.audio import io as audio_io
from chelys.audio.mel import log_mel
from chelys.audio.rates import HOP, MEL_22K, MEL_24K, PUBLISHED_CODE_RATE
from chelys.audio.resample import can_resample, sinc_resample
from chelys.tortoise.mel_norms import MEL_NORMS

#: Length of what the autoregressive decoder and CVVP listen to at a time: six seconds, 517 frames.
CODE_CLIP_SAMPLES = 6 * PUBLISHED_CODE_RATE
#: Length of what the diffusion decoder listens to at a time: 4.27 s at 24 kHz, 401 frames.
DIFFUSION_CLIP_SAMPLES = 400 * HOP


def code_mel(wave: Tensor, norms: Tensor | None = None) -> Tensor:
    """Log-mel of 80 bands, each divided by a number of its own.

    Args:
        wave: ``(b, n)`` in [-1, 1] at 22.05 kHz, n > 512.
        norms: Those numbers, ``(f,)``; None takes the published ones.

    Returns:
        ``(b, 80, 1 + n // 256)``; loud is low, and silence 1.2 to 7.2.
    """
    divisors = torch.tensor(MEL_NORMS) if norms is None else norms
    return log_mel(wave, MEL_22K) / divisors.to(wave)[:, None]


def diffusion_mel(wave: Tensor) -> Tensor:
    """Log-mel of 100 bands of a wave at 24 kHz ``(b, n)``, clipped to [-1, 1]: ``(b, 100, 1 + n // 256)``."""
    return log_mel(wave.clamp(-1.0, 1.0), MEL_24K)


def read_published(path: str | Path, rate: int) -> np.ndarray:
    """A recording as the published system reads it, ``(n,)`` float32 in [-1, 1].

    Of a WAV it takes the first channel alone and resamples it with torchaudio's filter. Other files, which it does not
    read at all, are read as chelys reads them.

    Raises:
        AudioError: See ``chelys.audio.io.read``.
    """
    wav = Path(path).suffix.lower() == ".wav"
    audio = audio_io.read(path, rate, first_channel=wav, resampler=_resampled if wav else None)
    return np.clip(audio, -1.0, 1.0)


def _resampled(audio: np.ndarray, source_rate: int, rate: int) -> np.ndarray:
    if not can_resample(source_rate, rate):
        return audio_io.resample(audio, source_rate, rate)
    return sinc_resample(torch.from_numpy(audio)[None], source_rate, rate)[0].numpy()
