"""Every kind of recording in, every format out, and one line for each thing that can be wrong with a file."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import time
import wave
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import soundfile as sf
import torch

import chelys
from chelys.audio import io as audio_io
from chelys.audio.io import growing_sound_file
from chelys.audio.resample import sinc_resample
from chelys.audio.stream import open_audio
from chelys.errors import AudioError, OutputError, VoiceError
from chelys.tortoise.mel import read_published

RATE = 24_000
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(chelys.__file__).parents[1])}  # of a Python that chelys is not in


def tone(seconds: float = 1.0, rate: int = RATE, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    message = str(error.value)
    assert message and "\n" not in message
    return message


# ---------------------------------------------------------------- read


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 1e-2),
        ("wav", "PCM_16", 1e-4),
        ("wav", "PCM_24", 1e-6),
        ("wav", "PCM_32", 1e-6),
        ("wav", "FLOAT", 1e-6),
        ("wav", "DOUBLE", 1e-6),
        ("wav", "ULAW", 3e-2),
        ("flac", "PCM_16", 1e-4),
        ("aiff", "PCM_16", 1e-4),
        ("ogg", "VORBIS", 3e-2),
        ("ogg", "OPUS", 0.1),
        ("mp3", "MPEG_LAYER_III", 3e-2),
    ],
)
def test_read_returns_the_samples_of_any_format(tmp_path: Path, suffix: str, subtype: str, tolerance: float) -> None:
    path = tmp_path / f"tone.{suffix}"
    sf.write(path, tone(), RATE, subtype=subtype)
    audio = audio_io.read(path, RATE)
    assert audio.dtype == np.float32 and audio.shape == (RATE,)
    inner = slice(2000, -2000)  # lossy coders ring at the edges
    np.testing.assert_allclose(audio[inner], tone()[inner], atol=tolerance)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_a_recording_of_several_blocks_is_read_without_seams(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"long.{suffix}"
    audio_io.write(path, tone(6.0), RATE)  # more than two blocks of 65,536 samples
    audio = audio_io.read(path, RATE)
    assert audio.shape == (6 * RATE,)
    np.testing.assert_allclose(audio[2000:-2000], tone(6.0)[2000:-2000], atol=3e-2)


def test_read_averages_the_channels(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    sf.write(path, np.stack([tone(), -0.5 * tone()], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(audio_io.read(path, RATE), 0.25 * tone(), atol=1e-6)


@pytest.mark.parametrize("source_rate", [8_000, 22_050, 44_100, 48_000])
def test_read_resamples_and_keeps_pitch_and_level(tmp_path: Path, source_rate: int) -> None:
    path = tmp_path / "tone.wav"
    sf.write(path, tone(rate=source_rate), source_rate, subtype="FLOAT")
    audio = audio_io.read(path, RATE)
    assert len(audio) == RATE
    np.testing.assert_allclose(audio[2000:-2000], tone()[2000:-2000], atol=1e-3)


def test_resampling_down_does_not_alias(tmp_path: Path) -> None:
    path = tmp_path / "high.wav"
    sf.write(path, tone(rate=48_000, hertz=15_000.0), 48_000, subtype="FLOAT")
    assert np.abs(audio_io.read(path, RATE)[2000:-2000]).max() < 1e-3


def test_read_takes_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    try:
        Path(name).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    Path(name).write_bytes(audio_io.to_bytes(tone(), RATE, "wav"))
    assert len(audio_io.read(name, RATE)) == RATE


def test_a_file_whose_header_claims_too_much_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "piped.wav"
    header_of_a_pipe = audio_io.to_bytes(tone(), RATE, "wav")[:44]
    header_of_a_pipe = header_of_a_pipe[:40] + b"\xff\xff\xff\xff"
    path.write_bytes(header_of_a_pipe + audio_io.to_pcm(tone()).tobytes())
    assert len(audio_io.read(path, RATE)) == RATE


def damaged_flac() -> bytes:
    data = bytearray(audio_io.to_bytes(tone(2.0) + 0.01 * noise(2.0), RATE, "flac"))
    middle = slice(len(data) // 3, 2 * len(data) // 3)
    data[middle] = np.random.default_rng(0).bytes(len(data[middle]))
    return bytes(data)


def damaged_mp3() -> bytes:
    data = bytearray(audio_io.to_bytes(tone(2.0), RATE, "mp3"))
    middle = slice(len(data) // 3, 2 * len(data) // 3)
    data[middle] = np.random.default_rng(0).bytes(len(data[middle]))
    return bytes(data)


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(round(seconds * RATE)).astype(np.float32)


def float_wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.wav", b"", "0 bytes"),
        ("notes.txt", b"These are no sounds.\n" * 100, "not audio"),
        ("text.wav", b"These are no sounds.\n" * 100, "not audio"),
        ("text.mp3", b"These are no sounds.\n" * 100, "not audio"),
        ("headerless.raw", b"\x01\x02" * 5000, "not audio"),
        ("cut.flac", audio_io.to_bytes(tone(), RATE, "flac")[:500], "damaged"),
        ("cut.ogg", audio_io.to_bytes(tone(), RATE, "ogg")[:500], "damaged"),
        ("middle.flac", damaged_flac(), "damaged"),
        ("middle.mp3", damaged_mp3(), "damaged"),
        ("head-only.wav", audio_io.to_bytes(tone(0.0), RATE, "wav"), "no samples"),
        ("head-only-48k.wav", float_wav(tone(0.0), 48_000), "no samples"),
        ("nan.wav", float_wav(np.append(tone(), np.float32("nan"))), "not finite"),
        ("inf.wav", float_wav(np.append(tone(), np.float32("inf"))), "not finite"),
        ("huge.wav", float_wav(np.append(tone(), np.float32(2.8e38))), "beyond 1e+10 times full scale"),
        ("one-hertz.wav", float_wav(tone(0.01), 1), "sample rate of 1 Hz"),
    ],
    ids=lambda value: value if isinstance(value, str) else "bytes",  # a WAV of floats holds the time
)
def test_a_bad_file_is_answered_with_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(AudioError) as error:
        audio_io.read(path, RATE)
    message = one_line(error)
    assert said in message and str(path) in message
    assert capfd.readouterr().err == ""  # libmpg123 writes to the descriptor itself


def test_missing_file_folder_and_pipe_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(AudioError) as error:
        audio_io.read(tmp_path / "gone.wav", RATE)
    assert "there is no file" in one_line(error)
    with pytest.raises(AudioError) as error:
        audio_io.read(tmp_path, RATE)
    assert "is a folder" in one_line(error)
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError) as error:  # and does not wait for a writer
        audio_io.read(tmp_path / "pipe.wav", RATE)
    assert "not a regular file" in one_line(error)
    with pytest.raises(AudioError) as error:
        audio_io.read(tmp_path / ("x" * 300 + ".wav"), RATE)
    assert "cannot read" in one_line(error)
    with pytest.raises(AudioError) as error:
        audio_io.read("a\0b.wav", RATE)
    assert "cannot read" in one_line(error)


def test_reading_mp3s_leaves_standard_error_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "damaged.mp3").write_bytes(damaged_mp3())
    (tmp_path / "good.mp3").write_bytes(audio_io.to_bytes(tone(3.0), RATE, "mp3"))
    done = threading.Event()

    def read() -> None:
        for _ in range(10):
            with suppress(AudioError):
                audio_io.read(tmp_path / "damaged.mp3", RATE)
            audio_io.read(tmp_path / "good.mp3", RATE)
        done.set()

    thread = threading.Thread(target=read)
    thread.start()
    lines = []
    while not done.is_set():
        lines.append(f"line {len(lines)}")
        os.write(2, f"{lines[-1]}\n".encode())
        time.sleep(0.001)
    thread.join()
    assert capfd.readouterr().err.splitlines() == lines


def test_channels_in_opposite_phase_do_not_cancel(tmp_path: Path) -> None:
    path = tmp_path / "opposite.wav"
    silence = np.zeros((100_000, 2), np.float32)  # longer than a block
    pair = np.concatenate([silence, np.stack([-0.9 * tone(), tone()], axis=1)])
    sf.write(path, pair, RATE, subtype="FLOAT")
    np.testing.assert_allclose(audio_io.read(path, RATE)[100_000:], tone(), atol=1e-6)
    np.testing.assert_allclose(audio_io.read(path, RATE, start=100_100 / RATE, end=100_300 / RATE), tone()[100:300])


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_part_is_what_the_whole_has_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"long.{suffix}"
    audio_io.write(path, 0.5 * tone(7.0) + 0.01 * noise(7.0), RATE)
    whole = audio_io.read(path, RATE)
    for start, end in ((0.0, 1.0), (0.5, 6.25), (3.0, 3.1), (6.5, None), (6.9, 9.0)):
        part = audio_io.read(path, RATE, start=start, end=end)
        last = None if end is None else round(end * RATE)
        np.testing.assert_allclose(part, whole[round(start * RATE) : last], atol=1e-6)
    with open_audio(path) as stream:  # in any order
        for first, last in ((50_000, 60_000), (70_000, 70_010), (10, 2000), (160_000, 180_000)):
            np.testing.assert_allclose(stream.read(first, last), whole[first:last], atol=1e-6)
    assert audio_io.duration(path) == pytest.approx(7.0, abs=1e-3)
    decoded, rate = audio_io.decode(path.read_bytes(), start=1.0, end=2.0)
    np.testing.assert_allclose(decoded, whole[RATE : 2 * RATE], atol=1e-6)
    assert rate == RATE


def test_a_small_file_that_unpacks_to_hours_is_refused_before_it_fills_memory(tmp_path: Path) -> None:
    path = tmp_path / "zeros.flac"
    with sf.SoundFile(path, "w", 1000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(700):
            file.write(np.zeros(16_000, np.int16))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(AudioError) as error:
        audio_io.read(path, RATE)
    assert "lasts more than 5400 s" in one_line(error)
    with pytest.raises(AudioError, match="lasts more than 5 s"):
        audio_io.read(path, RATE, start=100.0, max_seconds=5.0)
    assert len(audio_io.read(path, 1000, start=11_000.0, end=11_001.0, max_seconds=5.0)) == 1000


# ---------------------------------------------------------------- faults of the original

CODES = {"int": 1, "float": 3}  # of the sample kinds in a RIFF header


def riff(samples: np.ndarray, *, kind: str, bits: int, rate: int = RATE) -> bytes:
    """A wav file written by hand, ``(n, channels)`` of the samples' own numbers; 24 bits come as int32."""
    raw = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    if bits == 24:
        raw = np.frombuffer(raw, np.uint8).reshape(-1, 4)[:, :3].tobytes()
    channels, block = samples.shape[1], samples.shape[1] * bits // 8
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, CODES[kind], channels, rate, rate * block, block, bits)
    head = struct.pack("<4sI4s", b"RIFF", len(raw) + 36, b"WAVE") + layout
    return head + struct.pack("<4sI", b"data", len(raw)) + raw


