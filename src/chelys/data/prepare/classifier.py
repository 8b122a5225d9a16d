"""The clip classifier: noise, music, overlapping speakers, reverberation and telephone sound in a clip.

Convolutions over the log-mel as a picture, each step down with half the bands and half the rate of the one before (the
first a quarter), and wider; then the bands are stacked, attention looks over all of time, and mean and maximum over
time decide. A clip may have several faults at once, so each has an output of its own; a clip without any is clean.

Sorting clips by such a network before training is TorToise's idea (Betker 2023); this network is our own. Its training
is in ``tools/clip_classifier`` of the repository.

Letters: b batch, f bands, s mel frames, c channels, t positions (s / 32), k faults, n samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.audio.io import resample
from chelys.audio.mel import log_mel
from chelys.audio.rates import MEL_24K, OUTPUT_RATE
from chelys.config import from_mapping
from chelys.errors import AudioError, ConfigError, ModelError
from chelys.nn.attention import AttentionBlock
from chelys.nn.norms import group_norm
from chelys.parsing import read_json
from chelys.weights.tensor_file import load_network

CONFIG_FILE, WEIGHTS_FILE = "config.json", "classifier.safetensors"
WINDOW_SECONDS = 4.0  # the longest mixes in its training
MIN_SECONDS = 1.0  # shorter clips are repeated

#: What can be wrong with a clip, in the order of the outputs.
FAULTS = ("noise", "music", "overlap", "reverberation", "telephone")
#: What a clip can be.
CLASSES = ("clean", *FAULTS)

_LEVEL = 0.1  # root mean square that every waveform is brought to: loudness is no fault


@dataclass(frozen=True)
class ClipClassifierConfig:
    """Size of the classifier, with the defaults 0.71 million parameters."""

    bands: int = MEL_24K.bands  # of the log-mel
    channels: tuple[int, ...] = (16, 32, 64, 96)  # of the picture after each step down
    dim: int = 160  # width of the attention
    attention_blocks: int = 2  # how many
    heads: int = 4  # of the attention
    dropout: float = 0.1  # on what decides, in training
    mean: float = -5.5  # log-mel that becomes 0
    scale: float = 2.5  # log-mels from there to 1

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ConfigError(f"clip classifier: dim is {self.dim}; it must be a multiple of heads, {self.heads}")
        if not self.channels:
            raise ConfigError("clip classifier: channels is empty; name the width of at least one step down")


class Downsampling(nn.Module):
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
            Downsampling(width, wider, 4 if width == 1 else 2) for width, wider in zip(widths, widths[1:], strict=False)
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
        """How likely each fault is, ``(b, k)`` in [0, 1], in waveforms ``(b, n)`` at 24 kHz, n > 512, of any level."""
        return torch.sigmoid(self(level_mel(waveform)).float())


def level_mel(waveform: Tensor) -> Tensor:
    """Log-mel ``(b, f, s)`` of waveforms ``(b, n)`` at 24 kHz, all brought to one level first."""
    level = waveform.square().mean(-1, keepdim=True).sqrt()
    return log_mel(waveform * (_LEVEL / level.clamp(min=1e-5)), MEL_24K)


class ClipClassifier:
    """The classifier with its weights, in evaluation mode."""

    def __init__(self, network: ClipClassifierNetwork) -> None:
        self.network = network.eval().requires_grad_(False)

    @classmethod
    def load(cls, folder: Path | None = None) -> ClipClassifier:
        """Load a folder with ``config.json`` and ``classifier.safetensors``, by default the one inside the package.

        Raises ModelError if a file is missing or damaged, or the two do not fit.
        """
        folder = folder or Path(str(resources.files("chelys") / "assets" / "classifier"))
        path = folder / CONFIG_FILE
        try:
            values = read_json(path)
            config = from_mapping(ClipClassifierConfig, values["network"], where=str(path))
        except FileNotFoundError as error:
            raise ModelError(f"no clip classifier in {folder}: it has no {CONFIG_FILE}") from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = str(error) if isinstance(error, ConfigError) else f"{path} is damaged; get it again"
            raise ModelError(reason) from error
        network = ClipClassifierNetwork(config)
        load_network(folder / WEIGHTS_FILE, network)
        return cls(network)

    def __call__(self, audio: np.ndarray, rate: int) -> dict[str, float]:
        audio = resample(audio, rate, OUTPUT_RATE)
        return self.classify(audio)

    def classify(self, waveform: np.ndarray) -> dict[str, float]:
        """Probability of each class, in the order of CLASSES, for a clip ``(n,)`` at 24 kHz, of any level.

        The clip is split into windows of at most four seconds. The value of a fault is its mean over the half of the
        windows that have most of it, so that music under a part of a clip is not averaged away. Faults do not exclude
        one another; ``clean`` is 1 minus the most likely of them. Raises AudioError if there are no samples, or some
        are not finite.
        """
        if waveform.ndim != 1 or not len(waveform) or not np.isfinite(waveform).all():
            raise AudioError(f"a clip must be one channel of finite samples, not an array of shape {waveform.shape}")
        shortest = int(MIN_SECONDS * OUTPUT_RATE)
        if len(waveform) < shortest:
            waveform = np.tile(waveform, -(-shortest // len(waveform)))[:shortest]
        windows = self.network.probabilities(torch.from_numpy(_windows(waveform.astype(np.float32))))
        loudest = windows.sort(0, descending=True).values[: (len(windows) + 1) // 2]
        faults = loudest.mean(0).tolist()
        return dict(zip(CLASSES, (1 - max(faults), *faults), strict=True))


def load_classifier(model: Path | None = None) -> ClipClassifier:
    """`ClipClassifier.load`, as ``measure.classifier`` names it."""
    return ClipClassifier.load(model)


def _windows(waveform: np.ndarray) -> np.ndarray:
    """Equal windows ``(b, n)`` that cover a waveform, overlapping where they must."""
    length = min(len(waveform), int(WINDOW_SECONDS * OUTPUT_RATE))
    count = -(-len(waveform) // length)
    starts = np.linspace(0, len(waveform) - length, count).astype(int)
    return np.stack([waveform[start : start + length] for start in starts])
