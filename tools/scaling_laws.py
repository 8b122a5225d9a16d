"""Laws of held-out loss, their fit and how sure it is: for docs/research/scaling.md.

N parameters, D hours of speech, C operations of training; k runs.

Each law is linear in all its numbers but one or two. Those are looked for on a grid, the others by least squares of
relative errors, and the grid is made finer about the best. Intervals are percentiles of the same fit to runs drawn with
replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

DRAWS, SEED = 300, 1


@dataclass(frozen=True)
class Law:
    """A form, fitted.

    Attributes:
        name: ``chinchilla``, ``kaplan`` or ``compute``.
        numbers: By name.
        error: Root mean square of the relative errors of the runs fitted.
    """

    name: str
    numbers: dict[str, float]
    error: float

    def __call__(self, *x: np.ndarray | float) -> np.ndarray:
        """Loss: of N and D, or of C."""
        return FORMS[self.name].loss(self.numbers, *(np.asarray(value, np.float64) for value in x))


@dataclass(frozen=True)
class Form:
    """How a law is fitted.

    Attributes:
        said: As it is written.
        grid: Range of each number that is looked for.
        columns: Of these numbers and the x of the runs: what is linear, ``(k, c)``.
        power: Of these numbers: the loss to this power is linear in the columns.
        read: The numbers by name, of those of the grid and of the linear ones.
        loss: Of the numbers and x.
    """

    said: str
    grid: tuple[tuple[float, float], ...]
    columns: Callable[..., np.ndarray]
    power: Callable[..., float]
    read: Callable[..., dict[str, float]]
    loss: Callable[..., np.ndarray]


FORMS = {
    "chinchilla": Form(
        "L = E + A / N^alpha + B / D^beta",
        ((0.02, 2.0), (0.02, 2.0)),
        lambda g, n, d: np.stack([np.ones_like(n), n ** -g[0], d ** -g[1]], 1),
        lambda g: 1.0,
        lambda g, c: {"E": c[0], "A": c[1], "alpha": g[0], "B": c[2], "beta": g[1]},
        lambda p, n, d: p["E"] + p["A"] / n ** p["alpha"] + p["B"] / d ** p["beta"],
    ),
    "kaplan": Form(
        "L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D",
        ((0.02, 2.0), (0.02, 2.0)),
        lambda g, n, d: np.stack([n ** -(g[0] / g[1]), 1 / d], 1),
        lambda g: 1 / g[1],
        lambda g, c: {"alpha_N": g[0], "alpha_D": g[1], "N_c": c[0] ** (g[1] / g[0]), "D_c": c[1]},
        lambda p, n, d: ((p["N_c"] / n) ** (p["alpha_N"] / p["alpha_D"]) + p["D_c"] / d) ** p["alpha_D"],
    ),
    "compute": Form(
        "L = E + K / C^gamma",
        ((0.02, 2.0),),
        lambda g, c: np.stack([np.ones_like(c), c ** -g[0]], 1),
        lambda g: 1.0,
        lambda g, c: {"E": c[0], "K": c[1], "gamma": g[0]},
        lambda p, c: p["E"] + p["K"] / c ** p["gamma"],
    ),
}


def fit(name: str, x: Sequence[np.ndarray], loss: np.ndarray) -> Law:
    """Fit a form to runs.

    Args:
        name: Of the form.
        x: N and D of the runs, or C, ``(k,)`` each; best in units that make them about 1.
        loss: Of the runs, ``(k,)``, above 0.

    Raises:
        ValueError: If there are fewer runs than numbers, or no law of this form falls with N, D and C.
    """
    form = FORMS[name]
    if len(loss) < 3 + len(form.grid):
        raise ValueError(f"{len(loss)} runs are too few for {form.said}")
    axes = [np.geomspace(low, high, 15) for low, high in form.grid]
    best: tuple[float, tuple[float, ...], np.ndarray] | None = None
    for _ in range(3):
        for g in product(*axes):
            found = _linear(form, g, x, loss)
            if found is not None and (best is None or found[0] < best[0]):
                best = (found[0], g, found[1])
        if best is None:
            raise ValueError(f"no {form.said} with numbers above 0 goes through these runs")
        steps = [axis[1] / axis[0] for axis in axes]
        axes = [np.geomspace(v / s, v * s, 15) for v, s in zip(best[1], steps, strict=True)]
    numbers = {key: float(value) for key, value in form.read(best[1], best[2]).items()}
    law = Law(name, numbers, 0.0)
    return Law(name, numbers, float(np.sqrt(np.mean((law(*x) / loss - 1) ** 2))))


def _linear(
    form: Form, g: tuple[float, ...], x: Sequence[np.ndarray], loss: np.ndarray
) -> tuple[float, np.ndarray] | None:
    """Error and the linear numbers, none of which is negative; None if there are none such."""
    power = form.power(g)
    weighted = form.columns(g, *x) / (loss**power)[:, None]
    if not np.isfinite(weighted).all():
        return None
    scale = np.abs(weighted).max(0)
    numbers = np.linalg.lstsq(weighted / scale, np.ones(len(loss)), rcond=None)[0] / scale
    if (numbers <= 0).any():
        return None
    predicted = np.maximum(weighted @ numbers, 1e-12) ** (1 / power)  # over the loss
    return float(np.mean((predicted - 1) ** 2)), numbers


def drawn(name: str, x: Sequence[np.ndarray], loss: np.ndarray, draws: int = DRAWS) -> list[Law]:
    """Laws of runs drawn with replacement; draws that no law goes through are left out."""
    rng, laws = np.random.default_rng(SEED), []
    for _ in range(draws):
        rows = rng.integers(0, len(loss), len(loss))
        if min(len(np.unique(values[rows])) for values in x) < 3:
            continue
        try:
            laws.append(fit(name, [values[rows] for values in x], loss[rows]))
        except ValueError:
            continue
    return laws


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of some values."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def frontier(operations: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Rows ``(j,)`` of the points ``(k,)`` that no point of as few operations is below, by operations."""
    order = np.lexsort((loss, operations))
    lowest = np.minimum.accumulate(loss[order])
    return order[np.r_[True, lowest[1:] < lowest[:-1]]]
