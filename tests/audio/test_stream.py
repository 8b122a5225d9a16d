"""Recordings are read in pieces, whatever they are, and what is wrong with them is said."""

from __future__ import annotations

from pathlib import Path

import made_up
import numpy as np
import pytest
import soundfile as sf
from made_up import stereo

from chelys.audio.io import Resampler, decode
from chelys.audio.stream import open_audio
from chelys.errors import AudioError

AUDIO = made_up.speech(8.0)


def read(path: Path) -> tuple[np.ndarray, int, str | None]:
    with open_audio(path) as stream:
        blocks = list(stream.blocks())
        return np.concatenate(blocks) if blocks else np.zeros(0), stream.sample_rate, stream.damage


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"])
def test_in_pieces_as_at_once(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    sf.write(path, stereo(AUDIO)[: 44_100 * 3], 44_100)
    whole, rate = sf.read(path, dtype="float32", always_2d=True)
    audio, read_rate, damage = read(path)
    assert (read_rate, damage) == (rate, None)
    np.testing.assert_array_equal(audio, decode(path)[0])
    # FFmpeg decodes MP3, libmpg123 rounds a little differently
    np.testing.assert_allclose(audio, whole.mean(1), rtol=0, atol=1e-6 if name == "a.mp3" else 0)


def cut_off(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: round(share * len(data))])


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_truncated_recording_is_read_as_far_as_it_goes(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    sf.write(path, AUDIO, made_up.RATE)
    cut_off(path, 0.5)
    audio, _, damage = read(path)
    assert damage and ("ends early" in damage or "damaged after" in damage)
    assert 0 < len(audio) < 0.6 * len(AUDIO)


def test_numbers_that_are_none_end_a_recording(tmp_path: Path) -> None:
    broken = AUDIO.copy()
    broken[150_000] = np.nan
    sf.write(tmp_path / "a.wav", broken, made_up.RATE, subtype="FLOAT")
    audio, _, damage = read(tmp_path / "a.wav")
    assert damage and damage.startswith("holds samples that are not finite numbers")
    assert np.isfinite(audio).all() and len(audio)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.ogg"])
def test_what_is_no_audio(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(bytes(np.random.default_rng(0).integers(1, 255, 5000, dtype=np.uint8)))
    try:
        audio, _, _ = read(tmp_path / name)
    except AudioError as error:
        assert "not audio" in str(error)
    else:  # an MP3 has no head, so that something is found in any noise
        assert name == "a.mp3" and len(audio) < 24_000


def test_a_rate_beyond_all_reason(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", AUDIO[:1000], 10)
    with pytest.raises(AudioError, match="claims a sample rate of 10 Hz"):
        read(tmp_path / "a.wav")


def test_resampling_in_pieces_is_resampling() -> None:
    import soxr

    whole = soxr.resample(AUDIO, made_up.RATE, 16_000)
    resampler = Resampler(made_up.RATE, 16_000)
    pieces = [resampler(AUDIO[i : i + 7000]) for i in range(0, len(AUDIO), 7000)]
    joined = np.concatenate([*pieces, resampler(AUDIO[:0], last=True)])
    assert abs(len(joined) - len(whole)) <= 1
    np.testing.assert_allclose(joined[: len(whole)], whole[: len(joined)], atol=1e-4)


# ---- what needs PyAV ------------------------------------------------------------------------------------------------


def write_av(path: Path, codec: str, audio: np.ndarray, *, video: bool = False, rate: int = 16_000) -> None:
    av = pytest.importorskip("av")
    kind = {".m4a": "mp4", ".mkv": "matroska", ".mp4": "mp4", ".g722": "g722"}[path.suffix]
    with av.open(str(path), "w", format=kind) as container:
        if video:
            pictures = container.add_stream("mpeg4", rate=5)
            pictures.width = pictures.height = 32
            pictures.pix_fmt = "yuv420p"
        if len(audio):
            sound = container.add_stream(codec, rate=rate, layout="mono")
        if video:
            for _ in range(10):
                picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                container.mux(pictures.encode(picture))
            container.mux(pictures.encode(None))
        if len(audio):
            for first in range(0, len(audio), 1024):
                pcm = np.round(np.clip(audio[first : first + 1024], -1, 1) * 32767).astype(np.int16)[None]
                frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
                frame.sample_rate, frame.pts = rate, first
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of the levels of two recordings."""
    count = min(len(one), len(other)) // 160
    levels = [np.square(x[: count * 160].reshape(count, 160)).mean(1) for x in (one, other)]
    return float(np.corrcoef(*levels)[0, 1])


@pytest.mark.parametrize(
    ("name", "codec", "video"),
    [("a.m4a", "aac", False), ("a.mkv", "aac", True), ("a.mp4", "aac", True), ("a.g722", "g722", False)],
)
def test_other_kinds(name: str, codec: str, video: bool, tmp_path: Path) -> None:
    audio = made_up.speech(3.0, rate=16_000)
    write_av(tmp_path / name, codec, audio, video=video)
    heard, rate, damage = read(tmp_path / name)
    assert rate == 16_000 and damage is None
    assert len(heard) == pytest.approx(len(audio), abs=4096) and alike(audio, heard) > 0.95


def test_a_video_by_another_name_is_known_by_its_head(tmp_path: Path) -> None:
    write_av(tmp_path / "a.mp4", "aac", made_up.speech(2.0, rate=16_000), video=True)
    (tmp_path / "a.mp4").rename(tmp_path / "a.mp3")
    assert len(read(tmp_path / "a.mp3")[0]) > 30_000


def test_a_video_without_sound(tmp_path: Path) -> None:
    write_av(tmp_path / "a.mp4", "aac", np.zeros(0), video=True)
    with pytest.raises(AudioError, match="holds no sound"):
        read(tmp_path / "a.mp4")


@pytest.mark.parametrize("share", [0.3, 0.97])
def test_a_truncated_video(share: float, tmp_path: Path) -> None:
    write_av(tmp_path / "a.mkv", "aac", made_up.speech(4.0, rate=16_000), video=True)
    cut_off(tmp_path / "a.mkv", share)
    audio, _, _ = read(tmp_path / "a.mkv")
    assert len(audio) < 4 * 16_000


@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:1,\nsecret.wav\n", "ffconcat version 1.0\nfile secret.wav\n"])
@pytest.mark.parametrize("name", ["a.m4a", "a.aac", "a.wav", "a.mkv"])
def test_playlists_open_nothing(text: str, name: str, tmp_path: Path) -> None:
    pytest.importorskip("av")
    sf.write(tmp_path / "secret.wav", AUDIO, made_up.RATE)
    (tmp_path / name).write_text(text)
    try:
        audio, _, _ = read(tmp_path / name)
    except AudioError:
        return
    assert not len(audio)
