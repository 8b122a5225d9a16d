"""Did TorToise make this recording? Its detector listens to the whole of it, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import AudioError, ModelError
from chelys.tortoise.detector import MOST_SAMPLES, Detector
from chelys.weights.folder import build, read_config
from chelys.weights.tensor_file import load_network

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


def detect(detector: Detector, wave: np.ndarray, *, reference: bool = False) -> list[Window]:
    """Listen to a recording.

    Args:
        detector: In evaluation mode.
        wave: ``(n,)`` float32 at 24 kHz.
        reference: Listen to the first 9.2 seconds alone, as TorToise did.

    Returns:
        Windows of equal length that cover the recording, overlapping where it is no multiple of theirs. The mean of
        their probabilities is the answer for the whole.

    Raises:
        AudioError: If it is shorter than half a second.
    """
    seconds = len(wave) / OUTPUT_RATE
    if seconds < MIN_SECONDS:
        raise AudioError(f"the recording lasts {seconds:.2f} s: give at least {MIN_SECONDS} s to judge by")
    length = min(len(wave), MOST_SAMPLES)
    count = 1 if reference else -(-len(wave) // length)
    device = next(detector.parameters()).device
    heard = []
    for start in np.linspace(0, 0 if reference else len(wave) - length, count).round().astype(int).tolist():
        window = torch.from_numpy(wave[None, start : start + length]).to(device)  # one at a time, to save memory
        probability = float(detector.probability(window))
        heard.append(Window(start / OUTPUT_RATE, (start + length) / OUTPUT_RATE, probability))
    return heard
