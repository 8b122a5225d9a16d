"""Another sample rate by windowed-sinc interpolation (J. O. Smith, "Digital Audio Resampling"), as torchaudio does it.

The published system reads its clips with this filter, with torchaudio's defaults: six zero crossings to each side
under a Hann window, band edge at 0.99 of the lower of the two Nyquist frequencies. Recordings of other kinds are
resampled by soxr, which is better and faster (``chelys.audio.io.read``).

n samples, p phases of the filter (samples out for every ``step`` samples in), k its taps.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

ZERO_CROSSINGS = 6  # to each side of the centre of the filter
ROLLOFF = 0.99  # band edge, of the lower Nyquist frequency
_MOST_WEIGHTS = 1 << 24  # of a filter; rates without a common measure, such as 44099 and 24000 Hz, would need 2^30


def sinc_resample(waveform: Tensor, source_rate: int, rate: int) -> Tensor:
    """A waveform ``(b, n)``, float32, at another rate, Hz: ``(b, ceil(n * rate / source_rate))``.

    The two rates must be resamplable, see ``can_resample``.
    """
    if source_rate == rate:
        return waveform
    step, phases = _ratio(source_rate, rate)
    kernels = _kernels(step, phases).to(waveform)
    reach = (kernels.shape[2] - step) // 2
    padded = F.pad(waveform.unsqueeze(1), (reach, reach + step))
    out = F.conv1d(padded, kernels, stride=step)  # (b, p, frames): the samples of a frame lie next to each other in p
    length = -(-waveform.shape[1] * phases // step)
    return out.transpose(1, 2).flatten(1)[:, :length]


def low_pass(waveform: Tensor, cutoff_hz: Tensor, rate: int) -> Tensor:
    """Waveforms ``(b, n)`` at a rate, Hz, less what is above cutoffs ``(b,)``, Hz; infinite ones let all pass."""
    spectrum = torch.fft.rfft(waveform.float())
    frequencies = torch.fft.rfftfreq(waveform.shape[1], 1 / rate, device=waveform.device)
    return torch.fft.irfft(spectrum * (frequencies < cutoff_hz[:, None]), waveform.shape[1])


def can_resample(source_rate: int, rate: int) -> bool:
    """Whether the filter between two rates is of a size worth having."""
    step, phases = _ratio(source_rate, rate)
    return phases * (step + 2 * _reach(step, phases)) <= _MOST_WEIGHTS


def _ratio(source_rate: int, rate: int) -> tuple[int, int]:
    common = math.gcd(source_rate, rate)
    return source_rate // common, rate // common


def _reach(step: int, phases: int) -> int:
    """Samples in that lie under one half of the window."""
    return math.ceil(ZERO_CROSSINGS * step / (min(step, phases) * ROLLOFF))


@lru_cache(maxsize=8)
def _kernels(step: int, phases: int) -> Tensor:
    """One filter for each sample out of a frame, ``(p, 1, k)`` float32, k = step + 2 reach."""
    with torch.inference_mode(False):  # kept for later callers, who may want gradients through what they multiply
        edge = min(step, phases) * ROLLOFF  # zero crossings in the time of a frame
        reach = _reach(step, phases)
        source_times = torch.arange(-reach, reach + step, dtype=torch.float64) / step
        times = torch.arange(phases, dtype=torch.float64) / phases
        distance = ((source_times - times[:, None]) * edge).clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS)
        window = torch.cos(distance * (math.pi / 2 / ZERO_CROSSINGS)).square()
        return (torch.sinc(distance) * window * (edge / step)).float().unsqueeze(1)
