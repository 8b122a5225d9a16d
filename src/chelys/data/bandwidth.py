"""Narrow recordings made as wide as the others: the mel bands that they lack, from those that they have.

A recording of 16 kHz has nothing above 8 kHz. A decoder that learns from it speaks as dully, and takes dullness for a
part of the voice. So the empty bands are filled with what goes with the lower ones in the full recordings of the same
corpus: a ridge regression (Hoerl & Kennard 1970) on the lower bands of the frame and of its neighbours, plus noise as
large as its error, band by band, without which consonants would lose their texture.

s mel frames, f bands, c the first band of a clip that is empty.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from chelys.audio.mel import MEL_EXTREMES
from chelys.audio.rates import HOP
from chelys.data.dataset import Clip, Features
from chelys.errors import ManifestError

log = logging.getLogger(__name__)

#: A band is empty where hardly a frame is this much (in nepers) above the floor of the logarithm.
ABOVE_FLOOR, LOUD_FRAMES = 1.0, 99.0
#: A filter that cuts the band leaves less than it found of so many bands below the first that is empty.
SLOPE = 4
#: The band where inputs begin, 2.3 kHz: what is lower says little of what is above 6 kHz.
FIRST_INPUT = 40
#: Frames to either side whose mean is an input.
REACH = 2
RIDGE = 1e-3
#: Of full recordings: seconds that the regression takes at least, and frames that it takes at most.
MIN_SECONDS, MAX_FRAMES = 30.0, 600_000


class Regression(NamedTuple):
    """From the lower bands to those from c on."""

    weights: np.ndarray  # ``(inputs, f - c)``
    error: np.ndarray  # standard deviation of what it leaves, ``(f - c,)``

    @classmethod
    def fit(cls, mels: np.ndarray, cut: int) -> Regression:
        """Of full mels ``(s, f)``."""
        x, y = _inputs(mels, cut).astype(np.float64), mels[:, cut:].astype(np.float64)
        gram = x.T @ x
        gram[np.diag_indices_from(gram)] += RIDGE * len(x)
        weights = np.linalg.solve(gram, x.T @ y)
        return cls(weights, (y - x @ weights).std(0))

    def __call__(self, mel: np.ndarray, cut: int, rng: np.random.Generator) -> np.ndarray:
        """The bands of ``(s, f)`` from c on, ``(s, f - c)``."""
        mean = _inputs(mel, cut) @ self.weights
        return np.clip(mean + rng.standard_normal(mean.shape) * self.error, *MEL_EXTREMES)


def extend(features: Features, *, seed: int = 1, progress: Callable[[int, int], None] | None = None) -> dict[str, int]:
    """Fill the empty upper bands of a feature folder's clips, in place; those that are full stay as they are.

    Returns the ids of the clips that were narrow, with the band from which they were filled. ``progress`` gets (clips
    done, clips in all). Raises ManifestError if there are narrow clips, but too few full ones to learn from.
    """
    cuts = [first_empty(features.frames[clip.first : clip.first + clip.frames]) for clip in features.clips]
    bands = features.spec.bands
    narrow = {clip.id: cut for clip, cut in zip(features.clips, cuts, strict=True) if cut < bands}
    if not narrow:
        return {}
    full = [clip for clip, cut in zip(features.clips, cuts, strict=True) if cut == bands]
    seconds = sum(clip.frames for clip in full) * HOP / features.spec.sample_rate
    if seconds < MIN_SECONDS:
        raise ManifestError(
            f"{len(narrow)} clips lack their upper bands, and the others, {seconds:.0f} s, are too few to fill them "
            f"from: add {MIN_SECONDS:g} s and more of full recordings"
        )
    rng = np.random.default_rng(seed)
    example = _some(features, full, rng)
    fitted = {cut: Regression.fit(example, cut) for cut in sorted(set(narrow.values()))}
    file = np.memmap(features.folder / "mel.f16", dtype=np.float16, mode="r+")
    frames = file.reshape(features.frames.shape)
    for done, (clip, cut) in enumerate(zip(features.clips, cuts, strict=True), 1):
        if cut < bands:
            mel = frames[clip.first : clip.first + clip.frames]
            mel[:, cut:] = fitted[cut](mel.astype(np.float32), cut, rng)
        if progress:
            progress(done, len(cuts))
    file.flush()
    log.info("%d of %d clips were narrow: their upper bands are filled", len(narrow), len(cuts))
    return narrow


def first_empty(mel: np.ndarray) -> int:
    """The first band c of a mel ``(s, f)`` that is empty, as all above it are, less the slope; f where it is full."""
    loud = np.percentile(mel.astype(np.float32), LOUD_FRAMES, axis=0) > MEL_EXTREMES[0] + ABOVE_FLOOR
    sounding = np.flatnonzero(loud)
    if not len(sounding) or sounding[-1] == mel.shape[1] - 1:
        return int(mel.shape[1])
    return max(FIRST_INPUT + 1, int(sounding[-1]) + 1 - SLOPE)


def _some(features: Features, full: list[Clip], rng: np.random.Generator) -> np.ndarray:
    """Mels of full clips, drawn, ``(s, f)`` float32."""
    chosen, frames = [], 0
    for index in rng.permutation(len(full)):
        if frames >= MAX_FRAMES:
            break
        clip = full[int(index)]
        chosen.append(features.frames[clip.first : clip.first + clip.frames].astype(np.float32))
        frames += clip.frames
    return np.concatenate(chosen)


def _inputs(mel: np.ndarray, cut: int) -> np.ndarray:
    """Lower bands of each frame, their mean over the frames around it, and one: ``(s, 2 (c - first) + 1)``."""
    lower = mel[:, FIRST_INPUT:cut]
    width = 2 * REACH + 1
    padded = np.pad(lower, ((REACH, REACH), (0, 0)), mode="edge")
    around = sum(padded[i : i + len(lower)] for i in range(width)) / width
    return np.concatenate([lower, around, np.ones((len(lower), 1), mel.dtype)], axis=1)
