"""Mixes: functions of seed and index, with the faults that they are said to have, from the right speakers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import toy_corpus
from mixes import MixConfig, Mixes, Recordings, Speech

from chelys.data.prepare.classifier import FAULTS
from chelys.errors import AudioError, ConfigError, ManifestError

N = 24_000


@pytest.fixture(scope="module")
def speech(toy: toy_corpus.ToyCorpus) -> Speech:
    return Speech([toy.manifest])


@pytest.fixture
def mixes(speech: Speech) -> Mixes:
    return Mixes(speech, MixConfig(coded=0.0), 1)


def test_a_mix_is_a_function_of_seed_and_index(speech: Speech) -> None:
    first, same, other = (Mixes(speech, MixConfig(), seed) for seed in (1, 1, 2))
    first.mix(7, N)  # what was asked before does not matter
    for index in range(12):
        mix, again = first.mix(index, N), same.mix(index, N)
        assert np.array_equal(mix.wave, again.wave) and mix.faults == again.faults
        assert not np.array_equal(mix.wave, other.mix(index, N).wave)
    assert not np.array_equal(first.mix(0, N).wave, first.mix(1, N).wave)


@pytest.mark.parametrize("n", [12_000, 24_001, 60_000])
def test_waves_are_as_long_as_asked_finite_and_not_clipped(speech: Speech, n: int) -> None:
    mixes = Mixes(speech, MixConfig(coded=0.5), 3)
    for index in range(10):
        wave = mixes.mix(index, n).wave
        assert wave.shape == (n,) and wave.dtype == np.float32 and np.isfinite(wave).all()
        assert 0.001 < np.abs(wave).max() <= 1.2  # an MP3 may overshoot


def test_faults_are_drawn_as_the_configuration_says(speech: Speech) -> None:
    def drawn(**changes: float) -> list[frozenset[str]]:
        mixes = Mixes(speech, MixConfig(**changes), 1)
        return [mixes._faults(np.random.default_rng(i)) for i in range(300)]

    usual = drawn()
    assert 0.12 < np.mean([not faults for faults in usual]) < 0.28
    assert 0.1 < np.mean([len(faults) > 1 for faults in usual]) < 0.3
    assert set().union(*usual) == set(FAULTS)
    assert not any(drawn(clean=1.0))
    assert all(len(faults) == 1 for faults in drawn(clean=0.0, second_fault=0.0))
    assert all(len(faults) == 5 for faults in drawn(clean=0.0, second_fault=1.0))


def power(wave: np.ndarray, low: float, high: float) -> float:
    spectrum = np.abs(np.fft.rfft(wave)) ** 2
    frequencies = np.fft.rfftfreq(len(wave), 1 / 24_000)
    return float(spectrum[(frequencies >= low) & (frequencies < high)].sum() / spectrum.sum())


def test_each_fault_is_heard(speech: Speech) -> None:
    config = MixConfig(
        coded=0.0,
        alone=0.0,
        part=0.0,
        babble=0.0,
        noise_db=(0, 0),
        floor_db=(80, 80),
        music_db=(0, 0),
        overlap_db=(0, 0),
    )
    mixes = Mixes(speech, config, 5)

    def quietest(faults: set[str], index: int) -> float:  # loudness of the quietest of 50 ms over the mean, dB
        frames = mixes.mix(index, 2 * N, frozenset(faults)).wave.reshape(-1, 1200)
        level = 10 * np.log10(np.mean(frames**2, 1) + 1e-12)
        return float(np.percentile(level, 5) - 10 * np.log10(np.mean(frames**2)))

    clean = np.mean([quietest(set(), i) for i in range(8)])
    for fault in ("noise", "music", "overlap", "reverberation"):  # all of them fill the pauses
        assert np.mean([quietest({fault}, i) for i in range(8)]) > clean + 6, fault
    narrow = [power(mixes.mix(i, N, frozenset({"telephone"})).wave, 4200, 12_000) for i in range(8)]
    assert max(narrow) < 1e-3


def test_noise_and_music_may_come_alone(speech: Speech) -> None:
    heard = []
    mixes = Mixes(speech, MixConfig(alone=1.0, coded=0.0), 2, music=lambda n, rng: np.ones(n, np.float32))
    mixes.speech = None  # type: ignore[assignment]  # nobody speaks
    for faults in ({"music"}, {"music", "reverberation"}, {"music", "telephone"}):
        heard.append(mixes.mix(1, N, frozenset(faults)).faults)
    assert heard == [{"music"}, {"music"}, {"music", "telephone"}]


def test_recordings_take_the_place_of_what_is_made(speech: Speech, tmp_path: Path) -> None:
    import soundfile as sf

    tone = np.sin(2 * np.pi * 3000 * np.arange(5000) / 24_000).astype(np.float32)
    sf.write(tmp_path / "tone.wav", tone, 24_000)
    source = Recordings([tmp_path / "tone.wav"])
    piece = source(12_000, np.random.default_rng(0))
    assert piece.shape == (12_000,) and power(piece, 2900, 3100) > 0.95
    config = MixConfig(alone=1.0, babble=0.0)
    for fault in ("noise", "music"):
        mix = Mixes(speech, config, 1, **{fault: source}).mix(0, N, frozenset({fault}))  # type: ignore[arg-type]
        assert power(mix.wave, 2900, 3100) > 0.9
    with pytest.raises(AudioError):
        Recordings([tmp_path / "none.wav"])


# ---- speech ---------------------------------------------------------------------------------------------------------


def test_what_is_held_out_is_never_learned_from(toy: toy_corpus.ToyCorpus) -> None:
    def ids(**which: object) -> set[str]:
        return {u.id for clips in Speech([toy.manifest], **which).clips.values() for u in clips}  # type: ignore[arg-type]

    every = {json.loads(line)["id"] for line in toy.manifest.read_text().splitlines()}
    learned, kept = ids(), ids(held_out=True)
    assert learned | kept == every and not learned & kept and len(kept) == 3  # by the hash of the name
    ada = ids(held_out=True, held_out_speakers=["ada"])
    assert Speech([toy.manifest], held_out=True, held_out_speakers=["ada"]).speakers == ["ada"]
    assert ids(held_out_speakers=["ada"]) == every - ada
    few = Speech([toy.manifest], clips_per_speaker=2)
    assert {len(clips) for clips in few.clips.values()} == {2} and len(few.speakers) == 3


def test_windows_are_of_one_speaker_unless_two_take_turns(speech: Speech) -> None:
    rng = np.random.default_rng(0)
    window = speech.window(N, rng, speaker="bob", tempo=1.1)
    assert window.shape == (N,) and np.sqrt(np.mean(window**2)) == pytest.approx(1, abs=1e-3)
    assert {speech.draw(rng, but="bob") for _ in range(20)} == {"ada", "cleo"}


def test_a_manifest_without_usable_speech_is_refused(toy: toy_corpus.ToyCorpus, tmp_path: Path) -> None:
    empty = tmp_path / "manifest.jsonl"
    empty.write_text("")
    with pytest.raises(ManifestError, match="no speech to mix in .*manifest.jsonl"):
        Speech([empty])
    with pytest.raises(ManifestError, match="no speech to mix"):
        Speech([toy.manifest], held_out_speakers=["ada", "bob", "cleo"])


def test_bad_settings() -> None:
    with pytest.raises(ConfigError, match="alone is 1.5; it must lie between 0 and 1"):
        MixConfig(alone=1.5)
    with pytest.raises(ConfigError, match=r"rt60 is \[2.0, 1.0\]; the lower end comes first"):
        MixConfig(rt60=(2.0, 1.0))
