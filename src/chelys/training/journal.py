"""What a run writes about itself: a line of JSON for each log line, and TensorBoard where it is installed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class Journal:
    """Log of a run.

    Args:
        folder: Run folder; lines go to ``log.jsonl``, curves to ``tensorboard/``.
        tensorboard: Write curves too.
    """

    def __init__(self, folder: Path, *, tensorboard: bool) -> None:
        self.path = folder / "log.jsonl"
        self._curves: Any = None
        self._curves_in = folder / "tensorboard" if tensorboard else None

    def open(self, step: int) -> None:
        """Go on from a step: lines and curves beyond it are dropped, for they are about to be written again."""
        if self.path.exists():
            kept = [line for line in self.path.read_text(encoding="utf8").splitlines() if _step_of(line) <= step]
            partial = self.path.with_suffix(".part")
            partial.write_text("".join(line + "\n" for line in kept), encoding="utf8")
            partial.replace(self.path)  # killed here, too, the log is whole
        if self._curves_in is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                log.info("tensorboard is not installed: the log is log.jsonl alone (pip install 'chelys[train]')")
                return
            self._curves = SummaryWriter(str(self._curves_in), purge_step=step + 1)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Write figures of a step. A full disk costs lines of the log, not the run."""
        if not figures:
            return
        line = json.dumps({"step": step, **{name: float(f"{value:.7g}") for name, value in figures.items()}})
        try:
            with self.path.open("a", encoding="utf8") as lines:
                lines.write(line + "\n")
            if self._curves is not None:
                for name, value in figures.items():
                    self._curves.add_scalar(name, value, step)
        except OSError as error:
            log.warning("%s: step %d was not logged: %s", self.path, step, error.strerror or error)

    def close(self) -> None:
        """Let go of TensorBoard's file."""
        if self._curves is not None:
            self._curves.close()
            self._curves = None


def _step_of(line: str) -> float:
    """Step of a line; infinite where the line is torn."""
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, TypeError, KeyError):
        return float("inf")
