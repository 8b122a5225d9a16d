"""Detector: did this system make the wave?

Residual convolutions, each stage at a quarter of the rate before and twice as wide, then attention over what is left
of time; the first position decides. It was trained on TorToise's own output and knows no other system's.

Letters: b batch, n samples, c channels, t positions (n / 1024 as published), k classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.errors import ConfigError
from chelys.nn.attention import AttentionBlock
from chelys.nn.norms import group_norm

SYNTHETIC = 0  # the class of what the system made; the other one is people
MOST_SAMPLES = 220_000  # the published command reads no more of a file: 9.2 s at 24 kHz


@dataclass(frozen=True)
class DetectorConfig:
    """Size of the detector. The defaults are those of the published network, 15.2 million parameters."""

    channels: int = 32  # of the first stage; each further one has twice as many
    stages: int = 5
    blocks: int = 2  # residual blocks in each stage
    kernel_size: int = 5  # of the residual blocks, odd
    stride: int = 4  # of the step down after each stage
    dim: int = 512  # width of the attention
    attention_blocks: int = 4
    heads: int = 4
    classes: int = 2

    def __post_init__(self) -> None:
        if self.kernel_size % 2 == 0:
            raise ConfigError(f"detector: kernel_size is {self.kernel_size}; it must be odd")
        if self.dim % self.heads:
            raise ConfigError(f"detector: dim is {self.dim}; it must be a multiple of heads, {self.heads}")

    @classmethod
    def tortoise_v2(cls) -> DetectorConfig:
        """The published network (classifier.pth): 15,224,002 parameters."""
        return cls()


class ResidualBlock(nn.Module):
    """Two convolutions around a skip."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.norm1 = group_norm(channels)
        self.conv1 = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2)
        self.norm2 = group_norm(channels)
        self.conv2 = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """``(b, c, n) -> (b, c, n)``."""
        y = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(y)))


class StepDown(nn.Module):
    """To a lower rate and twice as many channels."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, 2 * channels, 5, stride=stride, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        """``(b, c, n) -> (b, 2 c, n / stride)``."""
        return self.conv(x)


class Detector(nn.Module):
    """Wave to classes."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.input = nn.Conv1d(1, config.channels, 3, padding=1)
        self.layers = nn.ModuleList()
        channels = config.channels
        for _ in range(config.stages):
            self.layers.extend(ResidualBlock(channels, config.kernel_size) for _ in range(config.blocks))
            self.layers.append(StepDown(channels, config.stride))
            channels *= 2
        self.norm = group_norm(channels)
        self.narrow = nn.Conv1d(channels, config.dim, 1)
        self.attention = nn.ModuleList(AttentionBlock(config.dim, config.heads) for _ in range(config.attention_blocks))
        self.head = nn.Linear(config.dim, config.classes)

    def forward(self, wave: Tensor) -> Tensor:
        """Samples ``(b, n)`` in [-1, 1] at 24 kHz to logits ``(b, k)``."""
        x = self.input(wave.unsqueeze(1))
        for layer in self.layers:
            x = layer(x)
        x = self.narrow(F.silu(self.norm(x)))  # (b, dim, t)
        for block in self.attention:
            x = block(x)
        return self.head(x[:, :, 0])

    @torch.inference_mode()
    def probability(self, wave: Tensor) -> Tensor:
        """How likely the system made it.

        Args:
            wave: ``(b, n)``, n at least 1, in [-1, 1] at 24 kHz. It need not be cut to `MOST_SAMPLES`, but memory grows
                with n.

        Returns:
            ``(b,)`` in [0, 1].
        """
        return self(wave).float().softmax(dim=-1)[:, SYNTHETIC]
