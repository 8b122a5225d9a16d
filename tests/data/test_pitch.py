"""Pitch of recordings."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_corpus import SPEAKERS, ToyCorpus

from chelys.data import pitch as pitch_module
from chelys.data.dataset import Features
from chelys.data.pitch import PitchCache, track_pitch


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


@pytest.fixture
def features(toy: ToyCorpus, tmp_path: Path) -> Features:
    """The toy corpus's, in a folder of its own."""
    shutil.copytree(toy.features, tmp_path / "features", ignore=shutil.ignore_patterns("pitch*"))
    return Features(tmp_path / "features")


def test_a_clip_is_tracked_once_and_kept(features: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked: list[int] = []
    track = pitch_module.track_pitch
    monkeypatch.setattr(pitch_module, "track_pitch", lambda w: (tracked.append(len(w)), track(w))[1])
    clip, other = features.clips[3], features.clips[4]
    whole = PitchCache(features).of(clip)
    assert whole.shape == (clip.frames,) and (whole > 0).any() and (whole == 0).any() and len(tracked) == 1
    again = PitchCache(Features(features.folder))
    assert torch.equal(again.of(clip), whole) and torch.equal(again.of(clip, 8, 20), whole[8:28]) and len(tracked) == 1
    handed = pickle.loads(pickle.dumps(again))
    assert torch.equal(handed.of(clip), whole) and len(tracked) == 1
    assert handed.of(other).shape == (other.frames,) and len(tracked) == 2
    assert len(list(features.folder.glob("pitch-*.f32"))) == 1


def test_all_clips_ahead_of_training(features: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    path = PitchCache(features).fill(workers=2)
    monkeypatch.setattr(pitch_module, "track_pitch", None)
    cache = PitchCache(features)
    pitches = {name: [] for name in SPEAKERS}
    for clip in features.clips:
        pitches[clip.speaker] += [p for p in cache.of(clip).tolist() if p]
    for name, hertz in SPEAKERS.items():
        assert np.median(pitches[name]) == pytest.approx(hertz, rel=0.03)
    assert path.stat().st_size == 4 * features.clips.frames.sum()


def test_a_folder_that_cannot_be_written_to(features: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    kept = PitchCache(features).of(features.clips[0])
    monkeypatch.setattr(np, "memmap", refused)
    assert torch.equal(PitchCache(features).of(features.clips[0]), kept)


def test_other_clips_have_a_file_of_their_own(features: Features) -> None:
    before = PitchCache(features).path
    features.clips = features.clips[2:]
    assert PitchCache(features).path != before
