"""What a run leaves in its folder to be looked at: log lines, TensorBoard curves, pictures, samples, a broken batch.

matplotlib and tensorboard are used where they are installed. A full disk costs pictures and lines, not the run.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile as sf
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from chelys.files import write_bytes
from chelys.parsing import parse_json, read_json_lines

log = logging.getLogger(__name__)

#: Metrics that are no loss: not plotted, and not shown in the progress bar.
NO_LOSS = ("grad_norm", "loss_scale", "learning_rate", "seconds_per_step", "skipped")


class RunLog:
    """``log.jsonl``, a line of JSON for each log line, and ``tensorboard/``. ``tensorboard``: write curves too."""

    def __init__(self, folder: Path, *, tensorboard: bool) -> None:
        self.path = folder / "log.jsonl"
        self._writer: Any = None
        self._curves = folder / "tensorboard" if tensorboard else None

    def open(self, step: int) -> None:
        """Continue from a step: lines and curves beyond it are dropped, for they are about to be written again."""
        if self.path.exists():
            kept = [line for line in self.path.read_bytes().splitlines() if _step_of(line) <= step]
            write_bytes(self.path, b"".join(line + b"\n" for line in kept))
        if self._curves is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                log.info("tensorboard is not installed: the log is log.jsonl alone (pip install 'chelys[train]')")
                return
            self._writer = SummaryWriter(str(self._curves), purge_step=step + 1)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        if not metrics:
            return
        line = json.dumps({"step": step, **{name: float(f"{value:.7g}") for name, value in metrics.items()}})
        try:
            with self.path.open("a", encoding="utf8") as lines:
                lines.write(line + "\n")
            if self._writer is not None:
                for name, value in metrics.items():
                    self._writer.add_scalar(name, value, step)
        except OSError as error:
            log.warning("%s: step %d was not logged: %s", self.path, step, error.strerror or error)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _step_of(line: bytes) -> float:
    """Step of a line; infinite where the line is torn."""
    try:
        return float(parse_json(line, nan=True)["step"])
    except (ValueError, TypeError, KeyError):
        return float("inf")


# ---- pictures -------------------------------------------------------------------------------------------------------


class Picture(NamedTuple):
    """Something to look at."""

    values: Tensor  # ``(rows, columns)``, drawn as an image with row 0 at the bottom, or ``(n,)``, drawn as a line
    x: str = ""  # label of the x axis
    y: str = ""  # label of the y axis


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
        _save_figure(figure, folder / f"{step:09d}-{name}.png")


def plot_losses(log_file: Path, out: Path) -> None:
    """Plot every loss and held-out metric of a run's log over the steps."""
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for line in read_json_lines(log_file, nan=True):
        for name, value in line.items():
            if name != "step" and not name.endswith(NO_LOSS):
                curves[name].append((line["step"], value))
    figure = _figure(9, 2.2 * max(1, -(-len(curves) // 2))) if curves else None
    if figure is None:
        return
    for index, (name, points) in enumerate(sorted(curves.items()), 1):
        axes = figure.add_subplot(-(-len(curves) // 2), 2, index)
        axes.plot(*np.array(points, dtype=float).T, linewidth=1)
        axes.set_title(name, fontsize=9)
        axes.grid(alpha=0.3)
    _save_figure(figure, out)


def _save_figure(figure: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=100)
    except OSError as error:
        log.warning("%s was not drawn: %s", path, error.strerror or error)


# ---- audio samples and broken batches -------------------------------------------------------------------------------


class Preview(NamedTuple):
    """Something to listen to."""

    waveform: Tensor  # ``(n,)``
    rate: int  # Hz
    text: str = ""  # what is said in it
    original: str = ""  # name of the recording that it is a copy of; empty for a recording


class PreviewCopy(NamedTuple):
    """A copy that was written, for who hears it."""

    audio: Path
    text: str
    original: Path  # the recording


#: Hears the copies of an evaluation: names and values of figures.
Listener = Callable[[Sequence[PreviewCopy]], Mapping[str, float]]


def write_samples(folder: Path, step: int, samples: Mapping[str, Preview]) -> list[PreviewCopy]:
    """Write ``folder/STEP-name.wav`` for each, and say which are copies."""
    paths: dict[str, Path] = {}
    for name, sample in samples.items():
        path = folder / f"{step:09d}-{name}.wav"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, sample.waveform.detach().float().clamp(-1, 1).cpu().numpy(), sample.rate)
            paths[name] = path
        except (OSError, sf.SoundFileError) as error:
            log.warning("%s was not written: %s", path, error)
    return [
        PreviewCopy(paths[name], sample.text, paths[sample.original])
        for name, sample in samples.items()
        if name in paths and sample.original in paths
    ]


def save_broken_batch(path: Path, tensors: Mapping[str, Tensor], clips: Sequence[str], **metadata: str) -> Path | None:
    """Store the batch of a step whose loss is not finite, to be looked at.

    ``path``: file to write; ``tensors``: of the batch, by name; ``clips``: ids of its clips; ``metadata``: text to
    store beside them. Returns its path, or None where it cannot be written.
    """
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        save_file(whole, path, metadata=metadata | {"clips": json.dumps(list(clips))})
    except (OSError, SafetensorError) as error:
        log.warning("%s was not written (%s)", path, error)
        return None
    return path
