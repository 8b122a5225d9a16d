"""One Synthesizer, many threads: the samples, words and scores of calls one after another."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from chelys.inference.options import SpeechOptions
from chelys.inference.synthesizer import Synthesizer

QUICK = SpeechOptions(candidates=2, steps=1, temperature=0.8, max_new_tokens=24)
THREADS = 8


def text(number: int) -> str:
    """A text with figures, whose words a shared engine of numbers would mix up; some are of several sentences."""
    return (
        f"{1_000 * number + 7:,} people paid ${number}.{number % 100:02d} on the {number % 31 + 1}. "
        f"Room {number}B, at {number % 12 + 1}:{number % 60:02d}: 1/{number + 2} of {3 * number}%."
    )


def spoken(tts: Synthesizer, number: int) -> tuple[str, list[str], list[float]]:
    speech = tts.speak(text(number), voice=("low", "high", "low:0.3+high:0.7")[number % 3], seed=number, options=QUICK)
    sentences = [part["text"] for part in speech.receipt["sentences"]]
    words = [sentence.spoken for sentence in tts.read_text(text(number)).sentences]
    return hashlib.sha256(speech.audio.tobytes()).hexdigest(), sentences + words, speech.receipt["scores"]


@pytest.mark.parametrize("texts", [2, pytest.param(200, marks=pytest.mark.slow)])
def test_threads_speak_as_one_does(tts: Synthesizer, texts: int) -> None:
    numbers = range(THREADS * texts)
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(lambda number: spoken(tts, number), numbers))
    assert together == [spoken(tts, number) for number in numbers]
    assert len({found[0] for found in together}) == len(numbers)
