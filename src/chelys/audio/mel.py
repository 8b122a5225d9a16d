"""Waveform to log-mel, and the linear map between log-mels and the range that networks work in.

b batch, n samples, f bands, s mel frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from chelys.audio.rates import MelSpec


def _hz_to_mel(f_hz: Tensor, htk: bool) -> Tensor:
    if htk:
        return 2595.0 * torch.log10(1.0 + f_hz / 700.0)
    # Slaney: linear to 1 kHz (15 mel), then 27 steps to each factor of 6.4
    return torch.where(
        f_hz < 1000.0, f_hz * 3 / 200, 15.0 + 27.0 * torch.log(f_hz.clamp(min=1e-3) / 1000.0) / math.log(6.4)
    )


def _mel_to_hz(mel: Tensor, htk: bool) -> Tensor:
    if htk:
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return torch.where(mel < 15.0, mel * 200 / 3, 1000.0 * torch.exp((mel - 15.0) / 27.0 * math.log(6.4)))


@lru_cache(maxsize=8)
def mel_filters(spec: MelSpec) -> Tensor:
    """Triangular filters ``(f, n_fft/2 + 1)`` of equal area (Slaney's normalisation), float32."""
    with torch.inference_mode(False):  # kept for later callers, who may want gradients through what they multiply
        points = _corners(spec)
        bins = torch.linspace(0, spec.sample_rate / 2, spec.n_fft // 2 + 1, dtype=torch.float64)
        left, centre, right = points[:-2, None], points[1:-1, None], points[2:, None]
        triangles = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0)
        return (triangles * 2.0 / (right - left)).float()


def _corners(spec: MelSpec) -> Tensor:
    """Where the triangles begin, are highest and end, Hz: ``(f + 2,)`` float64, each band the next three."""
    low, high = _hz_to_mel(torch.tensor([0.0, spec.f_max], dtype=torch.float64), spec.htk).tolist()
    return _mel_to_hz(torch.linspace(low, high, spec.bands + 2, dtype=torch.float64), spec.htk)


@lru_cache(maxsize=8)
def mel_band_edges(spec: MelSpec) -> Tensor:
    """The upper end of each band, Hz: ``(f,)`` float64."""
    return _corners(spec)[2:]


def log_mel(waveform: Tensor, spec: MelSpec) -> Tensor:
    """Natural-log mel spectrogram, centred frames and reflected edges: ``(b, f, 1 + n // hop)``, at least log(floor).

    The waveform is ``(b, n)`` in [-1, 1] at ``spec.sample_rate``; n must exceed n_fft / 2.
    """
    window = torch.hann_window(spec.n_fft, device=waveform.device)
    padded = F.pad(waveform.unsqueeze(1), (spec.n_fft // 2, spec.n_fft // 2), mode="reflect").squeeze(1)
    spectrum = torch.stft(padded, spec.n_fft, spec.hop, window=window, center=False, return_complex=True)
    energy = spectrum.abs() if spec.power == 1 else spectrum.real**2 + spectrum.imag**2
    return torch.log((mel_filters(spec).to(waveform.device) @ energy).clamp(min=spec.floor))


#: ln(1e-5), and the loudest bin of the corpus behind the published diffusion decoder.
MEL_EXTREMES = (-11.512925148010254, 2.3143386840820312)


@dataclass(frozen=True)
class MelRange:
    """The linear map that takes log-mels in [low, high] to [-1, 1].

    The published system maps the whole range of its corpus, from the floor of the logarithm to its loudest bin;
    nano maps one standard deviation to either side of the mean, so that what its networks see has unit variance.
    """

    low: float
    high: float

    @property
    def bounds(self) -> tuple[float, float]:
        """Range of real mels in network units: the floor of the logarithm, and the loudest bin that speech reaches."""
        return tuple((edge - self.low) * (2.0 / (self.high - self.low)) - 1.0 for edge in MEL_EXTREMES)  # type: ignore[return-value]

    def normalize(self, mel: Tensor) -> Tensor:
        """Log-mel to network units."""
        return (mel - self.low) * (2.0 / (self.high - self.low)) - 1.0

    def denormalize(self, x: Tensor) -> Tensor:
        """Network units to log-mel."""
        return (x + 1.0) * (0.5 * (self.high - self.low)) + self.low


#: The published diffusion decoder's: the extremes themselves.
PUBLISHED_MEL_RANGE = MelRange(*MEL_EXTREMES)
