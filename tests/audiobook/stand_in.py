"""An engine of no weight with the interface of the real one: takes of tones, as long as their phonemes ask for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from chelys.audio.rates import OUTPUT_RATE
from chelys.audiobook.stages import SentenceRequest, Take

SECONDS_A_SYMBOL = 0.06


def sound_of(request: SentenceRequest) -> np.ndarray:
    """Tones under a slow envelope between two silences; level, pitch and silences differ from sentence to sentence."""
    said = f"{request.sentence.phonemes} {request.seed} {request.occurrence} {request.sentence.voice}"
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(said.encode()).digest()[:8], "big"))
    n = round(OUTPUT_RATE * SECONDS_A_SYMBOL * max(6, len(request.sentence.phonemes)))
    time = np.arange(n) / OUTPUT_RATE
    pitch = rng.uniform(90, 260)
    tones = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in range(1, 8))
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 3 * time + rng.uniform(0, 6))
    envelope *= np.minimum(1, np.minimum(np.arange(n), np.arange(n)[::-1]) / 240)
    level = 10 ** (rng.uniform(-40, -12) / 20)
    silences = [np.zeros(rng.integers(200, 6000)) for _ in range(2)]
    return np.concatenate((silences[0], level * tones * envelope, silences[1])).astype(np.float32)


def takes(requests: Iterable[SentenceRequest]) -> Iterator[Take]:
    for request in requests:
        key = hashlib.sha256(f"{request.sentence.phonemes} {request.occurrence}".encode()).hexdigest()[:32]
        yield Take(sound_of(request), [1], -1.0, 0, True, key, key, computed=("wave",), spent_s=0.01)