@pytest.mark.parametrize(
    ("kind", "bits", "samples"),
    [
        ("int", 8, np.array([128, 0, 255, 192], np.uint8)),  # unsigned, which the original refused
        ("int", 16, np.array([0, -(2**15), 2**15 - 1, 2**14], np.int16)),
        ("int", 24, np.array([0, -(2**23), 2**23 - 1, 2**22], np.int32)),
        ("int", 32, np.array([0, -(2**31), 2**31 - 1, 2**30], np.int32)),
        ("float", 32, np.array([0.0, -1.0, 1.0, 0.5], np.float32)),
        ("float", 64, np.array([0.0, -1.0, 1.0, 0.5], np.float64)),  # so was this
    ],
)
@pytest.mark.parametrize("reference", [False, True])
def test_b7_wavs_of_every_kind_of_sample_are_read(
    tmp_path: Path, kind: str, bits: int, samples: np.ndarray, reference: bool
) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(riff(samples[:, None], kind=kind, bits=bits))
    step = 2.0 ** (1 - bits) if kind == "int" else 0.0
    np.testing.assert_allclose(
        (read_published if reference else audio_io.read)(path, RATE), [0.0, -1.0, 1.0 - step, 0.5], rtol=0, atol=1e-7
    )


def test_b7_both_channels_of_a_stereo_wav_are_heard(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    pair = np.stack([np.zeros(RATE, np.float32), tone()], axis=1)
    path.write_bytes(riff(pair, kind="float", bits=32))
    np.testing.assert_allclose(audio_io.read(path, RATE), 0.5 * tone(), atol=1e-6)
    assert len(audio_io.read_clips([path], RATE)) == 1
    assert np.abs(read_published(path, RATE)).max() == 0  # as the original has it: the first alone
    with pytest.raises(AudioError, match="is silent"):
        audio_io.read_clips([path], RATE, reader=read_published)
    sf.write(tmp_path / "stereo.flac", pair, RATE)  # which the original did not read; nothing to imitate
    np.testing.assert_allclose(read_published(tmp_path / "stereo.flac", RATE), 0.5 * tone(), atol=1e-4)


def test_a_reference_reading_uses_the_filter_of_the_original_and_clips(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    sf.write(path, 3 * tone(rate=44_100), 44_100, subtype="FLOAT")
    ours, theirs = audio_io.read(path, 22_050), read_published(path, 22_050)
    assert np.abs(ours).max() > 1.4 and np.abs(theirs).max() == 1.0
    wave = sinc_resample(torch.from_numpy(3 * tone(rate=44_100))[None], 44_100, 22_050)[0].numpy()
    np.testing.assert_allclose(theirs, wave.clip(-1, 1), atol=1e-6)
    odd = tmp_path / "odd.wav"
    sf.write(odd, tone(rate=44_099), 44_099, subtype="FLOAT")  # the filter would be of a gigabyte
    assert len(read_published(odd, 22_050)) == 22_050


# ---------------------------------------------------------------- PyAV

M4A_HEAD = b"\x00\x00\x00\x20ftypM4A \x00\x00\x00\x00M4A mp42isom" + b"\x00" * 64


def test_m4a_without_pyav_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for name in ("voice.m4a", "renamed.wav"):  # known by its suffix or by its head
        (tmp_path / name).write_bytes(M4A_HEAD)
        with pytest.raises(AudioError) as error:
            audio_io.read(tmp_path / name, RATE)
        assert "pip install 'chelys[media]', or convert it to wav, flac, ogg or mp3" in one_line(error)


def test_mp3_is_read_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp3"
    audio_io.write(path, tone(6.0), RATE)
    with_av = audio_io.read(path, RATE)
    monkeypatch.setitem(sys.modules, "av", None)
    np.testing.assert_allclose(audio_io.read(path, RATE), with_av, atol=1e-4)


def test_what_only_looks_like_m4a_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "voice.m4a").write_bytes(M4A_HEAD)
    with pytest.raises(AudioError) as error:
        audio_io.read(tmp_path / "voice.m4a", RATE)
    assert "is not audio, or damaged" in one_line(error)


# ---------------------------------------------------------------- write


@pytest.mark.parametrize(
    ("suffix", "format", "subtype", "tolerance"),
    [
        ("wav", "WAV", "PCM_16", 2e-5),
        ("flac", "FLAC", "PCM_16", 2e-5),
        ("ogg", "OGG", "VORBIS", 3e-2),
        ("opus", "OGG", "OPUS", 0.1),
        ("mp3", "MP3", "MPEG_LAYER_III", 3e-2),
        ("WAV", "WAV", "PCM_16", 2e-5),
    ],
)
def test_the_suffix_picks_the_format(tmp_path: Path, suffix: str, format: str, subtype: str, tolerance: float) -> None:
    path = tmp_path / f"speech.{suffix}"
    audio_io.write(path, tone(), RATE)
    info = sf.info(path)
    assert (info.format, info.subtype, info.samplerate, info.channels) == (format, subtype, RATE, 1)
    np.testing.assert_allclose(audio_io.read(path, RATE)[2000:-2000], tone()[2000:-2000], atol=tolerance)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_loud_samples_are_clipped_and_16_bits_come_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    audio_io.write(path, np.array([0.0, 2.0, -2.0, 1.0, -1.0, 0.5], np.float32), RATE)
    top = 32767 / 32768
    np.testing.assert_array_equal(audio_io.read(path, RATE), np.float32([0.0, top, -1.0, top, -1.0, 0.5]))
    again = tmp_path / "again.flac"
    audio_io.write(again, audio_io.read(path, RATE), RATE)
    np.testing.assert_array_equal(audio_io.read(again, RATE), audio_io.read(path, RATE))


def test_ten_minutes_of_vorbis_can_be_written() -> None:
    code = (
        "import io, numpy as np, soundfile as sf; from chelys.audio.io import to_bytes\n"
        "x = np.random.default_rng(0).standard_normal(600 * 8000).astype('f') * 0.1\n"
        "assert sf.info(io.BytesIO(to_bytes(x, 8000, 'ogg'))).frames == len(x)"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=ENVIRONMENT
    )  # a stack that overflows takes the process with it


def test_a_new_file_gets_ordinary_permissions_and_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.wav").symlink_to(tmp_path / "real.wav")
    old = os.umask(0o022)
    try:
        audio_io.write(tmp_path / "link.wav", tone(0.1), RATE)
    finally:
        os.umask(old)
    assert (tmp_path / "link.wav").is_symlink() and (tmp_path / "real.wav").stat().st_mode & 0o777 == 0o644


def test_bad_outputs_are_one_line_and_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe.wav")
    before = sorted(tmp_path.rglob("*"))
    for path, said in {
        tmp_path / "speech.xyz": "unknown suffix '.xyz'; choose one of .wav, .flac, .ogg, .opus, .mp3, .pcm",
        tmp_path / "speech": "it has no suffix; choose one of .wav, .flac, .ogg, .opus, .mp3, .pcm",
        tmp_path / "folder.wav": "it is a folder",
        tmp_path: "it is a folder",
        tmp_path / "gone" / "speech.wav": "there is no folder",
        tmp_path / "file" / "speech.wav": "there is no folder",
        tmp_path / "pipe.wav": "not a regular file",
        tmp_path / ("x" * 300 + ".wav"): "too long",
    }.items():
        with pytest.raises(OutputError) as error:
            audio_io.write(path, tone(0.1), RATE)
        assert said in one_line(error) and str(path) in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where not even root can make a file")
def test_a_folder_that_takes_no_files_is_one_line() -> None:
    with pytest.raises(OutputError) as error:
        audio_io.check_output("/proc/speech.wav")
    assert "cannot write /proc/speech.wav: " in one_line(error)


LIMITED = """
import resource, signal, sys, numpy as np
from chelys.audio.io import WavStream, write
from chelys.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # as a disk that is full
try:
    if sys.argv[1] == "write":
        write("speech.wav", np.zeros(24_000, np.float32), 24_000)
    else:
        with WavStream("speech.wav", 24_000) as stream:
            for _ in range(10):
                stream.write(np.zeros(2_400, np.float32))
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("how", ["write", "stream"])
def test_a_full_disk_leaves_what_was_whole_and_nothing_else(tmp_path: Path, how: str) -> None:
    (tmp_path / "speech.wav").write_bytes(b"old")
    command = [sys.executable, "-c", LIMITED, how]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert run.stdout.startswith("cannot write speech.wav: ") and run.stdout.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["speech.wav"]
    if how == "write":
        assert (tmp_path / "speech.wav").read_bytes() == b"old"
    else:  # a stream grows in sight
        assert sf.info(tmp_path / "speech.wav").frames == 2 * 2_400


def test_to_bytes_refuses_unknown_formats_rates_and_shapes() -> None:
    with pytest.raises(OutputError, match="wav, flac, ogg, opus, mp3, pcm"):
        audio_io.to_bytes(tone(), RATE, "aac")
    with pytest.raises(OutputError) as error:
        audio_io.to_bytes(tone(), 12_345, "mp3")
    assert "12345 Hz" in one_line(error)
    with pytest.raises(ValueError, match="finite"):
        audio_io.to_bytes(np.float32([np.nan]), RATE, "ogg")
    with pytest.raises(ValueError, match="shape"):
        audio_io.to_bytes(np.zeros((2, 100), np.float32), RATE, "wav")


def test_write_stdout_is_a_wav() -> None:
    code = "import numpy as np; from chelys.audio.io import write_stdout; write_stdout(np.zeros(100, 'f'), 24_000)"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=ENVIRONMENT).stdout
    with wave.open(io.BytesIO(output)) as file:
        assert (file.getnframes(), file.getframerate(), file.getsampwidth()) == (100, RATE, 2)


# ---------------------------------------------------------------- WavStream


def test_a_streamed_file_equals_one_written_at_once_and_is_valid_at_any_moment(tmp_path: Path) -> None:
    with audio_io.WavStream(tmp_path / "stream.wav", RATE) as stream:
        for number, block in enumerate(np.split(tone(), 10)):
            assert sf.info(tmp_path / "stream.wav").frames == number * RATE // 10
            stream.write(block)
        assert stream.seconds == 1.0
    audio_io.write(tmp_path / "whole.wav", tone(), RATE)
    assert (tmp_path / "stream.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()


def test_a_stream_onto_a_pipe_can_be_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as target:
        with audio_io.WavStream(target, RATE) as stream:
            stream.write(tone(0.02))
            first = os.read(reading, 100_000)
            assert len(first) == 44 + 2 * 480  # on its way before the end
            stream.write(tone(0.02))
    data = first + os.read(reading, 100_000)
    os.close(reading)
    assert data[4:8] == data[40:44] == b"\xff\xff\xff\xff"
    (tmp_path / "piped.wav").write_bytes(data)
    np.testing.assert_allclose(audio_io.read(tmp_path / "piped.wav", RATE), np.tile(tone(0.02), 2), atol=2e-5)


def test_a_stream_into_an_open_file_starts_where_the_file_stands() -> None:
    buffer = io.BytesIO()
    buffer.write(b"before")
    with audio_io.WavStream(buffer, RATE) as stream:
        stream.write(tone(0.1))
    assert buffer.getvalue() == b"before" + audio_io.to_bytes(tone(0.1), RATE, "wav")


def test_a_stream_that_breaks_leaves_what_was_written(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        with audio_io.WavStream(tmp_path / "speech.wav", RATE) as stream:
            stream.write(tone())
            raise KeyboardInterrupt
    np.testing.assert_allclose(audio_io.read(tmp_path / "speech.wav", RATE), tone(), atol=2e-5)
    with pytest.raises(OutputError, match="'.mp3' is not for streams; choose one of .wav$"):
        audio_io.WavStream(tmp_path / "speech.mp3", RATE)


@pytest.mark.parametrize("coding", ["PCM_16", "FLOAT"])
def test_a_stream_goes_on_where_it_is_told_to(tmp_path: Path, coding: str) -> None:
    path = tmp_path / "speech.wav"
    assert audio_io.wav_samples(path, RATE, coding) == 0
    with audio_io.WavStream(path, RATE, coding=coding) as stream:
        stream.write(tone())
    with path.open("ab") as file:
        file.write(b"torn off by a kill")
    assert audio_io.wav_samples(path, RATE, coding) >= RATE
    with audio_io.WavStream(path, RATE, coding=coding, keep=RATE // 2) as stream:
        stream.write(tone()[RATE // 2 :])
        assert stream.samples == RATE
    whole, _ = sf.read(path, dtype="float32")
    np.testing.assert_allclose(whole, tone(), atol=2e-5 if coding == "PCM_16" else 0)
    path.write_bytes(audio_io.to_bytes(tone(), RATE, "flac"))
    assert audio_io.wav_samples(path, RATE, coding) == 0


def test_a_stream_appended_by_a_shell_has_one_header(tmp_path: Path) -> None:
    with (tmp_path / "speech.wav").open("ab") as file, audio_io.WavStream(file, RATE) as stream:
        stream.write(tone(0.1))
        stream.write(tone(0.1))
    assert (tmp_path / "speech.wav").stat().st_size == 44 + 2 * 4800


# ---------------------------------------------------------------- clips


def test_clips_come_from_files_and_folders_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    audio_io.write(folder / "b.flac", tone(0.7), RATE)
    audio_io.write(folder / "a.wav", tone(0.6), RATE)
    (folder / "notes.txt").write_text("not a clip")
    (folder / "._a.wav").write_text("not a clip")
    audio_io.write(tmp_path / "c.ogg", tone(0.8), RATE)
    clips = audio_io.read_clips([folder, tmp_path / "c.ogg"], RATE)
    assert [len(clip) for clip in clips] == [14_400, 16_800, 19_200]


def test_b8_clips_of_a_folder_are_read_in_sorted_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.wav", "c.wav", "a.wav"):
        (tmp_path / name).touch()
    plain = Path.iterdir
    for disorder in (sorted, lambda found: sorted(found, reverse=True)):  # whatever the file system says
        monkeypatch.setattr(Path, "iterdir", lambda self, disorder=disorder: iter(disorder(plain(self))))
        assert [path.name for path in audio_io.clip_paths([tmp_path])] == ["a.wav", "b.wav", "c.wav"]


@pytest.mark.parametrize(
    ("audio", "said"),
    [
        (tone(0.1), "lasts 0.10 s: a voice needs clips of at least 0.5 s"),
        (np.zeros(RATE, np.float32), "is silent"),
        (tone(level=5e-4), "is silent"),
        (np.eye(1, RATE, dtype=np.float32)[0] * 0.01, "lasts 0.12 s"),  # a click, without its silent ends
    ],
)
def test_a_clip_that_is_no_use_is_named(tmp_path: Path, audio: np.ndarray, said: str) -> None:
    good, bad = tmp_path / "good.wav", tmp_path / "bad.wav"
    sf.write(good, tone(0.5, level=2e-3), RATE, subtype="FLOAT")
    sf.write(bad, audio, RATE, subtype="FLOAT")
    assert len(audio_io.read_clips([good], RATE)) == 1
    with pytest.raises(AudioError) as error:
        audio_io.read_clips([good, bad], RATE)
    assert said in one_line(error) and str(bad) in str(error.value)


def test_no_clips_at_all_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(VoiceError) as error:
        audio_io.read_clips([], RATE)
    assert "no clips" in one_line(error)
    with pytest.raises(VoiceError) as error:
        audio_io.read_clips([tmp_path], RATE)
    assert "holds no recordings" in one_line(error)


# ---- clips of a voice -----------------------------------------------------------------------------------------------


def constant(path: Path, minutes: int, rate: int, level: float) -> Path:
    """A FLAC that unpacks to a constant: some 200 bytes a minute at 1 kHz."""
    with sf.SoundFile(path, "w", rate, 1, "PCM_16", format="FLAC") as file:
        for _ in range(minutes):
            file.write(np.full(60 * rate, level, np.float32))
    return path


@pytest.mark.parametrize(("rate", "minutes"), [(1000, 200), (200_000, 1)])
def test_clips_that_unpack_to_hours_or_to_a_flood_of_samples_are_refused(
    rate: int, minutes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_io, "MAX_SAMPLES", 10_000_000)
    path = constant(tmp_path / "bomb.flac", minutes, rate, 0.0)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(AudioError, match="lasts more than"):
        audio_io.read_clips([path], RATE)


def test_all_clips_of_a_voice_together_have_a_longest_length(tmp_path: Path) -> None:
    for name in ("a", "b"):
        audio_io.write(tmp_path / f"{name}.wav", tone(1.0), RATE)
    assert len(audio_io.read_clips([tmp_path], RATE)) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio_io, "MAX_CLIPS_SECONDS", 1.5)
        with pytest.raises(AudioError, match="b.wav lasts more than"):
            audio_io.read_clips([tmp_path], RATE)


def test_a_constant_offset_is_no_sound_and_is_taken_out(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is silent"):
        audio_io.read_clips([constant(tmp_path / "dc.flac", 1, 8000, 0.5)], RATE)
    sf.write(tmp_path / "off.wav", 0.3 + tone(1.0, level=0.1), RATE, subtype="FLOAT")
    (clip,) = audio_io.read_clips([tmp_path / "off.wav"], RATE)
    np.testing.assert_allclose(clip, tone(1.0, level=0.1), atol=1e-4)


def test_too_little_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio_io.write(tmp_path / "a.wav", tone(1.0), RATE)

    def fail(*_: object) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(audio_io, "_joined", fail)
    with pytest.raises(AudioError, match="more memory than is free"):
        audio_io.read(tmp_path / "a.wav", RATE)


def test_an_mp3_under_another_name_leaves_standard_error_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av")
    (tmp_path / "a.wav").write_bytes(bytes(40) + audio_io.to_bytes(tone(1.0), RATE, "mp3") + b"x" * 2000)
    with suppress(AudioError):
        audio_io.read(tmp_path / "a.wav", RATE)
    assert capfd.readouterr().err == ""


class Failing:
    """A file on a disk that is full from the write of that number on."""

    def __init__(self, file: BinaryIO, full_at: int) -> None:
        self.file, self.full_at, self.writes = file, full_at, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: bytes) -> int:
        self.writes += 1
        if self.writes > self.full_at:
            raise OSError(28, "No space left on device")
        return self.file.write(data)


def test_a_disk_that_fills_up_while_a_flac_grows_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)
    with growing_sound_file(tmp_path / "whole.flac", 24_000) as file:
        file.write(audio[:9000])
        file.write(audio[9000:])
    sf.write(tmp_path / "at once.flac", audio, 24_000, subtype="PCM_16")
    assert (tmp_path / "whole.flac").read_bytes() == (tmp_path / "at once.flac").read_bytes()

    opened: list[Failing] = []
    plain = Path.open

    def open_failing(path: Path, *args: Any, **options: Any) -> Any:
        opened.append(Failing(plain(path, *args, **options), full_at))
        return opened[-1]

    monkeypatch.setattr(Path, "open", open_failing)
    full_at = 10**9
    with growing_sound_file(tmp_path / "counted.flac", 24_000) as file:
        file.write(audio)
    writes = opened[-1].writes
    assert writes > 3
    for full_at in range(writes):
        with (
            pytest.raises(OSError, match="No space"),
            growing_sound_file(tmp_path / f"{full_at}.flac", 24_000) as file,
        ):
            file.write(audio)
