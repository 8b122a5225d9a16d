"""Speech codes of a feature folder: written once by a trained VQ-VAE, read by every later stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from chelys.audio.mel import MelRange
from chelys.audio.rates import FRAMES_PER_CODE
from chelys.data.dataset import Features
from chelys.files import atomic_file
from chelys.models.dvae import DVAE


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
