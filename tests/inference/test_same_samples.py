"""nano says the same as before: to the bit on the CPU it was recorded on, within a tolerance on any other.

When a new nano ships, record it anew: ``python tests/inference/test_same_samples.py``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import chelys
from chelys.machine import processor_name

RECORD = Path(__file__).with_name("same_samples.json")
SEED = 11
#: Every 97th sample is recorded.
STRIDE = 97
#: Largest and root mean square difference of the recorded samples; those of other CPUs are up to 0.005 away.
LARGEST, RMS = 0.01, 0.001
#: Voice, preset, text.
CASES = [
    ("heart", "ultra_fast", "The old boat drifted past the mill."),
    ("rowan", "ultra_fast", "Call me at 7:45, if you can."),
    ("willow", "ultra_fast", "Is it true? Nobody here could say."),
    ("aspen", "fast", "Call me at 7:45, if you can."),
]

Speak = Callable[[str, str, str], np.ndarray]


def cpu() -> dict[str, str]:
    """What decides which kernels compute, and so the last bits."""
    return {
        "name": processor_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }


def digest(audio: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(audio, dtype=np.float32).tobytes()).hexdigest()


def thinned(audio: np.ndarray) -> list[int]:
    """Some of the samples, in ten-thousandths."""
    return np.round(audio[::STRIDE] * 1e4).astype(int).tolist()


def check_near(audio: np.ndarray, recorded: dict) -> None:
    """Refuse samples that rounding alone cannot explain."""
    assert len(audio) == recorded["samples"]
    difference = np.array(thinned(audio)) / 1e4 - np.array(recorded["thinned"]) / 1e4
    assert np.abs(difference).max() < LARGEST
    assert np.sqrt(np.mean(difference**2)) < RMS


@pytest.fixture(scope="module")
def speak() -> Speak:
    tts = chelys.load(device="cpu")
    return lambda voice, preset, text: tts.speak(text, voice=voice, preset=preset, seed=SEED).audio


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads(RECORD.read_text())


@pytest.mark.parametrize(("voice", "preset", "text"), CASES)
def test_the_samples_are_the_same(speak: Speak, record: dict, voice: str, preset: str, text: str) -> None:
    audio, recorded = speak(voice, preset, text), record["spoken"][f"{voice} {preset} {text}"]
    assert audio.dtype == np.float32
    check_near(audio, recorded)
    if record["cpu"] == cpu():
        assert digest(audio) == recorded["sha256"]


def test_a_change_is_noticed(speak: Speak, record: dict) -> None:
    voice, preset, text = CASES[0]
    audio, recorded = speak(voice, preset, text), record["spoken"][f"{voice} {preset} {text}"]
    check_near(audio + 1e-4, recorded)
    for changed in (audio[:-1], np.roll(audio, 1), 1.05 * audio, speak("fern", preset, text)):
        with pytest.raises(AssertionError):
            check_near(changed, recorded)
    assert digest(audio) != digest(np.nextafter(audio, np.float32(2)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    tts = chelys.load(device="cpu")
    spoken = {}
    for voice, preset, text in CASES:
        audio = tts.speak(text, voice=voice, preset=preset, seed=SEED).audio
        spoken[f"{voice} {preset} {text}"] = {
            "samples": len(audio), "sha256": digest(audio), "thinned": thinned(audio)
        }  # fmt: skip
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in spoken.items())
    RECORD.write_text(f'{{\n "cpu": {json.dumps(cpu())},\n "spoken": {{\n{lines}\n }}\n}}\n')
