"""Recordings that are fit for a voice pass; each kind that is not is named in plain words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chelys
from chelys.audio.io import resample, silent_ends, trimmed, write
from chelys.data.voice_check import RATE, check_clips, check_files

NOISE = np.random.default_rng(0).standard_normal(12 * RATE).astype(np.float32)


@pytest.fixture(scope="module")
def spoken() -> dict[str, np.ndarray]:
    """Some seconds of nano's speech, of a woman and of a deep man, who is one of its men made lower by a half."""
    tts = chelys.load()
    text = "I am a small tortoise, and I like to sing in the garden when the sun goes down behind it."
    heart, rowan = (tts.speak(text, voice=name, preset="ultra_fast", seed=1).audio for name in ("heart", "rowan"))
    return {"heart": heart[: 6 * RATE], "deep": resample(rowan, 16_000, RATE)[: 6 * RATE]}


def kinds(audio: np.ndarray) -> list[str]:
    (clip,) = check_clips([("a.wav", audio)]).clips
    return [finding.kind for finding in clip.findings]


def test_each_fault_is_found_and_good_speech_passes(spoken: dict[str, np.ndarray]) -> None:
    good, silence = spoken["heart"], np.zeros(RATE, np.float32)
    assert kinds(good) == []
    assert kinds(good[: int(1.2 * RATE)]) == ["length"]
    assert kinds(np.concatenate([silence, good, silence])) == ["silence"]
    assert "noise" in kinds(good + 2 * good.std() * NOISE[: len(good)])
    assert "clipping" in kinds(np.clip(30 * good, -1, 1))
    assert "bandwidth" in kinds(resample(resample(good, RATE, 8_000), 8_000, RATE))
    assert "loudness" in kinds(0.01 * good)
    joined = np.concatenate([good[: 4 * RATE], spoken["deep"][: 4 * RATE]])
    assert kinds(joined) == ["speakers"]


def test_a_stranger_among_the_clips_is_named(spoken: dict[str, np.ndarray]) -> None:
    heart, deep = spoken["heart"], spoken["deep"]
    half = len(heart) // 2
    check = check_clips([("a", heart), ("b", heart[half // 2 :]), ("c", deep)])
    assert [[finding.kind for finding in clip.findings] for clip in check.clips] == [[], [], ["speakers"]]
    assert not check.good and "c: it does not sound like the speaker of the others" in check.lines()[-1]
    assert "do not sound like one speaker" in check_clips([("a", heart), ("c", deep)]).lines()[-1]
    assert json.loads(json.dumps(check.to_json()))["clips"][2]["good"] is False


def test_strange_sounds_are_measured_without_a_fault() -> None:
    for audio in (np.zeros(10, np.float32), np.zeros(RATE, np.float32), NOISE[:RATE], np.ones(5 * RATE, np.float32)):
        assert check_clips([("a", audio)]).lines()
    assert check_clips([]).clips == []


def test_silent_ends_are_cut_but_for_a_tenth_of_a_second(spoken: dict[str, np.ndarray]) -> None:
    good, silence = trimmed(spoken["heart"], RATE), np.zeros(RATE, np.float32)
    lead, tail = silent_ends(np.concatenate([silence, good, silence]), RATE)
    assert abs(lead - 0.9 * RATE) < 0.15 * RATE and abs(tail - 0.9 * RATE) < 0.15 * RATE
    assert silent_ends(silence, RATE) == silent_ends(silence[:5], RATE) == (0, 0)


def test_the_command_and_adding_a_voice_say_it(
    spoken: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from chelys.cli.main import app

    monkeypatch.setenv("CHELYS_VOICES", str(tmp_path / "shelf"))
    write(tmp_path / "good.wav", spoken["heart"], RATE)
    write(tmp_path / "loud.wav", np.clip(30 * spoken["heart"], -1, 1), RATE)

    def run(*arguments: Any) -> Any:
        return CliRunner().invoke(app, ["voices", *map(str, arguments)])

    good = run("check", tmp_path / "good.wav")
    assert good.exit_code == 0 and good.stdout.startswith("good.wav: 4.8 s, good")
    bad = run("check", tmp_path)
    assert bad.exit_code == 1 and "loud.wav: its peaks are cut off: record with less gain" in bad.stdout
    assert json.loads(run("check", tmp_path, "--json").stdout)["good"] is False
    added = run("add", "me", tmp_path / "loud.wav")
    assert added.exit_code == 0 and "chelys: warning: loud.wav: its peaks are cut off" in added.stderr
    gone = run("check", tmp_path / "gone.wav")
    assert gone.exit_code == 2 and "there is no file" in gone.stderr


def test_files_are_read_and_named(spoken: dict[str, np.ndarray], tmp_path: Path) -> None:
    write(tmp_path / "a.flac", spoken["heart"], RATE)
    (clip,) = check_files([tmp_path / "a.flac"]).clips
    assert (clip.name, clip.good) == ("a.flac", True) and clip.measured["snr_db"] is not None
