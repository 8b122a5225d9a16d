"""Detector: did this system make the waveform?

Residual convolutions, each stage at a quarter of the rate before and twice as wide, then attention over what is left
of time; the first position decides. It was trained on TorToise's own output and knows no other system's.

Letters: b batch, n samples, c channels, t positions (n / 1024 as published), k classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import AudioError, ConfigError, ModelError
from chelys.nn.attention import AttentionBlock
from chelys.nn.norms import group_norm
from chelys.weights.folder import build, read_config
from chelys.weights.tensor_file import load_network

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


class DetectorBlock(nn.Module):
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
            self.layers.extend(DetectorBlock(channels, config.kernel_size) for _ in range(config.blocks))
            self.layers.append(StepDown(channels, config.stride))
            channels *= 2
        self.norm = group_norm(channels)
        self.narrow = nn.Conv1d(channels, config.dim, 1)
        self.attention = nn.ModuleList(AttentionBlock(config.dim, config.heads) for _ in range(config.attention_blocks))
        self.head = nn.Linear(config.dim, config.classes)

    def forward(self, waveform: Tensor) -> Tensor:
        """Samples ``(b, n)`` in [-1, 1] at 24 kHz to logits ``(b, k)``."""
        x = self.input(waveform.unsqueeze(1))
        for layer in self.layers:
            x = layer(x)
        x = self.narrow(F.silu(self.norm(x)))  # (b, dim, t)
        for block in self.attention:
            x = block(x)
        return self.head(x[:, :, 0])

    @torch.inference_mode()
    def probability(self, waveform: Tensor) -> Tensor:
        """How likely the system made a waveform ``(b, n)``, n at least 1, in [-1, 1] at 24 kHz: ``(b,)`` in [0, 1].

        It may exceed `MOST_SAMPLES`, but memory grows with n.
        """
        return self(waveform).float().softmax(dim=-1)[:, SYNTHETIC]


MIN_SECONDS = 0.5


@dataclass(frozen=True)
class Window:
    """A stretch of the recording and how likely TorToise made it."""

    start_s: float
    end_s: float
    probability: float


def load_detector(folder: Path, *, device: str = "cpu") -> Detector:
    """The detector of a model folder, without the rest of the model.

    Raises:
        ModelError: If the model has none, or its file is damaged.
    """
    config = read_config(folder)
    file = folder / "detector.safetensors"
    if getattr(config, "detector", None) is None or not file.is_file():
        raise ModelError(
            f"model {config.name!r} has no detector: name one converted from TorToise v2 with its classifier.pth"
        )
    network = build(config, "detector")
    load_network(file, network, device=device, dtype=torch.float32)
    assert isinstance(network, Detector)
    return network.to(device).eval()


def detect(detector: Detector, waveform: np.ndarray, *, reference: bool = False) -> list[Window]:
    """Listen to a recording ``(n,)``, float32 at 24 kHz, with a detector in evaluation mode.

    The windows are of equal length and cover the recording, overlapping where it is no multiple of theirs. The mean of
    their probabilities is the answer for the whole. With ``reference`` there is one, the first 9.2 seconds, as in
    TorToise.

    Raises:
        AudioError: If it is shorter than half a second.
    """
    seconds = len(waveform) / OUTPUT_RATE
    if seconds < MIN_SECONDS:
        raise AudioError(f"the recording lasts {seconds:.2f} s: give at least {MIN_SECONDS} s to judge by")
    length = min(len(waveform), MOST_SAMPLES)
    count = 1 if reference else -(-len(waveform) // length)
    device = next(detector.parameters()).device
    windows = []
    for start in np.linspace(0, 0 if reference else len(waveform) - length, count).round().astype(int).tolist():
        window = torch.from_numpy(waveform[None, start : start + length]).to(device)  # one at a time, to save memory
        probability = float(detector.probability(window))
        windows.append(Window(start / OUTPUT_RATE, (start + length) / OUTPUT_RATE, probability))
    return windows
