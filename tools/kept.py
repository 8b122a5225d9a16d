"""What the pages keep of a run: its settings, with nothing of the machine that it ran on, and its log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Log:
    """Of a run.

    Attributes:
        lines: In the order of the steps.
    """

    lines: list[dict[str, Any]]

    @property
    def held_out(self) -> list[dict[str, Any]]:
        """Lines with figures of held-out clips."""
        return [line for line in self.lines if any(key.startswith("held_out/") for key in line)]

    @property
    def seconds_a_step(self) -> float | None:
        """Mean time of a step, if any was logged."""
        timed = [line["seconds_per_step"] for line in self.lines if "seconds_per_step" in line]
        return sum(timed) / len(timed) if timed else None


def log_of(folder: Path) -> Log:
    """Log of a run."""
    return Log([json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf8").splitlines()])


def settings_of(folder: Path) -> dict[str, Any]:
    """Settings of a run; files in the working directory are named from there, others by their names alone."""
    return _without_places(json.loads((folder / "config.json").read_text(encoding="utf8")))


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_places(inner) for inner in value]
    if not isinstance(value, str) or not Path(value).is_absolute():
        return value
    path, here = Path(value), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else path.name
