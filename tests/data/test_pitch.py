"""Pitch of recordings."""

from __future__ import annotations

import numpy as np
import pytest

from chelys.data.pitch import track_pitch


@pytest.mark.parametrize("hertz", [80.0, 140.0, 310.0])
def test_a_hum_between_silences(hertz: float) -> None:
    time = np.arange(24_000) / 24_000
    hum = sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 12)) * 0.2
    wave = np.concatenate((np.zeros(12_000), hum, np.zeros(12_100))).astype(np.float32)
    pitch = track_pitch(wave)
    assert pitch.dtype == np.float32 and pitch.shape == (len(wave) // 256,)
    frames = 24_000 // 256
    np.testing.assert_allclose(pitch[frames // 2 + 8 : frames * 3 // 2 - 8], hertz, rtol=0.01)
    assert (pitch[: frames // 2 - 8] == 0).all() and (pitch[frames * 3 // 2 + 8 :] == 0).all()


def test_noise_has_next_to_none() -> None:
    wave = 0.1 * np.random.default_rng(0).standard_normal(48_000).astype(np.float32)
    assert (track_pitch(wave) > 0).mean() < 0.2
