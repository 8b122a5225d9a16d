"""Writes the speech codes of a feature folder with a trained VQ-VAE; every later task reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from chelys.audio.mel import MelRange
from chelys.audio.rates import FRAMES_PER_CODE
from chelys.data.dataset import Clip, Features
from chelys.data.prepare.engine import available_cores
from chelys.files import atomic_file
from chelys.models.dvae import DVAE

#: Mel frames of a batch, padding included: 0.5 GB of activations at the published size.
BATCH_FRAMES = 16_384


def encode(
    features: Features,
    dvae: DVAE,
    mel_range: MelRange,
    out: Path,
    *,
    workers: int | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the codes of all clips; a file that is there is left as it is.

    Args:
        features: What to encode.
        dvae: Trained.
        mel_range: That it was trained with.
        out: ``codes.npy``, uint16.
        workers: Processes, on a processor; default the cores that there are.
        device: Where to encode.
        progress: Called with (clips done, clips in all).
    """
    if out.exists():
        return
    codes = np.zeros(len(features.frames) // FRAMES_PER_CODE, dtype=np.uint16)
    batches = list(_batches(features))
    done = 0
    parts = (features, dvae.to(device).eval(), mel_range)
    with ExitStack() as stack:
        made: Iterator[list[np.ndarray]] = map(_ClipEncoder(*parts), batches)
        workers = min(workers or available_cores(), len(batches))
        if workers > 1 and torch.device(device).type == "cpu":
            pool = stack.enter_context(ProcessPoolExecutor(workers, initializer=_set_up, initargs=parts))
            made = pool.map(_encode, batches)
        for clips, codes_of_clips in zip(batches, made, strict=True):
            for clip, found in zip(clips, codes_of_clips, strict=True):
                first = clip.first // FRAMES_PER_CODE
                codes[first : first + clip.codes] = found
            done += len(clips)
            if progress:
                progress(done, len(features.clips))
    with atomic_file(out) as file:
        np.save(file, codes)


def _batches(features: Features) -> Iterator[list[Clip]]:
    """Clips of like length, the longest first: what does not fit is seen at once."""
    batch: list[Clip] = []
    for index in np.argsort(-features.clips.frames, kind="stable"):
        clip = features.clips[int(index)]
        if batch and batch[0].frames * (len(batch) + 1) > BATCH_FRAMES:
            yield batch
            batch = []
        batch.append(clip)
    if batch:
        yield batch


class _ClipEncoder:
    """Encodes batches; made once in each process."""

    def __init__(self, features: Features, dvae: DVAE, mel_range: MelRange) -> None:
        self.features, self.dvae, self.mel_range = features, dvae, mel_range
        self.device = next(dvae.parameters()).device

    @torch.inference_mode()
    def __call__(self, clips: list[Clip]) -> list[np.ndarray]:
        mels = [self.mel_range.normalize(self.features.mel(clip).to(self.device)) for clip in clips]
        return [codes.to(torch.int32).cpu().numpy() for codes in self.dvae.encode_clips(mels)]


_encoder: _ClipEncoder | None = None  # of a worker process


def _set_up(features: Features, dvae: DVAE, mel_range: MelRange) -> None:
    global _encoder
    torch.set_num_threads(1)
    _encoder = _ClipEncoder(features, dvae, mel_range)


def _encode(clips: list[Clip]) -> list[np.ndarray]:
    assert _encoder is not None
    return _encoder(clips)
