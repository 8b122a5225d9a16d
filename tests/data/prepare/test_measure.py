"""Measurements tell good sound from bad, and rules say why a clip goes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import made_up
import numpy as np
import pytest
import soundfile as sf
from made_up import pause, speech

from chelys.data.prepare import acoustics
from chelys.data.prepare.classifier import CLASSES, ClipClassifier
from chelys.data.prepare.engine import Local
from chelys.data.prepare.measure import (
    Bounds,
    MeasureSettings,
    SimilarSettings,
    apply_rules,
    classifier_digest,
    find_similar,
    read_rules,
)
from chelys.data.prepare.metadata import ClipMetadata, read_clips
from chelys.data.prepare.pipeline import PrepareSettings, prepare
from chelys.data.prepare.work import ClipRecord

RATE = made_up.RATE
CLEAN = np.concatenate([pause(0.3), speech(1.4, 3), pause(0.3), speech(1.1, 4), pause(0.3)])


def value(audio: np.ndarray, name: str) -> float:
    found = acoustics.measure(audio.astype(np.float32), RATE)[name]
    assert found is not None
    return found


def noise(level: float) -> np.ndarray:
    return level * np.random.default_rng(5).standard_normal(len(CLEAN))


def test_levels() -> None:
    t = np.arange(RATE) / RATE
    sine = 0.5 * np.sin(2 * np.pi * 440 * t)
    assert value(sine, "loudness_db") == pytest.approx(-9.03, abs=0.02)
    assert value(sine, "peak") == pytest.approx(0.5, abs=1e-3)
    assert value(CLEAN * 0.1, "loudness_db") == pytest.approx(value(CLEAN, "loudness_db") - 20, abs=0.01)


@pytest.mark.parametrize("gain", [1.0, 0.1])
def test_clipping_is_seen_even_if_turned_down_later(gain: float) -> None:
    assert value(CLEAN * gain, "clipping") < 0.001
    assert value(np.clip(CLEAN * 8, -1, 1) * gain, "clipping") > 0.005


@pytest.mark.parametrize("edge", [3_400, 6_000])
def test_bandwidth(edge: int) -> None:
    import soxr

    wide = CLEAN + noise(0.01)
    assert value(wide, "bandwidth_hz") > 10_000
    narrow = soxr.resample(soxr.resample(wide, RATE, 2 * edge, "VHQ"), 2 * edge, RATE, "VHQ")
    assert value(narrow, "bandwidth_hz") == pytest.approx(edge, rel=0.06)


def test_noise() -> None:
    levels = [value(CLEAN + noise(level), "snr_db") for level in (0.0005, 0.005, 0.05)]
    assert levels[0] > 30 > levels[1] > 12 > levels[2]


def test_reverberation() -> None:
    rng = np.random.default_rng(2)

    def room(seconds: float) -> np.ndarray:
        t = np.arange(round(1.2 * seconds * RATE)) / RATE
        return np.convolve(CLEAN, rng.standard_normal(len(t)) * 10 ** (-3 * t / seconds) * 0.05)[: len(CLEAN)]

    small, large = value(room(0.3), "reverberation_s"), value(room(1.5), "reverberation_s")
    assert small < 0.6 < 0.85 < large


def test_music_has_no_gaps() -> None:
    t = np.arange(5 * RATE) / RATE
    chords = sum(np.sin(2 * np.pi * f * t) for f in (220, 277, 330)) * (1 + 0.2 * np.sin(2 * np.pi * 2 * t))
    assert value(0.1 * chords, "music") > 0.8 and value(CLEAN, "music") < 0.2


@pytest.mark.parametrize("audio", [np.zeros(9_000), np.zeros(10), np.ones(500), 1e-7 * np.ones(20_000)])
def test_what_is_hardly_sound_breaks_nothing(audio: np.ndarray) -> None:
    found = acoustics.measure(audio.astype(np.float32), RATE)
    assert all(v is None or np.isfinite(v) for v in found.values())
    assert np.isfinite(acoustics.speaker_embedding(audio.astype(np.float32), RATE)).all()


def test_own_rules_keep_the_good_and_name_the_fault() -> None:
    rules = read_rules()
    clip = ClipMetadata("a", "a.wav", 0, 3, 3, measured={"snr_db": 40.0, "music": 0.0, "clipping": 0.0001})
    assert apply_rules(clip, rules) == []
    clip.measured |= {"snr_db": 3.0, "music": 0.95, "overlap": None}
    assert apply_rules(clip, rules) == ["snr_db below 18", "music above 0.9"]
    clip.measured, clip.text, clip.confidence = {}, "?!", 0.9
    assert apply_rules(clip, rules) == ["no words", "characters_per_second below 2"]


def test_every_own_rule_is_of_something_that_is_measured() -> None:
    measured = {*acoustics.measure(np.zeros(100, np.float32), RATE), "overlap", "no_speech", "seconds", "confidence"}
    assert set(read_rules()) <= {*measured, "characters_per_second", *CLASSES}


def test_a_limit_may_be_one_sided() -> None:
    clip = ClipMetadata("a", "a", 0, 2, 2)
    assert apply_rules(clip, {"seconds": Bounds(min=3)}) == ["seconds below 3"]
    assert apply_rules(clip, {"seconds": Bounds(max=1.5)}) == ["seconds above 1.5"]
    assert apply_rules(clip, {"seconds": Bounds(2, 2)}) == []


def test_a_classifier_takes_the_place_of_the_rough_measures(
    raw: Path, tmp_path: Path, settings: Callable[..., PrepareSettings]
) -> None:
    prepare(raw, tmp_path / "out", settings(measure={"classifier": "made_up:classifier"}), engine=Local(0))
    for clip in read_clips(tmp_path / "out"):
        assert clip.measured["overlap"] == 0.97 and clip.measured["noise"] == 0.25
        assert clip.reasons == ["overlap above 0.95"]


def test_chelys_own_classifier_listens_unless_another_is_named(
    raw: Path, tmp_path: Path, settings: Callable[..., PrepareSettings]
) -> None:
    own = MeasureSettings().classifier
    assert own is not None and PrepareSettings().measure == MeasureSettings()
    out = tmp_path / "out"
    prepare(raw, out, settings(measure={"classifier": own}), only=("segment", "measure"), engine=Local(0))
    classifier, clips = ClipClassifier.load(), list(read_clips(out))
    for clip in clips[::3]:
        first, last = (round(seconds * RATE) for seconds in (clip.audio_start, clip.audio_end))
        audio, rate = sf.read(out / (clip.audio or ""), start=first, stop=last, dtype="float32")
        heard = classifier(audio, rate)
        assert {name: clip.measured[name] for name in CLASSES} == pytest.approx(heard, abs=1e-3)
    rough = acoustics.measure(audio, rate)["music"]
    assert clips[-1].measured["music"] != rough, "the classifier's word counts"


def test_other_weights_in_the_same_place_are_other_work(tmp_path: Path) -> None:
    shipped = Path(str(resources.files("chelys") / "assets" / "classifier"))
    folder = tmp_path / "mine"
    shutil.copytree(shipped, folder)
    named = MeasureSettings(model=str(folder))
    assert classifier_digest(named) == classifier_digest(MeasureSettings()) != ""
    weights = folder / "classifier.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert classifier_digest(named) not in ("", classifier_digest(MeasureSettings()))
    assert (
        classifier_digest(MeasureSettings(classifier=None))
        == ""
        == classifier_digest(MeasureSettings("made_up:classifier"))
    )


def draft(name: str, vector: list[float], speaker: str | None = "s", source: str = "a") -> ClipRecord:
    return ClipRecord(ClipMetadata(name, source, 0, 1, 1, speaker=speaker), rows={"measure": {"embedding": vector}})


def test_similar_are_the_nearest_of_the_same_speaker() -> None:
    drafts = [draft("a", [1, 0]), draft("b", [0.9, 0.1]), draft("c", [0, 1]), draft("d", [1, 0], "other")]
    assert find_similar(drafts, SimilarSettings(count=1)) == {"a": ["b"], "b": ["a"], "c": ["b"], "d": []}
    assert find_similar(drafts, SimilarSettings(count=5))["a"] == ["b", "c"]


def test_where_nobody_said_who_speaks_it_is_of_the_same_recording() -> None:
    drafts = [draft("a", [1, 0], None), draft("b", [1, 0], None, "b"), draft("c", [0, 1], None)]
    assert find_similar(drafts, SimilarSettings()) == {"a": ["c"], "b": [], "c": ["a"]}


def test_voices_that_are_alike_have_like_vectors() -> None:
    low, high = (
        np.float32(0.1) * np.sin(2 * np.pi * f * np.arange(RATE) / RATE).astype(np.float32) for f in (200, 2000)
    )
    embeddings = [acoustics.speaker_embedding(x, RATE) for x in (low, 0.5 * low, high)]
    assert embeddings[0] @ embeddings[1] > 0.95 > embeddings[0] @ embeddings[2]
