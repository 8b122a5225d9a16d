"""The comment in sound files: what went in is read, by libsndfile and by FFmpeg's libraries, and the sound stays."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from chelys.audio.io import WAV_HEAD, WavStream, read, to_bytes, write
from chelys.audio.tags import read_tags
from chelys.errors import AudioError, MissingExtra

RATE = 24_000
SOUND = (0.3 * np.sin(np.arange(RATE // 2) / 7)).astype(np.float32)
COMMENT = '{"chelys": "\\u00e9", "long": "' + "x" * 12_001 + '"}'


@pytest.mark.parametrize("ffmpeg", [True, False])
@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "opus", "mp3"])
def test_a_comment_is_read_back(format: str, ffmpeg: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, plain = tmp_path / f"a.{format}", tmp_path / f"b.{format}"
    write(path, SOUND, RATE, comment=COMMENT)
    write(plain, SOUND, RATE)
    np.testing.assert_array_equal(read(path, RATE), read(plain, RATE))
    if not ffmpeg:
        monkeypatch.setitem(sys.modules, "av", None)
    assert read_tags(path)["comment"] == COMMENT and "comment" not in read_tags(plain)


def test_a_stream_gets_its_comment_at_its_end(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.wav", tmp_path / "b.wav"
    write(whole, SOUND, RATE, comment=COMMENT)
    with WavStream(path, RATE) as stream:
        stream.write(SOUND)
    for _ in range(2):  # of a run that was stopped before it could say that it had ended, too
        with WavStream(path, RATE, keep=len(SOUND)) as stream:
            stream.finish(COMMENT)
        assert path.read_bytes() == whole.read_bytes() and sf.info(path).frames == len(SOUND)
    assert path.read_bytes()[WAV_HEAD : WAV_HEAD + 2 * len(SOUND)] == to_bytes(SOUND, RATE, "pcm")


@pytest.mark.parametrize("ffmpeg", [True, False])
def test_what_is_no_sound_is_said_in_a_line(ffmpeg: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not ffmpeg:
        monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.flac").write_bytes(b"no sound" * 99)
    (tmp_path / "a.m4b").write_bytes(b"\0\0\0\x20ftypM4B " * 99)
    with pytest.raises(AudioError, match="is no sound file"):
        read_tags(tmp_path / "a.flac")
    with pytest.raises(AudioError if ffmpeg else MissingExtra):
        read_tags(tmp_path / "a.m4b")
    head = to_bytes(SOUND, RATE, "wav")[:36]
    for rest in (b"LIST\xff\xff\xff\xff", b"LIST\x20\0\0\0INFOICMT\xff\xff\xff\xff", b"", b"x"):
        (tmp_path / "a.wav").write_bytes(head + rest)
        if not ffmpeg:
            assert read_tags(tmp_path / "a.wav") == {}
