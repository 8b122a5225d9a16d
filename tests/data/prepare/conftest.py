"""Settings under which a preparation needs no package of the extra and takes no time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf

from chelys.config import from_mapping
from chelys.data.prepare.pipeline import PrepareSettings

sys.path.insert(0, str(Path(__file__).parent))

import made_up  # noqa: E402


@pytest.fixture
def settings() -> Callable[..., PrepareSettings]:
    """Make settings, with changes such as ``transcribe={"model": "x"}``."""

    def make(**changes: dict[str, Any]) -> PrepareSettings:
        values: dict[str, Any] = {
            "segment": {"detector": "energy"},
            "measure": {"classifier": None},  # it knows no voice in what is made up here
            "transcribe": {"transcriber": "made_up:Listener", "model": ""},
            "pack": {"clips": 4},
        }
        for name, change in changes.items():
            values[name] = values.get(name, {}) | change if isinstance(change, dict) else change
        return from_mapping(PrepareSettings, values)

    return make


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two recordings of three utterances each, one in a folder of its own."""
    folder = tmp_path / "raw"
    (folder / "deeper").mkdir(parents=True)
    sf.write(folder / "one.wav", made_up.talk([1.5, 2.0, 1.2], seed=1), made_up.RATE)
    sf.write(folder / "deeper" / "two.flac", made_up.talk([1.0, 3.0, 1.7], seed=2), made_up.RATE)
    return folder
