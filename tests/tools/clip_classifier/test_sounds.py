"""Noises, music, rooms and telephones: right in level, spectrum and decay, and functions of their generator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import sounds

RATE = 24_000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def share_between(wave: np.ndarray, low: float, high: float) -> float:
    """Share of the energy between two frequencies (Hz)."""
    power = np.abs(np.fft.rfft(wave)) ** 2
    frequencies = np.fft.rfftfreq(len(wave), 1 / RATE)
    return float(power[(frequencies >= low) & (frequencies < high)].sum() / power.sum())


@pytest.mark.parametrize("make", [sounds.noise, sounds.music])
@pytest.mark.parametrize("n", [12_000, 36_001])
def test_sources_have_unit_level_and_are_their_seeds(make: Callable[..., np.ndarray], n: int) -> None:
    waves = [make(n, rng(seed)) for seed in range(12)]  # enough seeds for every kind to come
    for wave in waves:
        assert wave.shape == (n,) and wave.dtype == np.float32 and np.isfinite(wave).all()
        assert np.sqrt(np.mean(wave**2)) == pytest.approx(1.0, abs=1e-3)
    assert np.array_equal(waves[3], make(n, rng(3)))
    assert not np.array_equal(waves[3], waves[4])


def test_noises_differ_in_colour_and_music_has_pitch() -> None:
    low = [share_between(sounds.noise(24_000, rng(seed)), 0, 500) for seed in range(20)]
    assert min(low) < 0.2 and max(low) > 0.8

    def peaks(wave: np.ndarray) -> float:  # how much the loudest hundredth of the spectrum holds
        power = np.sort(np.abs(np.fft.rfft(wave)) ** 2)
        return float(power[-len(power) // 100 :].sum() / power.sum())

    assert np.median([peaks(sounds.music(48_000, rng(seed))) for seed in range(12)]) > 0.4
    assert peaks(rng().standard_normal(48_000)) < 0.1


def test_shape_filters_and_leaves_the_rest_alone() -> None:
    wave = rng().standard_normal(10_000, dtype=np.float32)
    np.testing.assert_allclose(sounds.shape(wave, np.ones_like), wave, atol=1e-5)
    low = sounds.shape(wave, lambda f: (f < 1000).astype(float))
    assert share_between(low, 0, 1100) > 0.98 and share_between(wave, 0, 1100) < 0.2


@pytest.mark.parametrize("rt60", [0.3, 1.0])
def test_a_room_decays_as_it_is_told(rt60: float) -> None:
    response = sounds.room(rt60, 0.0, rng(5))
    assert response[0] == 1.0
    assert np.sum(response[1:] ** 2) == pytest.approx(1.0, rel=1e-3)  # as loud as the direct sound: 0 dB
    late = response[int(0.1 * RATE) :].astype(np.float64)
    left = 10 * np.log10(np.cumsum(late[::-1] ** 2)[::-1])  # Schroeder's backward integral, dB
    fall = np.searchsorted(-left, -left[0] + 15) / RATE  # seconds for 15 dB
    assert 0.4 * rt60 < 4 * fall < 1.2 * rt60  # its treble dies faster


def test_rooms_add_a_tail_and_no_length() -> None:
    wave = np.zeros(RATE, np.float32)
    wave[:2400] = rng().standard_normal(2400)
    wet = sounds.reverberate(wave, sounds.room(0.8, -3.0, rng(2)))
    assert wet.shape == wave.shape
    assert np.mean(wet[4800:9600] ** 2) > 1e-3 * np.mean(wet[:2400] ** 2)
    dry = sounds.reverberate(wave, np.eye(1, 50, dtype=np.float32)[0])
    np.testing.assert_allclose(dry, wave, atol=1e-5)


@pytest.mark.parametrize("n", [24_000, 24_001, 24_005])
def test_telephones_are_narrow_and_coarse(n: int) -> None:
    wave = rng().standard_normal(n, dtype=np.float32)
    for seed in range(4):
        heard = sounds.telephone(wave, rng(seed))
        assert heard.shape == (n,) and heard.dtype == np.float32
        assert share_between(heard, 100, 4000) > 0.98
        assert share_between(heard, 0, 100) < 0.01
    assert share_between(wave, 4000, 12_000) > 0.6


def test_telephones_lose_packets_now_and_then() -> None:
    wave = np.sin(2 * np.pi * 1000 * np.arange(4 * RATE) / RATE).astype(np.float32)
    quiet = []
    for seed in range(20):
        frames = sounds.telephone(wave, rng(seed))[: 4 * RATE].reshape(-1, 120)  # 5 ms
        quiet.append(int((np.abs(frames).max(1) < 0.1).sum()))
    assert sum(count == 0 for count in quiet) >= 8 and sum(count >= 4 for count in quiet) >= 2


def test_recorders_colour_without_spoiling() -> None:
    wave = rng().standard_normal(RATE, dtype=np.float32)
    heard = [sounds.record(wave, rng(seed)) for seed in range(20)]
    assert all(share_between(one, 0, 6500) > 0.3 and np.isfinite(one).all() for one in heard)
    narrow = [share_between(one, 11_900, 12_001) < 1e-4 for one in heard]
    assert 3 <= sum(narrow) <= 17  # some recorders have an upper edge
    assert not np.array_equal(heard[0], heard[1])


def test_units() -> None:
    assert sounds.decibels(20) == pytest.approx(10.0) and sounds.decibels(0) == 1.0
    assert not sounds.unit(np.zeros(5, np.float32)).any()
