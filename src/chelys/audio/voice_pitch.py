"""How high a voice is: its median pitch, to describe it in a word. n samples, f frames."""

from __future__ import annotations

import numpy as np

from chelys.audio.io import resample

#: Hz between which a pitch is looked for.
RANGE = (60.0, 400.0)
_RATE = 12_000  # Hz: a peak of the autocorrelation lies within 0.5 % of the period at 60 Hz, 3 % at 400 Hz
_FRAME, _HOP = 720, 360  # samples: 60 ms every 30 ms
_VOICED = 0.6  # of the autocorrelation at a lag of one period, against that at none


def median_pitch(waveform: np.ndarray, rate: int) -> float | None:
    """Hz of the middle voiced frame of a waveform ``(n,)``; None if fewer than ten frames have a voice.

    Each frame's pitch is the first lag at which the autocorrelation, without the window's own (Boersma 1993), comes
    within a tenth of its highest peak. For twelve voices of nano it was within 6 % of the median of WORLD's Dio.
    """
    samples = resample(np.ascontiguousarray(waveform, np.float32), rate, _RATE)
    if len(samples) < _FRAME:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[::_HOP].astype(np.float64)
    loud = frames.std(1) > 0.1 * frames.std(1).max()
    window = np.hanning(_FRAME)
    spectrum = np.fft.rfft((frames[loud] - frames[loud].mean(1, keepdims=True)) * window, 2 * _FRAME)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:, :_FRAME]
    own = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * _FRAME)) ** 2)[:_FRAME]
    first, last = int(_RATE / RANGE[1]), int(_RATE / RANGE[0])
    normal = (correlation / np.maximum(correlation[:, :1], 1e-12))[:, : last + 2] / (own / own[0])[: last + 2]
    inner = normal[:, first : last + 1]
    peaks = (inner >= normal[:, first - 1 : last]) & (inner >= normal[:, first + 1 : last + 2])
    heights = np.where(peaks, inner, 0.0)
    highest = heights.max(1, initial=0.0)
    lags = first + (heights >= 0.9 * highest[:, None]).argmax(1)
    pitches = _RATE / lags[highest > _VOICED]
    return float(np.median(pitches)) if len(pitches) >= 10 else None
