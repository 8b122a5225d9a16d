"""The pitch of recorded speech, which a vocoder with a harmonic source learns to read (WORLD's Dio, Morise 2009).

Dio takes about a fiftieth of the time that the sound lasts, more than all else that a vocoder's batch needs. So each
clip is tracked once, when it is first needed, and kept in a file next to the features.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chelys.audio.rates import HOP, OUTPUT_RATE
from chelys.data.dataset import Clip, ClipDataset
from chelys.errors import MissingExtra
from chelys.machine import worker_pool

log = logging.getLogger(__name__)

#: Hz between which a pitch is looked for.
RANGE = (55.0, 500.0)
_UNVOICED = -1.0  # in the file, where 0 says that a frame was not looked at yet


def track_pitch(waveform: np.ndarray) -> np.ndarray:
    """Hz at each mel frame, float32 ``(n // 256,)``, of a waveform ``(n,)`` at 24 kHz; 0 where there is no voice.

    Raises MissingExtra if pyworld is not installed.
    """
    try:
        import pyworld
    except ImportError as error:
        raise MissingExtra("train", error) from error
    samples, period = waveform.astype(np.float64), 1000 * HOP / OUTPUT_RATE
    pitch, times = pyworld.dio(samples, OUTPUT_RATE, *RANGE, frame_period=period)
    pitch = pyworld.stonemask(samples, pitch, times, OUTPUT_RATE)
    return pitch[: len(waveform) // HOP].astype(np.float32)


class PitchCache:
    """Pitch of the clips of a dataset, tracked clip by clip when it is asked for, and kept for all later runs.

    The file ``pitch-*.f32`` lies in the dataset's folder and is mapped by all processes; two that track the same clip
    write the same numbers. Where the folder cannot be written to, nothing is kept.
    """

    def __init__(self, dataset: ClipDataset) -> None:
        self.dataset = dataset
        clips = dataset.clips
        self._first = clips.first
        self._offsets = np.concatenate(([0], np.cumsum(clips.frames)))
        digest = hashlib.blake2b(self._first.tobytes() + self._offsets.tobytes(), digest_size=8)
        for id_ in clips.ids():
            digest.update(id_.encode(errors="surrogatepass"))
        folder = dataset.folder if dataset.folder.is_dir() else dataset.folder.parent
        self.path = folder / f"pitch-{digest.hexdigest()}.f32"
        self._open()

    def _open(self) -> None:
        size = int(self._offsets[-1])
        self._values: np.ndarray | None = None
        try:
            with self.path.open("ab") as file:
                if file.tell() < 4 * size:
                    file.truncate(4 * size)  # sparse zeros
            self._values = np.memmap(self.path, np.float32, mode="r+", shape=(size,))
        except OSError as error:
            log.info("%s is not kept: %s", self.path, error.strerror or error)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_values": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def of(self, clip: Clip, start: int = 0, frames: int | None = None) -> torch.Tensor:
        """Hz at ``frames`` mel frames of a clip from ``start`` on, float32; 0 where there is no voice."""
        whole = self._whole(clip)
        return torch.from_numpy(whole[start : None if frames is None else start + frames].copy())

    def _whole(self, clip: Clip) -> np.ndarray:
        kept = None
        if self._values is not None:
            row = int(np.searchsorted(self._first, clip.first))
            kept = self._values[self._offsets[row] : self._offsets[row + 1]]
            if kept.all():
                return np.maximum(kept, 0)
        pitch = track_pitch(self.dataset.waveform(clip, 0, clip.frames).numpy())
        if kept is not None:
            kept[:] = np.where(pitch > 0, pitch, _UNVOICED)
        return pitch

    def fill(self, *, workers: int = 1, progress: Callable[[int, int], None] | None = None) -> Path:
        """Track all clips ahead of training, in so many processes."""
        clips = self.dataset.clips
        with worker_pool(workers) as pool:
            for done, _ in enumerate(pool.map(partial(_track, self), clips, chunksize=16), 1):
                if progress and done % 50 == 0:
                    progress(done, len(clips))
        return self.path


def _track(cache: PitchCache, clip: Clip) -> None:
    cache._whole(clip)
