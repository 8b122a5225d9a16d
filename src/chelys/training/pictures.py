"""Pictures of a run: what a stage shows, and the losses over the steps. matplotlib is imported when one is drawn."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

log = logging.getLogger(__name__)


class Picture(NamedTuple):
    """Something to look at.

    Attributes:
        values: ``(rows, columns)``, drawn as an image with row 0 at the bottom, or ``(n,)``, drawn as a line.
        x: What runs to the right.
        y: What runs upwards.
    """

    values: Tensor
    x: str = ""
    y: str = ""


def _figure(width: float, height: float) -> Any:
    """A figure that needs no screen, or None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.info("matplotlib is not installed: no pictures are drawn (pip install 'chelys[train]')")
        return None
    return Figure(figsize=(width, height), layout="constrained")


def draw_pictures(folder: Path, step: int, pictures: Mapping[str, Picture]) -> None:
    """Write ``folder/STEP-name.png`` for each."""
    for name, picture in pictures.items():
        figure = _figure(7, 4)
        if figure is None:
            return
        axes = figure.add_subplot()
        values = picture.values.detach().float().cpu().numpy()
        if values.ndim == 1:
            axes.plot(values)
        else:
            figure.colorbar(axes.imshow(values, origin="lower", aspect="auto", interpolation="nearest"))
        axes.set(title=f"{name}, step {step}", xlabel=picture.x, ylabel=picture.y)
        _save(figure, folder / f"{step:09d}-{name}.png")


def plot_losses(log_file: Path, out: Path) -> None:
    """Draw every loss and held-out figure of a run's log over the steps."""
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    with log_file.open(encoding="utf8") as lines:
        for line in map(json.loads, lines):
            for name, value in line.items():
                if not name.endswith(("gradient", "gradient_clipped")) and name not in (
                    "step", "rate", "seconds_per_step", "loss_scale"
                ):  # fmt: skip
                    curves[name].append((line["step"], value))
    figure = _figure(9, 2.2 * max(1, -(-len(curves) // 2))) if curves else None
    if figure is None:
        return
    for index, (name, points) in enumerate(sorted(curves.items()), 1):
        axes = figure.add_subplot(-(-len(curves) // 2), 2, index)
        axes.plot(*np.array(points, dtype=float).T, linewidth=1)
        axes.set_title(name, fontsize=9)
        axes.grid(alpha=0.3)
    _save(figure, out)


def _save(figure: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=100)
    except OSError as error:  # a full disk shall not end a run for a picture
        log.warning("%s was not drawn: %s", path, error.strerror or error)
