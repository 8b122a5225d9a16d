"""Recordings and a transcriber made by code; imported by workers too, so it names nothing of pytest."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from chelys.data.prepare.transcribe import Align, TimedWord, TranscriptCandidate, Transcription
from chelys.data.prepare.work import Item, Row, Store

RATE = 24_000


def speech(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A buzz in syllables with hisses: nobody would understand it, but it has speech's levels and gaps."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    pitch = 110 + 90 * rng.random() + 20 * np.sin(2 * np.pi * (0.5 + rng.random()) * t)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = sum(np.sin(k * phase + rng.uniform(0, 6)) * rng.uniform(0.2, 1) / k for k in range(1, 20))
    loud = 0.02 + np.abs(np.sin(2 * np.pi * (1.7 + rng.random()) * t + rng.uniform(0, 3))) ** 2
    hiss = rng.standard_normal(len(t)) * (np.sin(2 * np.pi * 1.3 * t + rng.uniform(0, 6)) > 0.8) * 0.3
    return (0.12 * (voice * loud + hiss)).astype(np.float32)


def pause(seconds: float, rate: int = RATE) -> np.ndarray:
    """Not digital silence."""
    return (1e-4 * np.random.default_rng(1).standard_normal(round(seconds * rate))).astype(np.float32)


def talk(lengths: list[float], seed: int = 0, gap: float = 0.9) -> np.ndarray:
    """Utterances with pauses between, before and after."""
    parts = [pause(0.6)]
    for i, seconds in enumerate(lengths):
        parts += [speech(seconds, 100 * seed + i), pause(gap)]
    return np.concatenate(parts)


class Listener:
    """A transcriber that counts instead of understanding; ``settings.model`` is a folder that it may note calls in."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def transcribe(self, clips: list[np.ndarray]) -> list[Transcription]:
        self._note("transcribe", len(clips))
        return [
            Transcription(
                [TranscriptCandidate(f"said for {len(c)} samples", 0.9), TranscriptCandidate(f"sad for {len(c)}", 0.4)],
                0.1,
            )
            for c in clips
        ]

    def align(self, clips: list[np.ndarray], texts: list[str]) -> list[list[TimedWord]]:
        self._note("align", len(clips))
        return [[TimedWord(w, i * 0.1, i * 0.1 + 0.1) for i, w in enumerate(text.split())] for text in texts]

    def _note(self, what: str, count: int) -> None:
        folder = Path(self.settings.model)
        if self.settings.model and folder.is_dir():
            with (folder / "calls").open("a") as file:
                file.write(f"{what} {count}\n")


class Sleepy(Listener):
    """Slow enough to be killed at its work."""

    def transcribe(self, clips: list[np.ndarray]) -> list[Transcription]:
        time.sleep(0.05)
        return super().transcribe(clips)


class Deaf(Listener):
    """Ends its process when it hears anything."""

    def transcribe(self, clips: list[np.ndarray]) -> list[Transcription]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def classifier() -> Any:
    """Hears two voices in everything."""
    return lambda audio, rate: {"overlap": 0.97, "noise": 0.25}


class Trap(Align):
    """A stage for the engine's tests; its items say what happens."""

    def work(self, item: Item, store: Store) -> list[Row]:
        what = item.content["do"]
        if what == "raise":
            raise RuntimeError("a strange file")
        if what == "fill":
            raise OSError(28, "No space left on device")
        if what == "die" or (what == "die once" and not Path(item.place["mark"]).exists()):
            if what == "die once":
                Path(item.place["mark"]).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [{"did": what}]


def tree(out: Path, *, work: bool = False) -> dict[str, bytes]:
    """Every file of a folder, by name; ``work`` too."""
    paths = (p for p in sorted(out.rglob("*")) if p.is_file())
    return {n: p.read_bytes() for p in paths if work or not (n := p.relative_to(out).as_posix()).startswith("work/")}


def stereo(audio: np.ndarray) -> np.ndarray:
    """Twice the same channel."""
    return np.stack([audio, audio], axis=1)
