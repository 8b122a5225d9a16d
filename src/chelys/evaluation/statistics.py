"""How sure a figure is, whether two models differ in it, and the distance of two clouds of latents.

Texts are what is drawn anew: a model that fails at one of them fails there in most voices, so clips of one text are
kept together. t texts, n and m clips, d width of a latent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

DRAWS, SEED, LEVEL = 4000, 1, 0.95
SAME = "no difference seen"


class Interval(NamedTuple):
    """A figure and the bounds of its interval of 95 %; they are None where there are fewer than two texts."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """A figure of two models on the same texts, and their difference."""

    first: float
    second: float
    difference: Interval  # second less first
    texts: int

    @property
    def seen(self) -> bool:
        """Whether the interval of the difference leaves out zero."""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and (low > 0 or high < 0)

    def verdict(self, better: str) -> str:
        """In words; ``better``: ``lower``, ``higher``, or empty where neither is."""
        if not self.seen:
            return SAME
        direction = "higher" if self.difference.value > 0 else "lower"
        return direction if not better else f"{direction}, {'better' if direction == better else 'worse'}"


def interval(top: np.ndarray, bottom: np.ndarray) -> Interval:
    """The ratio of two sums over texts, by a bootstrap of the texts (Efron 1979, percentiles).

    ``top``, ``bottom``: ``(t,)``, such as the wrong words and the words of each text; ones for a mean. Raises
    ValueError if the bottom sums to nothing.
    """
    if not len(top) or not bottom.sum() > 0:
        raise ValueError("a ratio needs something to divide by")
    value = float(top.sum() / bottom.sum())
    low, high = _bounds(_ratios(top, bottom, _draws(len(top))), value, len(top))
    if low is None or high is None:
        return Interval(value, None, None)
    each = top[bottom > 0] / bottom[bottom > 0]  # no ratio of sums lies outside these
    return Interval(value, max(low, float(each.min())), min(high, float(each.max())))


def compare(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> Comparison:
    """The same figure of two models, paired: both are drawn on the same texts.

    ``first``, ``second``: top and bottom as of ``interval``, ``(t,)`` each, text for text.
    """
    count = len(first[0])
    if len(second[0]) != count:
        raise ValueError(f"{count} and {len(second[0])} texts cannot be paired")
    one, other = (float(top.sum() / bottom.sum()) for top, bottom in (first, second))
    draws = _draws(count)
    differences = _ratios(*second, draws) - _ratios(*first, draws)
    return Comparison(one, other, Interval(other - one, *_bounds(differences, other - one, count)), count)


def _draws(count: int) -> np.ndarray:
    return np.random.default_rng(SEED).integers(0, count, (DRAWS, count))


def _ratios(top: np.ndarray, bottom: np.ndarray, draws: np.ndarray) -> np.ndarray:
    sums = bottom[draws].sum(1)
    return np.divide(top[draws].sum(1), sums, out=np.full(len(draws), np.nan), where=sums > 0)


def _bounds(values: np.ndarray, centre: float, count: int) -> tuple[float | None, float | None]:
    """Percentiles, widened about the centre by the root of t / (t - 1): a draw of t texts varies too little by that."""
    if count < 2:
        return None, None
    low, high = np.nanpercentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    wider = (count / (count - 1)) ** 0.5
    return float(centre + wider * (low - centre)), float(centre + wider * (high - centre))


# ---- Fréchet distance -----------------------------------------------------------------------------------------------


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """Fréchet distance (Dowson & Landau 1982; Heusel et al. 2017) of two sets of latents, ``(n, d)`` and ``(m, d)``.

    That of normal distributions with their means and covariances: 0 for the same set. The trace of the root of the
    covariances' product is the sum of singular values of one set, centred, times the other: exact for fewer clips than
    dimensions, too. Few clips make it too large; see ``frechet_by_size``. Raises ValueError for fewer than two clips.
    """
    if min(len(one), len(other)) < 2:
        raise ValueError("a Fréchet distance needs two clips of each kind")
    means = [x.mean(0) for x in (one, other)]
    centred = [(x - mean) / np.sqrt(len(x) - 1) for x, mean in zip((one, other), means, strict=True)]
    a, b = (np.asarray(np.linalg.qr(x, mode="r")) for x in centred)  # the same product, without the clips
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    spread = np.square(a).sum() + np.square(b).sum() - 2 * cross
    return float(np.square(means[0] - means[1]).sum() + max(0.0, spread))


class Sized(NamedTuple):
    """Fréchet distances at a number of clips on either side, mean of several draws."""

    clips: int
    distance: float  # of what is judged from recordings
    floor: float | None  # of recordings from other recordings; None where there are too few


def frechet_by_size(judged: np.ndarray, recordings: np.ndarray, *, draws: int = 20) -> list[Sized]:
    """The distance at growing numbers of clips, and what recordings themselves have at the same number.

    The estimate falls with the number of clips towards its limit, so figures of different numbers are not comparable;
    the floor says what perfect speech would have. ``judged``: ``(n, d)``. ``recordings``: ``(m, d)``.
    """
    rng = np.random.default_rng(SEED)
    most = min(len(judged), len(recordings))
    found = []
    for size in _doubling(4, most):
        distances, floors = [], []
        for _ in range(draws):
            order = rng.permutation(len(recordings))
            distances.append(frechet(judged[rng.permutation(len(judged))[:size]], recordings[order[:size]]))
            if 2 * size <= len(recordings):
                floors.append(frechet(recordings[order[size : 2 * size]], recordings[order[:size]]))
        found.append(Sized(size, float(np.mean(distances)), float(np.mean(floors)) if floors else None))
    return found


def _doubling(first: int, last: int) -> Iterable[int]:
    while first < last:
        yield first
        first *= 2
    if last >= 2:
        yield last
