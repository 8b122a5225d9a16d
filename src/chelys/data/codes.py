"""Speech codes of a feature folder: written once by a trained VQ-VAE, read by every later stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from chelys.audio.mel import MelRange
from chelys.audio.rates import FRAMES_PER_CODE
from chelys.data.features import Clip, Features
from chelys.errors import ManifestError
from chelys.files import atomic_file
from chelys.models.dvae import DVAE


class Codes:
    """Codes laid out like the frames of a feature folder, four frames to a code."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ManifestError(f"no codes at {path}: write them with 'chelys data codes'")
        self.path = path
        self.all: np.ndarray = np.load(path, mmap_mode="r")

    def largest(self) -> int:
        """The largest code of all."""
        return max((int(self.all[i : i + 2**24].max()) for i in range(0, len(self.all), 2**24)), default=0)

    def of(self, clip: Clip) -> torch.Tensor:
        """Codes ``(m,)`` of a clip, int64."""
        first = clip.first // FRAMES_PER_CODE
        codes = self.all[first : first + clip.codes].astype(np.int64)
        if len(codes) < clip.codes:
            raise ManifestError(f"{self.path} lacks codes of {clip.id}: it is of other features; write it anew")
        return torch.from_numpy(codes)


@torch.inference_mode()
def encode(
    features: Features,
    dvae: DVAE,
    mel_range: MelRange,
    out: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the codes of all clips; a file that is there is left as it is.

    Args:
        features: What to encode.
        dvae: Trained.
        mel_range: That it was trained with.
        out: ``codes.npy``, uint16.
        progress: Called with (clips done, clips in all).
    """
    if out.exists():
        return
    codes = np.zeros(len(features.frames) // FRAMES_PER_CODE, dtype=np.uint16)
    for done, clip in enumerate(features.clips, 1):
        first = clip.first // FRAMES_PER_CODE
        mel = mel_range.normalize(features.mel(clip))[None]
        codes[first : first + clip.codes] = dvae.encode(mel)[0].numpy()
        if progress and done % 500 == 0:
            progress(done, len(features.clips))
    with atomic_file(out) as file:
        np.save(file, codes)
