"""Samples of a training are heard, and what cannot hear is said once."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from chelys.audio.io import write
from chelys.errors import ConfigError, UserError
from chelys.evaluation import listening
from chelys.evaluation.previews import FIGURES, PreviewListener
from chelys.training.logging import PreviewCopy

RATE = 24_000


def copies(folder: Path, texts: tuple[str, ...]) -> list[PreviewCopy]:
    found = []
    for number, text in enumerate(texts):
        sound = (0.2 * np.sin(np.arange(RATE) * (number + 1) / 9)).astype(np.float32)
        paths = [folder / f"{kind}-{number}.wav" for kind in ("generated", "real")]
        for path in paths:
            write(path, sound, RATE)
        found.append(PreviewCopy(paths[0], text, paths[1]))
    return found


def test_words_are_heard_and_random_numbers_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("whisper_normalizer")
    loaded = []

    class Hears:
        def transcribe(self, audio: np.ndarray, **options: Any) -> tuple[list[Any], None]:
            torch.rand(5)
            return [SimpleNamespace(text="one two three")], None

    monkeypatch.setattr(listening, "load_recogniser", lambda: loaded.append(1) or Hears())
    listener = PreviewListener(["words"])
    torch.manual_seed(0)
    state = torch.get_rng_state()
    for _ in range(2):
        found = listener(copies(tmp_path, ("One two three.", "One two four five.")))
        assert found["wer"] == pytest.approx(2 / 7) and set(found) <= set(FIGURES["words"])
    assert loaded == [1] and torch.equal(torch.get_rng_state(), state)


def test_what_is_missing_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> None:
        raise ConfigError("distillmos is not installed: pip install it")

    def broken() -> None:
        raise OSError("weights\nare torn")

    monkeypatch.setattr(listening, "Naturalness", missing)
    monkeypatch.setattr(listening, "Noise", broken)
    monkeypatch.setattr("chelys.evaluation.measures.listening", listening)
    listener = PreviewListener(["naturalness", "noise", "naturalness"])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert listener(copies(tmp_path, ("One.",))) == {}
    assert [record.getMessage() for record in caplog.records] == [
        "the samples are not heard by naturalness from here on: distillmos is not installed: pip install it",
        "the samples are not heard by noise from here on: OSError: weights",
    ]
    with pytest.raises(UserError, match="no measure 'beauty'"):
        PreviewListener(["words", "beauty"])
