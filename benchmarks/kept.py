"""What a page keeps of a run's settings: nothing of the machine that it ran on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


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
