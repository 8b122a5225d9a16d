"""Multi-resolution spectrogram discriminators for the vocoders (UnivNet, Jang et al. 2021; DAC, Kumar et al. 2023).

b batch, n samples, k frequency bins, s frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

#: (n_fft, hop) of each discriminator's spectrogram.
RESOLUTIONS = ((1024, 256), (2048, 512), (512, 128))


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


class SpectrogramDiscriminators(nn.Module):
    """One discriminator for each resolution."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.parts = nn.ModuleList(SpectrogramDiscriminator(n_fft, hop, channels) for n_fft, hop in RESOLUTIONS)

    def forward(self, wave: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """Scores and features of every resolution."""
        return [part(wave) for part in self.parts]
