"""Clip classifier: what is wrong with a recording?

Convolutions over the log-mel as a picture, each step down with half the bands and half the rate of the one before (the
first a quarter), and wider; then the bands lie side by side, attention looks over all of time, and mean and maximum
over time decide. A clip may have several faults at once, so each has an output of its own; a clip without any is clean.

The idea of sorting clips by such a network before training is TorToise's (Betker 2023); this network is
our own.

Letters: b batch, f bands, s mel frames, c channels, t positions (s / 32), k faults.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.audio.mel import log_mel
from chelys.audio.rates import MEL_24K
from chelys.errors import ConfigError
from chelys.nn.attention import AttentionBlock
from chelys.nn.norms import group_norm

#: What can be wrong with a clip, in the order of the outputs.
FAULTS = ("noise", "music", "overlap", "reverberation", "telephone")
#: What a clip can be.
CLASSES = ("clean", *FAULTS)

_LEVEL = 0.1  # root mean square that every waveform is brought to: loudness is no fault


@dataclass(frozen=True)
class ClipClassifierConfig:
    """Size of the classifier, with the defaults 0.71 million parameters.

    Attributes:
        bands: Of the log-mel.
        channels: Of the picture after each step down.
        dim: Width of the attention.
        attention_blocks: How many.
        heads: Of the attention.
        dropout: On what decides, in training.
        mean: Log-mel that becomes 0.
        scale: Log-mels from there to 1.
    """

    bands: int = MEL_24K.bands
    channels: tuple[int, ...] = (16, 32, 64, 96)
    dim: int = 160
    attention_blocks: int = 2
    heads: int = 4
    dropout: float = 0.1
    mean: float = -5.5
    scale: float = 2.5

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ConfigError(f"clip classifier: dim is {self.dim}; it must be a multiple of heads, {self.heads}")
        if not self.channels:
            raise ConfigError("clip classifier: channels is empty; name the width of at least one step down")


class StepDown(nn.Module):
    """A picture with half the bands and at half the rate or less, then two convolutions around a skip."""

    def __init__(self, channels: int, wider: int, stride: int) -> None:
        super().__init__()
        kernel_size = (5, 2 * stride - 1)
        self.down = nn.Conv2d(channels, wider, kernel_size, stride=(2, stride), padding=(2, stride - 1))
        self.norm1 = group_norm(wider)
        self.conv1 = nn.Conv2d(wider, wider, 3, padding=1)
        self.norm2 = group_norm(wider)
        self.conv2 = nn.Conv2d(wider, wider, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(b, c, f, s) -> (b, wider, f / 2, s / stride)``, rounded up."""
        x = self.down(x)
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class ClipClassifierNetwork(nn.Module):
    """Log-mel to faults."""

    def __init__(self, config: ClipClassifierConfig) -> None:
        super().__init__()
        self.config = config
        widths = (1, *config.channels)
        self.steps = nn.ModuleList(
            StepDown(width, wider, 4 if width == 1 else 2) for width, wider in zip(widths, widths[1:], strict=False)
        )
        bands = config.bands
        for _ in config.channels:
            bands = (bands + 1) // 2
        self.norm = group_norm(widths[-1])
        self.flatten = nn.Conv1d(widths[-1] * bands, config.dim, 1)
        self.attention = nn.ModuleList(AttentionBlock(config.dim, config.heads) for _ in range(config.attention_blocks))
        self.out_norm = group_norm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(2 * config.dim, len(FAULTS))

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mels ``(b, f, s)`` of `level_mel` to logits ``(b, k)``."""
        x = ((mel - self.config.mean) / self.config.scale).unsqueeze(1)
        for step in self.steps:
            x = step(x)
        x = self.flatten(F.silu(self.norm(x)).flatten(1, 2))  # (b, dim, t)
        for block in self.attention:
            x = block(x)
        x = F.silu(self.out_norm(x))
        return self.head(self.dropout(torch.cat([x.mean(-1), x.amax(-1)], 1)))

    @torch.inference_mode()
    def probabilities(self, waveform: Tensor) -> Tensor:
        """How likely each fault is.

        Args:
            waveform: ``(b, n)`` at 24 kHz, n above 512; of any level.

        Returns:
            ``(b, k)`` in [0, 1].
        """
        return torch.sigmoid(self(level_mel(waveform)).float())


def level_mel(waveform: Tensor) -> Tensor:
    """Log-mel ``(b, f, s)`` of waveforms ``(b, n)`` at 24 kHz, all brought to one level first."""
    level = waveform.square().mean(-1, keepdim=True).sqrt()
    return log_mel(waveform * (_LEVEL / level.clamp(min=1e-5)), MEL_24K)
