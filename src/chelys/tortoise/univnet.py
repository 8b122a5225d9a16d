"""UnivNet: mel spectrogram and noise to a waveform.

Noise goes up to the sample rate in a few strides. At each stage the mel decides, through a small network, the very
kernels that filter the signal: one set for each mel frame ("location-variable convolution"), so that a few channels
suffice.

b batch, s mel frames, n samples of a stage (s times its hop), i input and o output channels, k taps.

Source: Jang et al. 2021, UnivNet; Zeng et al. 2021, LVCNet (the location-variable convolution).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.errors import ConfigError
from chelys.nn.norms import WeightNormed
from chelys.tortoise.univnet_pieces import UnivNetPieces

PADDING_FRAMES = 10  # the last frames of a mel come out wrong, so some more are appended and cut off again
SILENCE = -11.5129  # logarithm of 1e-5, rounded as the published system rounds it


@dataclass(frozen=True)
class UnivNetConfig:
    """Size of UnivNet. The defaults are those of the published network, 14.8 million parameters."""

    mel_bands: int = 100
    noise_dim: int = 64  # channels of the noise
    channels: int = 32  # of the signal; nearly all of the kernel predictor's size goes with its square
    strides: tuple[int, ...] = (8, 8, 4)  # their product is the hop: samples per mel frame
    dilations: tuple[int, ...] = (1, 3, 9, 27)  # one layer for each, in every stage
    kernel_size: int = 3  # taps of the layers, odd
    predictor_channels: int = 64  # width of the network that predicts kernels
    predictor_kernel_size: int = 3  # its taps, odd
    predictor_blocks: int = 3
    slope: float = 0.2  # of every leaky ReLU

    def __post_init__(self) -> None:
        if self.kernel_size % 2 == 0 or self.predictor_kernel_size % 2 == 0:
            raise ConfigError(
                f"univnet: kernel sizes are {self.kernel_size} and {self.predictor_kernel_size}; they must be odd"
            )

    @property
    def hop(self) -> int:
        """Samples per mel frame."""
        return math.prod(self.strides)

    @classmethod
    def c32(cls) -> UnivNetConfig:
        """The published network (vocoder.pth): 14,789,153 parameters, 14,865,506 with weight norm."""
        return cls()


class KernelPredictor(nn.Module):
    """From the mel, the kernels and biases of every layer of one stage, for each frame."""

    def __init__(self, config: UnivNetConfig) -> None:
        super().__init__()
        self.layers, self.channels, self.taps = len(config.dilations), config.channels, config.kernel_size
        hidden, taps = config.predictor_channels, config.predictor_kernel_size
        self.activation = nn.LeakyReLU(config.slope)
        self.input = nn.Conv1d(config.mel_bands, hidden, 5, padding=2)
        self.blocks = nn.ModuleList()
        for _ in range(config.predictor_blocks):
            first, second = (nn.Conv1d(hidden, hidden, taps, padding=taps // 2) for _ in range(2))
            self.blocks.append(nn.Sequential(first, self.activation, second, self.activation))
        outputs = self.layers * 2 * self.channels
        self.kernels = nn.Conv1d(hidden, outputs * self.channels * self.taps, taps, padding=taps // 2)
        self.biases = nn.Conv1d(hidden, outputs, taps, padding=taps // 2)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """(b, bands, s) -> kernels (b, layer, i, o, k, s) and biases (b, layer, o, s); o is twice i."""
        x = self.activation(self.input(mel))
        for block in self.blocks:
            x = x + block(x)
        kernels = self.kernels(x).unflatten(1, (self.layers, self.channels, 2 * self.channels, self.taps))
        return kernels, self.biases(x).unflatten(1, (self.layers, 2 * self.channels))


class Stage(nn.Module):
    """One step up in rate, then layers whose kernels come from the mel."""

    def __init__(self, config: UnivNetConfig, stride: int) -> None:
        super().__init__()
        channels, taps = config.channels, config.kernel_size
        self.activation = nn.LeakyReLU(config.slope)
        odd = stride % 2
        self.upsample = nn.ConvTranspose1d(
            channels, channels, 2 * stride, stride, padding=stride // 2 + odd, output_padding=odd
        )
        self.predictor = KernelPredictor(config)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, channels, taps, dilation=dilation, padding=dilation * (taps // 2))
            for dilation in config.dilations
        )

    def forward(self, x: Tensor, mel: Tensor) -> Tensor:
        """(b, channels, n) and (b, bands, s) -> (b, channels, n stride)."""
        x = self.upsample(self.activation(x))
        kernels, biases = self.predictor(mel)
        for layer, convolution in enumerate(self.convolutions):
            y = self.activation(convolution(self.activation(x)))
            y = location_variable_convolution(y, kernels[:, layer], biases[:, layer])
            gate, value = y.chunk(2, dim=1)
            x = x + gate.sigmoid() * value.tanh()
        return x


class UnivNet(WeightNormed):
    """The vocoder."""

    def __init__(self, config: UnivNetConfig, *, weight_norm: bool = False) -> None:
        """Make the network; ``weight_norm`` holds kernels as direction and length, for training; `fold` ends that."""
        super().__init__()
        self.config = config
        self.activation = nn.LeakyReLU(config.slope)
        self.input = nn.Conv1d(config.noise_dim, config.channels, 7, padding=3, padding_mode="reflect")
        self.stages = nn.ModuleList([Stage(config, stride) for stride in config.strides])
        self.output = nn.Conv1d(config.channels, 1, 7, padding=3, padding_mode="reflect")
        self._pieces: UnivNetPieces | None = None
        if weight_norm:
            self.unfold()

    def forward(self, mel: Tensor, noise: Tensor) -> Tensor:
        """Log-mels ``(b, bands, s)`` and normal noise ``(b, noise_dim, s)`` to samples ``(b, hop s)`` in [-1, 1].

        s is at least 4, for the reflection at the ends.
        """
        x = self.input(noise)
        for stage in self.stages:
            x = stage(x, mel)
        return self.output(self.activation(x)).tanh().squeeze(1)

    @torch.inference_mode()
    def vocode(self, mel: Tensor, generator: torch.Generator | None = None, *, noise: Tensor | None = None) -> Tensor:
        """The waveform ``(b, hop s)`` of a whole utterance, its end included; samples in [-1, 1].

        Args:
            mel: ``(b, bands, s)`` natural logarithm of magnitudes.
            generator: Of the noise, which is drawn on the generator's own device and then moved, so that a seed means
                the same waveform everywhere.
            noise: ``(b, noise_dim, s + PADDING_FRAMES)`` instead of a generator.
        """
        padded = F.pad(mel, (0, PADDING_FRAMES), value=SILENCE)
        if noise is None:
            assert generator is not None, "vocode takes a generator or the noise itself"
            shape = (mel.shape[0], self.config.noise_dim, padded.shape[-1])
            noise = torch.randn(shape, generator=generator, device=generator.device)
        if self._pieces is None or self.training:
            self._pieces = UnivNetPieces(self)
        return self._pieces(padded, noise.to(mel))[:, : -PADDING_FRAMES * self.config.hop]


def location_variable_convolution(x: Tensor, kernels: Tensor, biases: Tensor) -> Tensor:
    """Convolve every frame's stretch of the signal with that frame's own kernel; zeros lie beyond the ends.

    ``x (b, i, n)`` with n a multiple of s: each frame owns n / s samples. ``kernels (b, i, o, k, s)``, k odd, and
    ``biases (b, o, s)`` give ``(b, o, n)``.
    """
    taps, frames = kernels.shape[-2:]
    hop = x.shape[-1] // frames
    padded = F.pad(x, (taps // 2, taps // 2))
    stretches = padded.unfold(2, hop + taps - 1, hop)  # (b, i, s, hop + k - 1)
    windows = stretches.unfold(3, taps, 1)  # (b, i, s, hop, k)
    y = torch.einsum("bishk,bioks->bosh", windows, kernels) + biases[..., None]
    return y.flatten(2)  # (b, o, s, hop) -> (b, o, n)
