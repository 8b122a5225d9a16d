"""Reads what a server sent as a player would, and compares it with what was said."""

from __future__ import annotations

import io

import numpy as np
import pytest

from chelys.server.encoding import Format

RATE = 24_000
#: Samples of one frame of each format.
FRAME = {"mp3": 576, "opus": 480, "aac": 1024, "flac": 0, "wav": 0, "pcm": 0}
#: Samples that a coder puts in front and has no way to tell players of: ADTS, the file of AAC, knows frames alone.
DELAY = {"aac": 1024}


def decode(data: bytes, format: Format) -> np.ndarray:
    """As a player does, by FFmpeg."""
    if format == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(data)) as container:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
        frames = [r for frame in container.decode(audio=0) for r in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def check_alike(heard: np.ndarray, said: np.ndarray, format: Format, least: float = 0.98) -> None:
    """Same length within a frame, nothing moved, alike."""
    heard = heard[DELAY.get(format, 0) :]
    assert abs(len(heard) - len(said)) <= FRAME[format]
    moved = range(-1100, 1101) if FRAME[format] else (0,)
    assert min(moved, key=lambda s: np.abs(_shifted(heard, s, len(said)) - said).sum(dtype=float)) == 0
    assert np.corrcoef(_shifted(heard, 0, len(said)), said)[0, 1] > (least if FRAME[format] else 0.999999)


def _shifted(audio: np.ndarray, shift: int, length: int) -> np.ndarray:
    audio = audio[shift:] if shift >= 0 else np.concatenate((np.zeros(-shift, np.float32), audio))
    return np.pad(audio, (0, max(0, length - len(audio))))[:length]
