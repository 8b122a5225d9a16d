"""Copies are known through codecs, shifts and levels; other clips are not taken for copies."""

from __future__ import annotations

import io
from itertools import combinations
from pathlib import Path

import made_up
import numpy as np
import pytest
import soundfile as sf
from made_up import speech

from chelys.data.prepare.measure import DeduplicateSettings, Repeats, differing, fingerprint
from chelys.data.prepare.metadata import ClipMetadata
from chelys.data.prepare.work import ClipRecord, Store

CLIPS = [speech(1.0 + 0.5 * i, 60 + i) for i in range(6)]


def through(audio: np.ndarray, kind: str) -> np.ndarray:
    file = io.BytesIO()
    sf.write(file, audio, made_up.RATE, format=kind)
    return sf.read(io.BytesIO(file.getvalue()), dtype="float32")[0]


def as_record(audio: np.ndarray, name: str, out: Path, text: str = "", speaker: str | None = None) -> ClipRecord:
    sf.write(out / f"{name}.flac", audio, made_up.RATE)
    clip = ClipMetadata(name, "a.wav", 0, 1, 1, audio=f"{name}.flac", text=text, speaker=speaker)
    row = {"fingerprint": fingerprint(audio, made_up.RATE).tobytes().hex()}
    return ClipRecord(clip, (0, len(audio)), {"deduplicate": row})


@pytest.mark.parametrize("change", ["mp3", "quieter", "later", "shorter"])
def test_copies_are_found(change: str, tmp_path: Path) -> None:
    repeats = Repeats(DeduplicateSettings(), Store(tmp_path))
    for i, audio in enumerate(CLIPS):
        assert repeats.of(as_record(audio, f"clip{i}", tmp_path)) is None
    for i, audio in enumerate(CLIPS):
        copy = {
            "mp3": lambda a: through(a, "MP3"),
            "quieter": lambda a: 0.2 * a,
            "later": lambda a: np.concatenate([np.zeros(777, np.float32), a]),
            "shorter": lambda a: a[1500:-700],
        }[change](audio)
        assert repeats.of(as_record(copy, f"copy{i}", tmp_path)) == (f"clip{i}", "same audio")


def test_other_clips_differ() -> None:
    prints = [fingerprint(audio[:24_000], made_up.RATE) for audio in CLIPS]
    assert min(differing(a, b) for a, b in combinations(prints, 2)) > 0.3
    assert differing(prints[0], prints[0]) == 0


def test_the_same_words_are_kept_once_for_each_speaker(tmp_path: Path) -> None:
    repeats = Repeats(DeduplicateSettings(), Store(tmp_path))
    said = [("Thank you.", "Ann"), ("thank you", "Ann"), ("Thank you!", "Bob"), ("", "Ann"), ("", "Ann")]
    found = [repeats.of(as_record(CLIPS[i], f"c{i}", tmp_path, *words)) for i, words in enumerate(said)]
    assert found == [None, ("c0", "same text"), None, None, None]


def test_the_same_words_may_be_kept_as_often_as_one_likes(tmp_path: Path) -> None:
    repeats = Repeats(DeduplicateSettings(same_text=None), Store(tmp_path))
    assert [repeats.of(as_record(CLIPS[i], f"c{i}", tmp_path, "Yes.", "Ann")) for i in range(3)] == [None] * 3
