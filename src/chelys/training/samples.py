"""Samples of a run: what its network makes audible, as WAV files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import soundfile as sf
from torch import Tensor

log = logging.getLogger(__name__)


def write_samples(folder: Path, step: int, samples: Mapping[str, tuple[Tensor, int]]) -> None:
    """Write ``folder/STEP-name.wav`` for each wave ``(n,)`` with its sample rate (Hz)."""
    for name, (wave, rate) in samples.items():
        path = folder / f"{step:09d}-{name}.wav"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, wave.detach().float().clamp(-1, 1).cpu().numpy(), rate)
        except (OSError, sf.SoundFileError) as error:  # a full disk shall not end a run for a sample
            log.warning("%s was not written: %s", path, error)
