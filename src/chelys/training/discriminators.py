"""Discriminators of waveforms: on spectrograms, on the waveform folded by a period, on the waveform itself.

Spectrograms show timbre and noise (UnivNet, Jang et al. 2021); folded waveforms show the phase, which magnitudes do
not, and waveforms at several rates show several time scales (HiFi-GAN, Kong et al. 2020). Each kind comes in the sizes
of its paper, and with fewer channels for networks trained on a CPU, such as nano's vocoder.

b batch, n samples, k frequency bins, s frames, p samples of a period.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from chelys.training.losses import STFT_RESOLUTIONS, DiscriminatorOutput

#: (n_fft, hop) of each small discriminator's spectrogram.
RESOLUTIONS = ((1024, 256), (2048, 512), (512, 128))
#: Samples of each period: primes, so that no two see the same samples (Kong et al. 2020).
PERIODS = (2, 3, 5, 7, 11)
#: Discriminators of nano, or of one of the two papers.
DiscriminatorKind = Literal["compact", "univnet", "hifigan"]


class SpectrogramDiscriminator(nn.Module):
    """Patches of a magnitude spectrogram, strided along frequency."""

    window: Tensor

    def __init__(self, n_fft: int, hop: int, channels: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        c = channels
        shapes = [(1, c, (9, 3), (4, 2)), (c, c, (9, 3), (2, 2)), (c, c, (9, 3), (2, 2)), (c, c, (3, 3), (2, 1))]
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(i, o, kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2)))
            for i, o, kernel, stride in shapes
        )
        self.out = weight_norm(nn.Conv2d(c, 1, (3, 3), padding=1))

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        """``(b, n)`` to logits of patches and the feature maps."""
        with _full_precision(waveform):
            spectrum = torch.stft(waveform.float(), self.n_fft, self.hop, window=self.window, return_complex=True)
            x = torch.log(spectrum.abs().clamp(min=1e-4)).unsqueeze(1) / 3 + 1  # (b, 1, k, s), of about unit size
        return _run(x, self.convs, self.out, 0.1)


class FineSpectrogramDiscriminator(nn.Module):
    """Every frequency of a magnitude spectrogram, strided along time (Jang et al. 2021, section 2.2)."""

    window: Tensor

    def __init__(self, n_fft: int, hop: int, length: int, channels: int) -> None:
        super().__init__()
        self.n_fft, self.hop, self.length = n_fft, hop, length
        self.register_buffer("window", torch.hann_window(length), persistent=False)
        shapes: list[tuple[int, tuple[int, int], tuple[int, int]]] = [
            (1, (3, 9), (1, 1)), *((channels, (3, 9), (1, 2)) for _ in range(3)), (channels, (3, 3), (1, 1))
        ]  # fmt: skip
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(i, channels, kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2)))
            for i, kernel, stride in shapes
        )
        self.out = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        """``(b, n)`` to logits of patches and the feature maps."""
        with _full_precision(waveform):
            edge = (self.n_fft - self.hop) // 2
            padded = F.pad(waveform.float().unsqueeze(1), (edge, edge), mode="reflect").squeeze(1)
            spectrum = torch.stft(
                padded, self.n_fft, self.hop, self.length, self.window, center=False, return_complex=True
            )
            x = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt().unsqueeze(1)  # (b, 1, k, s)
        return _run(x, self.convs, self.out, 0.2)


class PeriodDiscriminator(nn.Module):
    """The waveform folded by a period p, one phase to a row.

    The paper has one phase to a column. Rows are the same, and twice as fast on a CPU: kernels run along memory.
    """

    def __init__(
        self, period: int, widths: Sequence[int], *, strides: Sequence[int] = (3, 3, 3, 3, 1), slope: float = 0.1
    ) -> None:
        """Make it.

        ``period``: samples p. ``widths``: channels after each convolution. ``strides``: of each convolution; only as
        many as there are widths are used. ``slope``: of the leaky ReLU.
        """
        super().__init__()
        self.period, self.slope = period, slope
        shapes = zip((1, *widths), widths, strides, strict=False)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(i, o, (1, 5), (1, stride), padding=(0, 2))) for i, o, stride in shapes
        )
        self.out = weight_norm(nn.Conv2d(widths[-1], 1, (1, 3), padding=(0, 1)))

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        """``(b, n)`` to logits of stretches and the feature maps."""
        b, n = waveform.shape
        padded = F.pad(waveform.unsqueeze(1), (0, -n % self.period), mode="reflect")
        phases = padded.view(b, 1, -1, self.period).transpose(2, 3).contiguous()  # (b, 1, p, n / p)
        return _run(phases, self.convs, self.out, self.slope)


class ScaleDiscriminator(nn.Module):
    """The waveform at its own rate, or at a half or a quarter of it (Kumar et al. 2019, MelGAN, section 2.2)."""

    def __init__(self, channels: int, halvings: int) -> None:
        """Make it.

        ``channels``: after the first convolution; eight times as many at the end. ``halvings``: how often the rate is
        halved first. At the full rate the kernels have spectral norm.
        """
        super().__init__()
        self.halvings = halvings
        norm = weight_norm if halvings else spectral_norm
        c = channels
        shapes = [  # in, out, taps, stride, groups
            (1, c, 15, 1, 1), (c, c, 41, 2, 4), (c, 2 * c, 41, 2, 16), (2 * c, 4 * c, 41, 4, 16),
            (4 * c, 8 * c, 41, 4, 16), (8 * c, 8 * c, 41, 1, 16), (8 * c, 8 * c, 5, 1, 1),
        ]  # fmt: skip
        self.convs = nn.ModuleList(
            norm(nn.Conv1d(i, o, taps, stride, padding=taps // 2, groups=groups))
            for i, o, taps, stride, groups in shapes
        )
        self.out = norm(nn.Conv1d(8 * c, 1, 3, padding=1))

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        """``(b, n)`` to logits of stretches and the feature maps."""
        x = waveform.unsqueeze(1)
        for _ in range(self.halvings):
            x = F.avg_pool1d(x, 4, 2, padding=2)
        return _run(x, self.convs, self.out, 0.1)


class Discriminators(nn.Module):
    """All discriminators of one kind: of spectrograms, of periods, of scales, whichever it has."""

    def __init__(self, kind: DiscriminatorKind = "compact", divisor: int = 1) -> None:
        """Make them.

        ``kind``: which. ``divisor``: divides the channels: a power of 2 up to 8, for networks smaller than published.
        """
        super().__init__()
        periods: Sequence[int]
        strides: Sequence[int]
        spectra: list[nn.Module] = []
        scales: list[nn.Module] = []
        slope = 0.1
        if kind == "compact":
            spectra = [SpectrogramDiscriminator(n_fft, hop, 16 // divisor) for n_fft, hop in RESOLUTIONS]
            periods, strides = (8, 16, 32, 32), (3, 3, 3, 3)
        elif kind == "univnet":
            spectra = [FineSpectrogramDiscriminator(*sizes, 32 // divisor) for sizes in STFT_RESOLUTIONS]
            periods, strides, slope = (64, 128, 256, 512, 1024), (3, 3, 3, 3, 1), 0.2
        else:
            scales = [ScaleDiscriminator(128 // divisor, halvings) for halvings in range(3)]
            periods, strides = (32, 128, 512, 1024, 1024), (3, 3, 3, 3, 1)
        widths = [width // divisor for width in periods]
        self.spectra = nn.ModuleList(spectra)
        self.periods = nn.ModuleList(PeriodDiscriminator(p, widths, strides=strides, slope=slope) for p in PERIODS)
        self.scales = nn.ModuleList(scales)

    def forward(self, waveform: Tensor) -> list[DiscriminatorOutput]:
        """Logits and feature maps of each, of waveforms ``(b, n)``."""
        return [discriminator(waveform) for discriminator in (*self.spectra, *self.periods, *self.scales)]


def _full_precision(waveform: Tensor) -> torch.autocast:
    """Spectrograms are computed in float32, whatever the networks compute in."""
    return torch.autocast("cpu" if waveform.is_meta else waveform.device.type, enabled=False)


def _run(x: Tensor, convolutions: nn.ModuleList, out: nn.Module, slope: float) -> DiscriminatorOutput:
    """Logits, and the feature map of every convolution on the way to them."""
    features = []
    for convolution in convolutions:
        x = F.leaky_relu(convolution(x), slope)
        features.append(x)
    return out(x), features
