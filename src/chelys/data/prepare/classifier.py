"""The trained clip classifier: noise, music, overlapping speakers, reverberation and telephone sound."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from chelys.audio.io import resample
from chelys.audio.rates import OUTPUT_RATE
from chelys.config import from_mapping
from chelys.data.prepare.clip_classifier import CLASSES, ClipClassifierConfig, ClipClassifierNetwork
from chelys.errors import AudioError, ConfigError, ModelError
from chelys.weights.tensor_file import load_network

CONFIG_FILE, WEIGHTS_FILE = "config.json", "classifier.safetensors"
WINDOW_SECONDS = 4.0  # the longest mixes in its training
MIN_SECONDS = 1.0  # shorter clips are repeated


class ClipClassifier:
    """The classifier with its weights.

    Attributes:
        network: In evaluation mode.
    """

    def __init__(self, network: ClipClassifierNetwork) -> None:
        self.network = network.eval().requires_grad_(False)

    @classmethod
    def load(cls, folder: Path | None = None) -> ClipClassifier:
        """Load a folder with ``config.json`` and ``classifier.safetensors``.

        Args:
            folder: Default the one inside the package.

        Raises:
            ModelError: If a file is missing or damaged, or the two do not fit.
        """
        folder = folder or Path(str(resources.files("chelys") / "assets" / "classifier"))
        path = folder / CONFIG_FILE
        try:
            values = json.loads(path.read_text(encoding="utf8"))
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
        """`classify` for a clip ``(n,)`` at any rate (Hz); the measure stage calls this."""
        audio = resample(audio, rate, OUTPUT_RATE)
        return self.classify(audio)

    def classify(self, waveform: np.ndarray) -> dict[str, float]:
        """Probability of each class for a clip.

        The clip is split into windows of at most four seconds. The value of a fault is its mean over the half of the
        windows that have most of it, so that music under a part of a clip is not averaged away.

        Args:
            waveform: ``(n,)`` at 24 kHz, of any level.

        Returns:
            Class -> probability, in the order of CLASSES. Faults do not exclude one another; ``clean`` is 1 minus the
            most likely of them.

        Raises:
            AudioError: If there are no samples, or some are not finite.
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
