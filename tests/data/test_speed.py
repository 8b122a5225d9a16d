"""New speakers by speed: pitch moves with it, clips are shorter or longer, each new speaker has clips of its own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from toy_corpus import RATE, SPEAKERS, ToyCorpus
from typer.testing import CliRunner

from chelys.cli.main import app
from chelys.data.manifest import Utterance, read_manifest, write_manifest
from chelys.data.speed import perturb_speed
from chelys.errors import ConfigError


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def test_pitch_and_length_follow_the_factor(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", tone(300), RATE)
    write_manifest(tmp_path / "m.jsonl", [Utterance("a", "a.wav", "Hum.", "ada", 1.0)])
    made = perturb_speed(tmp_path / "m.jsonl", tmp_path / "out", factors=[1.25], workers=1)
    (clip,) = read_manifest(made.manifest)
    audio, rate = sf.read(clip.audio)
    assert (clip.id, clip.speaker, clip.text, clip.seconds) == ("a@1.25", "ada@1.25", "Hum.", 0.8)
    assert rate == RATE and len(audio) == pytest.approx(0.8 * RATE, abs=2)
    assert np.argmax(np.abs(np.fft.rfft(audio))) * rate / len(audio) == pytest.approx(375, abs=2)


def test_a_speaker_becomes_as_many_as_have_clips_enough(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", tone(200), RATE)
    few = [Utterance(f"f{i}", "a.wav", "Hum.", "few", 0.6, start=0.01 * i, end=0.6 + 0.01 * i) for i in range(8)]
    many = [Utterance(f"m{i}", "a.wav", "Hum.", "many", 0.6, start=0.001 * i, end=0.6 + 0.001 * i) for i in range(60)]
    write_manifest(tmp_path / "m.jsonl", few + many)
    made = perturb_speed(tmp_path / "m.jsonl", tmp_path / "out", workers=1)
    clips = Counter(clip.speaker for clip in read_manifest(made.manifest))
    assert sorted(clips.values()) == [8, 30, 30] and made.speakers == 3 and made.clips == 68
    assert len(list((tmp_path / "out" / "audio").iterdir())) == 68


def test_the_command_says_what_it_made_and_keeps_what_is_there(toy: ToyCorpus, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = ["data", "speed", str(toy.manifest), "--out", str(out), "--factors", "0.9,1.1", "--workers", "1"]
    said = CliRunner().invoke(app, line)
    assert said.exit_code == 0 and f"18 clips of {len(SPEAKERS)} new speakers" in said.output
    times = {path: path.stat().st_mtime_ns for path in (out / "audio").iterdir()}
    CliRunner().invoke(app, line)
    assert {path: path.stat().st_mtime_ns for path in (out / "audio").iterdir()} == times


@pytest.mark.parametrize("factors", [[], [1.0], [0.1], [0.9, 3.0]])
def test_factors_that_are_none(tmp_path: Path, factors: list[float]) -> None:
    with pytest.raises(ConfigError, match="must be 0.5 to 2"):
        perturb_speed(tmp_path / "m.jsonl", tmp_path / "out", factors=factors)
