"""Recordings become clips that hold what was said, whatever their length, rate and number of channels."""

from __future__ import annotations

from pathlib import Path

import made_up
import numpy as np
import pytest
import soundfile as sf
from made_up import pause, speech, stereo, talk

from chelys.data.prepare import segment
from chelys.data.prepare.segment import Segment, SegmentSettings
from chelys.data.prepare.work import Store
from chelys.errors import ConfigError

STAGE = Segment(SegmentSettings(detector="energy"))


def cut(path: Path, out: Path, stage: Segment = STAGE) -> list[dict]:
    return stage.work(stage.item(path.parent, path.name, "0" * 64), Store(out))


@pytest.mark.parametrize(("rate", "channels"), [(24_000, 1), (44_100, 2), (8_000, 1), (16_000, 2)])
def test_clips_are_what_was_said(rate: int, channels: int, tmp_path: Path) -> None:
    said = [speech(1.5, 1, rate), speech(4.0, 2, rate)]
    audio = np.concatenate([pause(1, rate), said[0], pause(1, rate), said[1], pause(1, rate)])
    sf.write(tmp_path / "a.wav", audio if channels == 1 else stereo(audio), rate)
    head, *clips = cut(tmp_path / "a.wav", tmp_path)
    assert head["status"] == "read" and head["reason"] is None and head["seconds"] == pytest.approx(8.5)
    assert [c["reason"] for c in clips] == [None, None]
    kept, kept_rate = sf.read(tmp_path / head["audio"], dtype="float32")
    assert kept_rate == 24_000 and len(kept) == clips[-1]["audio_end"]
    for row, begin, length in zip(clips, (1.0, 3.5), (1.5, 4.0), strict=True):
        assert begin - 0.3 < row["start"] < begin + 0.1 and begin + length - 0.15 < row["end"] < begin + length + 0.3
        if rate == 24_000:
            clip = kept[row["audio_start"] : row["audio_end"]]
            first = round(row["start"] * rate)
            np.testing.assert_allclose(clip, audio[first : first + len(clip)], atol=2e-4)


def test_silence_and_nothing(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.zeros(240_000), 24_000)
    head, *clips = cut(tmp_path / "a.wav", tmp_path)
    assert head["status"] == "read" and head["seconds"] == 10 and clips == []
    sf.write(tmp_path / "b.wav", np.zeros(0), 24_000)
    assert cut(tmp_path / "b.wav", tmp_path) == [
        {"status": "unreadable", "reason": "holds no samples", "seconds": 0.0, "audio": None}
    ]


def test_an_unreadable_recording_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"not a wave" * 100)
    (row,) = cut(tmp_path / "a.wav", tmp_path / "out")
    assert row["status"] == "unreadable" and "not audio" in row["reason"]
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_a_truncated_recording_gives_only_whole_clips(tmp_path: Path) -> None:
    audio = talk([2.0, 2.0, 6.0])
    sf.write(tmp_path / "a.wav", audio, made_up.RATE)
    data = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(data[: round(0.75 * len(data))])  # in the middle of the third
    head, *clips = cut(tmp_path / "a.wav", tmp_path)
    assert head["status"] == "read" and head["reason"].startswith("ends early")
    assert len(clips) == 2


def test_the_same_bytes_whatever_the_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sf.write(tmp_path / "a.wav", talk([2.0, 3.0, 1.0]), made_up.RATE)
    rows = cut(tmp_path / "a.wav", tmp_path / "x")
    assert rows == cut(tmp_path / "a.wav", tmp_path / "y")
    assert (tmp_path / "x" / rows[0]["audio"]).read_bytes() == (tmp_path / "y" / rows[0]["audio"]).read_bytes()


def test_what_is_remembered_of_a_long_recording_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sf.write(tmp_path / "a.flac", np.concatenate([talk([3.0, 19.0, 1.0]), speech(40.0), pause(1)] * 6), made_up.RATE)
    most = 0

    class Watched(segment._SegmentRun):
        def _detect(self, *arguments: np.ndarray, **options: int):  # type: ignore[no-untyped-def]
            nonlocal most
            yield from super()._detect(*arguments, **options)
            most = max(most, len(self._buffer))

    monkeypatch.setattr(segment, "_SegmentRun", Watched)
    _, *clips = cut(tmp_path / "a.flac", tmp_path)
    assert len([c for c in clips if c["reason"] is None]) >= 18
    assert most < 60 * made_up.RATE


def test_an_unknown_detector() -> None:
    with pytest.raises(ConfigError, match="unknown detector 'ears' of speech: choose silero or energy"):
        Segment(SegmentSettings(detector="ears")).check()


def test_silero_goes_on_from_block_to_block() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("silero_vad")
    from chelys.data.prepare.segment import FRAME, make_detector

    audio = speech(4.096, rate=16_000)
    whole, pieces = make_detector("silero"), make_detector("silero")
    expected = whole(audio)
    found = [pieces(audio[i : i + 8 * FRAME]) for i in range(0, len(audio), 8 * FRAME)]
    assert len(expected) == 128 and expected.std() > 0
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)
