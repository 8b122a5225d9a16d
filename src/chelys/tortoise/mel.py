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

#: Length of what the autoregressive decoder and CVVP listen to at a time: six seconds, 517 frames.
CODE_CLIP_SAMPLES = 6 * PUBLISHED_CODE_RATE
#: Length of what the diffusion decoder listens to at a time: 4.27 s at 24 kHz, 401 frames.
DIFFUSION_CLIP_SAMPLES = 400 * HOP


def code_mel(waveform: Tensor, norms: Tensor | None = None) -> Tensor:
    """Log-mel of 80 bands of a waveform ``(b, n)`` in [-1, 1] at 22.05 kHz, n > 512: ``(b, 80, 1 + n // 256)``.

    Each band is divided by a number of its own ``(f,)``, by default the published ones; loud is low, and silence 1.2 to
    7.2.
    """
    divisors = torch.tensor(MEL_NORMS) if norms is None else norms
    return log_mel(waveform, MEL_22K) / divisors.to(waveform)[:, None]


def diffusion_mel(waveform: Tensor) -> Tensor:
    """Log-mel of 100 bands of a waveform at 24 kHz ``(b, n)``, clipped to [-1, 1]: ``(b, 100, 1 + n // 256)``."""
    return log_mel(waveform.clamp(-1.0, 1.0), MEL_24K)


def read_published(path: str | Path, rate: int, *, max_seconds: float = audio_io.MAX_SECONDS) -> np.ndarray:
    """A recording as the published system reads it, ``(n,)`` float32 in [-1, 1]; errors as ``chelys.audio.io.read``.

    Of a WAV it takes the first channel alone and resamples it with torchaudio's filter. Other files, which it does not
    read at all, are read as chelys reads them.
    """
    wav = Path(path).suffix.lower() == ".wav"
    audio = audio_io.read(path, rate, first_channel=wav, resampler=_resampled if wav else None, max_seconds=max_seconds)
    return np.clip(audio, -1.0, 1.0)


def _resampled(audio: np.ndarray, source_rate: int, rate: int) -> np.ndarray:
    if not can_resample(source_rate, rate):
        return audio_io.resample(audio, source_rate, rate)
    return sinc_resample(torch.from_numpy(audio)[None], source_rate, rate)[0].numpy()


#: Of bands 0 to 79, as float32.
MEL_NORMS = (
    -7.00946045, -6.08323336, -4.64399099, -3.35621715, -2.45478129, -2.00968623, -1.60359025, -1.86409032,
    -2.37279963, -2.34554935, -2.5947032, -2.6695044, -2.71286511, -2.85547662, -3.02509356, -3.08892488,
    -3.4261477, -3.67587066, -4.07799435, -4.46237612, -4.7811594, -5.00745249, -5.12835407, -5.27166462,
    -5.4005599, -5.49932194, -5.53104067, -5.58780432, -5.67262602, -5.70157671, -5.79429197, -5.88307524,
    -5.95369577, -5.99885798, -6.03052568, -6.05394411, -6.0747695, -6.11633396, -6.14813709, -6.24762487,
    -6.31952, -6.44570827, -6.53769922, -6.61098242, -6.64810705, -6.66713142, -6.65394831, -6.64994669,
    -6.67938375, -6.7833209, -6.93069649, -7.08180618, -7.1893549, -7.24390268, -7.31677485, -7.37787056,
    -7.44910002, -7.5233202, -7.62236166, -7.74730349, -7.89941645, -8.06043053, -8.21808338, -8.39979458,
    -8.55557823, -8.71610737, -8.84807491, -8.9581604, -9.03712082, -9.0867424, -9.15459251, -9.2038393,
    -9.23338699, -9.22923565, -9.23044109, -9.26797962, -9.3155508, -9.37155342, -9.41654491, -9.48223782,
)  # fmt: skip
