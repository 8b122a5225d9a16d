"""Discriminators for the vocoders: of spectrograms, and of the wave folded by its period.

Spectrograms show colour and noise (UnivNet, Jang et al. 2021); folded waves show what magnitudes do not, the phase
(HiFi-GAN, Kong et al. 2020).

b batch, n samples, k frequency bins, s frames, p samples of a period.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

#: (n_fft, hop) of each discriminator's spectrogram.
RESOLUTIONS = ((1024, 256), (2048, 512), (512, 128))
#: Samples of each period: primes, so that no two see the same (Kong et al. 2020).
PERIODS = (2, 3, 5, 7, 11)


class SpectrogramDiscriminator(nn.Module):
    """Judges patches of a magnitude spectrogram."""

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

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        """``(b, n)`` to scores of patches and the features on the way."""
        with torch.autocast("cpu", enabled=False):
            spectrum = torch.stft(wave.float(), self.n_fft, self.hop, window=self.window, return_complex=True)
            x = torch.log(spectrum.abs().clamp(min=1e-4)).unsqueeze(1) / 3 + 1  # (b, 1, k, s), of about unit size
        features = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            features.append(x)
        return self.out(x), features


class PeriodDiscriminator(nn.Module):
    """Judges a wave whose every p-th sample stands below the last: columns of one phase."""

    def __init__(self, period: int, channels: int) -> None:
        super().__init__()
        self.period = period
        widths = (1, channels, 2 * channels, 4 * channels, 4 * channels)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(i, o, (5, 1), (3, 1), padding=(2, 0)))
            for i, o in zip(widths[:-1], widths[1:], strict=True)
        )
        self.out = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        """``(b, n)`` to scores of stretches and the features on the way."""
        b, n = wave.shape
        x = F.pad(wave, (0, -n % self.period), mode="reflect").view(b, 1, -1, self.period)  # (b, 1, n / p, p)
        features = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            features.append(x)
        return self.out(x), features


class Discriminators(nn.Module):
    """One discriminator for each resolution, and one for each period."""

    def __init__(self, channels: int = 16, period_channels: int = 8) -> None:
        super().__init__()
        self.spectra = nn.ModuleList(SpectrogramDiscriminator(n_fft, hop, channels) for n_fft, hop in RESOLUTIONS)
        self.periods = nn.ModuleList(PeriodDiscriminator(period, period_channels) for period in PERIODS)

    def forward(self, wave: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """Scores and features of each."""
        return [judge(wave) for judge in (*self.spectra, *self.periods)]
