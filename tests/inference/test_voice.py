"""A voice is a value: made from clips, kept in a file, carried to another model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
import toy
from safetensors.torch import save_file
from torch import Tensor

from chelys.audio.io import normalize_loudness
from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import AudioError, OutputError, VoiceError
from chelys.inference.options import SpeechOptions
from chelys.inference.synthesizer import Synthesizer
from chelys.inference.voice import CLIP_FRAMES, KEPT_SECONDS, Voice, trained_mels

QUICK = SpeechOptions(candidates=1, steps=1)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    """A model of the same sizes and other weights."""
    return Synthesizer.from_folder(toy.make(tmp_path_factory.mktemp("models") / "other", name="other", seed=1))


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """Record a tone into a file."""

    def record(
        name: str = "clip.wav", pitch: float = 150.0, seconds: float = 1.5, rate: int = OUTPUT_RATE, channels: int = 1
    ) -> Path:
        tone = toy.tone(pitch, seconds, rate=rate)
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        sf.write(path, np.stack([tone] * channels, axis=1), rate)
        return path

    return record


def vectors(voice: Voice) -> Tensor:
    return torch.cat((voice.autoregressive, voice.diffusion, voice.sampling_latent))


def distance(one: Voice, two: Voice) -> float:
    """Relative to how long the vectors are."""
    return float((vectors(one) - vectors(two)).norm() / vectors(one).norm())


def equal(one: Voice, two: Voice) -> bool:
    clips = len(one.clips) == len(two.clips) and all(map(np.array_equal, one.clips, two.clips))
    return clips and torch.equal(vectors(one), vectors(two)) and (one.model, one.about) == (two.model, two.about)


# ---------------------------------------------------------------- from clips


def test_a_voice_has_the_vectors_of_its_model_and_carries_its_clips(
    tts: Synthesizer, clip: Callable[..., Path]
) -> None:
    voice = tts.voice([clip("a.wav"), clip("b.wav", seconds=1.0)], name="me")
    assert voice.autoregressive.shape == (32,) and voice.diffusion.shape == (64,)
    assert voice.autoregressive.dtype == voice.diffusion.dtype == torch.float32
    assert voice.model == tts.model.config.fingerprint
    assert [(len(c), c.dtype) for c in voice.clips] == [(36_000, np.int16), (24_000, np.int16)]
    assert voice.info == {
        "name": "me", "model": voice.model, "sources": ["a.wav", "b.wav"], "seconds": 2.5, "kept_seconds": 2.5,
        "pitch": 150,
    }  # fmt: skip
    json.dumps(voice.info)


def test_another_speaker_is_another_voice(tts: Synthesizer, clip: Callable[..., Path]) -> None:
    voices = [tts.voice([clip(f"{pitch}.wav", pitch)]) for pitch in (100.0, 101.0, 250.0)]
    assert distance(voices[0], voices[1]) < distance(voices[0], voices[2]) and distance(voices[0], voices[2]) > 0.05


@pytest.mark.parametrize(
    ("name", "rate", "channels", "tolerance"),
    [
        ("a.flac", 24_000, 1, 0.02),
        ("a.flac", 44_100, 2, 0.02),
        ("a.wav", 8_000, 1, 0.05),
        ("a.ogg", 24_000, 1, 0.3),
        ("a.mp3", 24_000, 1, 0.3),
    ],
)
def test_clips_of_any_rate_and_format(
    tts: Synthesizer, clip: Callable[..., Path], name: str, rate: int, channels: int, tolerance: float
) -> None:
    voice, plain = tts.voice([clip(name, rate=rate, channels=channels)]), tts.voice([clip("plain.wav")])
    assert abs(len(voice.clips[0]) - 36_000) <= 2_400  # lossy formats pad
    assert distance(voice, plain) < tolerance  # a tone a whole tone higher is 0.5 away


def test_one_clip_a_folder_and_a_list_are_all_taken(tts: Synthesizer, clip: Callable[..., Path]) -> None:
    first, second = clip("takes/1.wav"), clip("takes/2.wav", 200.0)
    (first.parent / "notes.txt").write_text("Recorded at home.")
    listed = tts.voice([first, second], name="takes")
    assert equal(tts.voice(first.parent, name="takes"), listed)
    assert equal(tts.resolve_voice(first.parent), listed)
    assert equal(tts.voice(str(first)), tts.voice([first]))


def test_loudness_does_not_matter(tts: Synthesizer, tmp_path: Path) -> None:
    tone = toy.tone(150.0, 1.5)
    for name, gain in (("loud", 1.0), ("quiet", 0.05)):
        sf.write(tmp_path / f"{name}.wav", gain * tone, OUTPUT_RATE, subtype="FLOAT")
    loud, quiet = (tts.voice([tmp_path / f"{name}.wav"]) for name in ("loud", "quiet"))
    assert distance(loud, quiet) < 1e-3
    level = normalize_loudness(0.001 * tone)
    assert np.sqrt(np.mean(level**2)) == pytest.approx(0.08, rel=1e-3) and level.dtype == np.float32
    click = np.zeros(24_000, np.float32)
    click[100] = 0.5  # cannot reach that loudness without clipping
    assert np.abs(normalize_loudness(click)).max() == pytest.approx(0.95)


def test_a_file_carries_twelve_seconds_at_most(tts: Synthesizer, clip: Callable[..., Path]) -> None:
    long = tts.voice([clip("a.wav", seconds=7.0), clip("b.wav", seconds=6.0), clip("c.wav", seconds=2.0)])
    assert [len(c) for c in long.clips] == [7 * OUTPUT_RATE, 5 * OUTPUT_RATE] and KEPT_SECONDS == 12.0
    assert long.info["seconds"] == 15.0 and long.info["kept_seconds"] == 12.0


@pytest.mark.parametrize("frames", [47, 255, 256, 257, 300, 384, 600, 2_000])
def test_pieces_cover_all_of_a_mel_in_trained_lengths(frames: int) -> None:
    mel = torch.arange(frames, dtype=torch.float32).expand(1, 3, -1)
    pieces = trained_mels(mel)
    assert all(piece.shape == (1, 3, CLIP_FRAMES) for piece in pieces)
    heard = torch.cat([piece[0, 0] for piece in pieces])
    if frames <= 384:  # a rest shorter than half a piece is not worth one
        assert heard.unique().numel() >= min(frames, CLIP_FRAMES)
    else:
        assert heard[0] == 0 and heard[-1] == frames - 1 and len(pieces) <= -(-frames // CLIP_FRAMES)
    for piece in pieces:
        assert set(piece[0, 0].diff().tolist()) <= {1.0, float(1 - frames)}  # in order, repeated where too short


def test_clips_of_no_use_are_named(tts: Synthesizer, tmp_path: Path, clip: Callable[..., Path]) -> None:
    sf.write(tmp_path / "silent.wav", np.zeros(24_000), OUTPUT_RATE)
    short = clip("short.wav", seconds=0.1)
    (tmp_path / "text.wav").write_text("no sound")
    for path in (tmp_path / "silent.wav", short, tmp_path / "text.wav", tmp_path / "gone.wav"):
        with pytest.raises(AudioError, match=path.name):
            tts.voice([clip(), path])
    with pytest.raises(VoiceError, match="no clips given"):
        tts.voice([])


# ---------------------------------------------------------------- files


def test_a_saved_voice_comes_back_as_it_was(tts: Synthesizer, clip: Callable[..., Path], tmp_path: Path) -> None:
    voice = tts.voice([clip(f"{i}.wav", 100.0 + i, seconds=0.6) for i in range(12)], name="twelve")
    voice = replace(voice, about={**voice.about, "licence": "CC0", "note": "ümläut"})
    assert len(voice.clips) == 12
    voice.save(tmp_path / "twelve.safetensors")
    assert equal(Voice.load(tmp_path / "twelve.safetensors"), voice)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".safetensors"] + [".wav"] * 12
    spoken = [
        tts.speak("Hello.", voice=v, seed=1, options=QUICK).audio for v in (voice, tmp_path / "twelve.safetensors")
    ]
    np.testing.assert_array_equal(*spoken)


def test_a_file_that_cannot_be_written(tts: Synthesizer, tmp_path: Path) -> None:
    voice = tts.resolve_voice()
    for path in (tmp_path / "gone" / "a.safetensors", tmp_path / "voice.wav", tmp_path / "voice"):
        with pytest.raises(OutputError, match="cannot write"):
            voice.save(path)
    assert list(tmp_path.iterdir()) == []


def broken_files(good: Voice) -> dict[str, Any]:
    """Name -> bytes, or tensors and metadata, of files that are no voices."""
    tensors = {"autoregressive": good.autoregressive, "diffusion": good.diffusion}
    about = {"voice": json.dumps({"model": good.model})}
    bent = good.autoregressive.clone()
    bent[3] = float("nan")
    return {
        "empty": b"",
        "words": b"These are words." * 100,
        "no_about": (tensors, None),
        "about_is_no_json": (tensors, {"voice": "{"}),
        "about_is_a_list": (tensors, {"voice": "[]"}),
        "about_is_a_number": (tensors, {"voice": "3"}),
        "no_model": (tensors, {"voice": "{}"}),
        "no_vector": ({"diffusion": good.diffusion}, about),
        "not_finite": ({**tensors, "autoregressive": bent}, about),
        "matrix": ({**tensors, "diffusion": good.diffusion[None].contiguous()}, about),
        "clip_of_floats": ({**tensors, "clip.0": torch.zeros(24_000)}, about),
        "clip_too_short": ({**tensors, "clip.0": torch.zeros(9, dtype=torch.int16)}, about),
        "clip_without_number": ({**tensors, "clip.x": torch.zeros(24_000, dtype=torch.int16)}, about),
        "reader_of_another_size": ({**tensors, "reading": good.autoregressive[:5].clone()}, about),
        "reader_not_finite": ({**tensors, "reading": bent}, about),
        "wrong_size": ({**tensors, "autoregressive": good.autoregressive[:5].clone()}, about),
    }


def test_broken_files_are_answered_in_one_line(tts: Synthesizer, tmp_path: Path) -> None:
    for name, content in broken_files(tts.resolve_voice()).items():
        path = tmp_path / f"{name}.safetensors"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            save_file(content[0], path, metadata=content[1])
        with pytest.raises(VoiceError) as raised:
            tts.resolve_voice(path)
        message = str(raised.value)
        assert "damaged" in message and "\n" not in message, name
        assert str(path) in message or name == "wrong_size", message


def test_a_truncated_file_and_one_that_is_not_there(tts: Synthesizer, tmp_path: Path) -> None:
    path = tmp_path / "me.safetensors"
    tts.resolve_voice().save(path)
    data = path.read_bytes()
    for length in (4, 100, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(VoiceError, match="is damaged"):
            Voice.load(path)
    with pytest.raises(VoiceError, match="no voice file at"):
        Voice.load(tmp_path / "gone.safetensors")


# ---------------------------------------------------------------- how it reads, and how it sounds


def test_a_blended_voice_says_the_codes_of_another_in_its_own_sound(tts: Synthesizer) -> None:
    low, high = tts.resolve_voice("low"), tts.resolve_voice("high")
    read = low.blend(high, 1.0)
    speech = {name: tts.speak("Hello there, one two three.", voice=v, seed=4, options=QUICK) for name, v in
              {"low": low, "high": high, "read": read}.items()}  # fmt: skip
    codes = {name: s.candidates[0].codes for name, s in speech.items()}
    assert codes["read"] == codes["high"] != codes["low"]
    assert not np.array_equal(speech["read"].audio, speech["high"].audio)
    assert torch.equal(read.autoregressive, low.autoregressive) and torch.equal(read.diffusion, low.diffusion)
    assert read.about["speaker_blend"] == {"high": 1.0}


def test_a_blend_is_a_share_and_survives_files_and_mixes(tts: Synthesizer, tmp_path: Path) -> None:
    low, high = tts.resolve_voice("low"), tts.resolve_voice("high")
    read = low.blend(high, 0.25)
    torch.testing.assert_close(read.sampling_latent, 0.75 * low.autoregressive + 0.25 * high.autoregressive)
    read.save(tmp_path / "read.safetensors")
    assert equal(Voice.load(tmp_path / "read.safetensors"), read) and low.blend(high, 0.0) is low
    mixed = Voice.interpolate([read, high], [1, 1])
    torch.testing.assert_close(mixed.sampling_latent, (read.sampling_latent + high.autoregressive) / 2)
    torch.testing.assert_close(mixed.autoregressive, (low.autoregressive + high.autoregressive) / 2)
    assert Voice.interpolate([low, high], [1, 1]).blended is None


def test_blending_too_much_or_from_another_model_is_refused(tts: Synthesizer, other: Synthesizer) -> None:
    low = tts.resolve_voice("low")
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(VoiceError, match="the share must be 0 to 1"):
            low.blend(tts.resolve_voice("high"), share)
    with pytest.raises(VoiceError, match="different models"):
        low.blend(other.resolve_voice("high"), 0.5)


def test_a_model_says_how_much_its_clones_blend(
    toy_copy: Callable[[], Path], other: Synthesizer, clip: Callable[..., Path], tmp_path: Path
) -> None:
    folder = toy_copy()
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "speaker_blend": 0.5}))
    lending = Synthesizer.from_folder(folder)
    low, mine = lending.resolve_voice("low"), lending.voice([clip()], name="me")
    torch.testing.assert_close(mine.sampling_latent, (low.autoregressive + mine.autoregressive) / 2)
    assert lending.voice([clip()], speaker_blend=0.0).blended is None and low.blended is None
    torch.testing.assert_close(lending.voice([clip()], speaker_blend=1.0).sampling_latent, low.autoregressive)
    # voices of another model are blended here, too, but not with themselves
    foreign = tmp_path / "foreign.safetensors"
    other.voice([clip()], name="me", speaker_blend=1.0).save(foreign)
    assert lending.resolve_voice(foreign).about["speaker_blend"] == {"low": 0.5}
    assert lending.resolve_voice(other.resolve_voice("low")).blended is None


def test_a_model_without_voices_has_none_to_blend_with(toy_copy: Callable[[], Path], clip: Callable[..., Path]) -> None:
    folder = toy_copy()
    for file in (folder / "voices").iterdir():
        file.unlink()
    with pytest.raises(VoiceError, match="no voice of its own to blend with"):
        Synthesizer.from_folder(folder).voice([clip()], speaker_blend=0.5)


# ---------------------------------------------------------------- from model to model


def test_a_voice_reaches_another_model_through_its_clips(
    tts: Synthesizer, other: Synthesizer, clip: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "me.safetensors"
    tts.voice([clip()], name="me").save(path)
    moved, native = other.resolve_voice(path), other.voice([clip()])
    assert moved.model == native.model == other.model.config.fingerprint != tts.model.config.fingerprint
    assert moved.name == "me"
    assert distance(moved, native) < 0.02  # 16 bits
    assert distance(moved, Voice.load(path)) > 0.5
    assert other.speak("Hello.", voice=path, seed=1, options=QUICK).receipt["voice"] == "me"


def test_a_voice_without_clips_serves_its_own_model_only(
    tts: Synthesizer, other: Synthesizer, clip: Callable[..., Path]
) -> None:
    voice = tts.voice([clip()], name="me", kept_seconds=0)
    assert voice.clips == () and tts.resolve_voice(voice) is voice
    with pytest.raises(VoiceError, match="'me' was made for another model and carries no clips: make it anew"):
        other.resolve_voice(voice)


# ---------------------------------------------------------------- names


def test_names_are_looked_up_in_the_model_then_on_the_users_shelf(
    tts: Synthesizer, clip: Callable[..., Path], tmp_path: Path
) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    mine = tts.voice([clip()], name="mine")
    mine.save(shelf / "mine.safetensors")
    mine.save(shelf / "low.safetensors")
    assert tts.voice_names == ["low", "high"] == [*tts.voices][::-1]
    assert equal(tts.resolve_voice("mine"), mine)
    assert tts.resolve_voice("low").name == tts.resolve_voice().name == "low"
    with pytest.raises(VoiceError, match="choose from low, high, mine, or give"):
        tts.resolve_voice("nobody")


def test_a_name_is_never_a_path(tts: Synthesizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside the shelf is reached neither by a name that climbs out of it nor by a bare name."""
    (tmp_path / "shelf").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    tts.resolve_voice("high").save(tmp_path / "secret.safetensors")
    for name in ("secret", "../secret", "..", "../shelf/../secret", "voices/low", "low.safetensors"):
        with pytest.raises(VoiceError):
            tts.resolve_voice(name)


def test_the_name_of_a_built_in_voice_wins_over_a_folder_of_that_name(
    tts: Synthesizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "high").mkdir()
    monkeypatch.chdir(tmp_path)
    assert tts.resolve_voice("high").name == "high"


# ---------------------------------------------------------------- mixes


def test_a_mix_is_the_weighted_mean(tts: Synthesizer) -> None:
    low, high = tts.resolve_voice("low"), tts.resolve_voice("high")
    mixed = tts.resolve_voice("low:3+high:1")
    torch.testing.assert_close(vectors(mixed), 0.75 * vectors(low) + 0.25 * vectors(high))
    assert mixed.model == low.model and mixed.name == "low:0.75+high:0.25"
    torch.testing.assert_close(vectors(tts.resolve_voice("low+high")), (vectors(low) + vectors(high)) / 2)
    torch.testing.assert_close(vectors(tts.resolve_voice("low:1+high:0")), vectors(low))
    assert equal(tts.resolve_voice(mixed), mixed)


def test_mixes_that_make_no_voice(tts: Synthesizer, other: Synthesizer) -> None:
    low, stranger = tts.resolve_voice("low"), other.resolve_voice("low")
    with pytest.raises(VoiceError, match="different models cannot be mixed"):
        Voice.interpolate([low, stranger], [1.0, 1.0])
    for weights in ([], [1.0, 1.0], [-1.0], [0.0], [float("nan")], [float("inf")]):
        with pytest.raises(VoiceError, match="a weight of 0 or more"):
            Voice.interpolate([low], weights)


# ---------------------------------------------------------------- from arrays


@pytest.mark.parametrize("kind", ["float32", "float64", "int16", "tensor", "row"])
def test_a_voice_is_made_of_waveforms_as_of_files(tts: Synthesizer, tmp_path: Path, kind: str) -> None:
    tone = toy.tone(150.0, 1.5)
    sf.write(tmp_path / "a.wav", tone, OUTPUT_RATE, subtype="PCM_16" if kind == "int16" else "FLOAT")
    given: Any = {
        "float32": tone, "float64": tone.astype(np.float64), "tensor": torch.from_numpy(tone), "row": tone[None],
        "int16": sf.read(tmp_path / "a.wav", dtype="int16")[0],
    }[kind]  # fmt: skip
    from_file = tts.voice([tmp_path / "a.wav"])
    for clips in (given, [given]):
        made = tts.voice(clips, name="me")
        assert torch.equal(vectors(made), vectors(from_file)) and np.array_equal(made.clips[0], from_file.clips[0])
    assert made.about == {"name": "me", "sources": ["clip 1"], "seconds": 1.5, "pitch": 150}
    assert tts.voice([("a.wav", given)], name="me").about["sources"] == ["a.wav"]


def test_waveforms_of_another_rate_and_beside_files(tts: Synthesizer, clip: Callable[..., Path]) -> None:
    tone, path = toy.tone(200.0, 1.0, rate=16_000), clip("a.wav")
    made = tts.voice([path, tone], sample_rate=16_000)
    files = tts.voice([path, clip("b.wav", 200.0, 1.0, rate=16_000)])
    assert made.about["sources"] == ["a.wav", "clip 2"] and distance(made, files) < 1e-3


@pytest.mark.parametrize(
    ("clip_of", "said"),
    [
        (np.zeros(24_000), "clip 1 is silent"),
        (0.5 * np.ones(1_000), "clip 1 lasts 0.04 s"),
        (np.zeros((2, 24_000)), r"clip 1 has shape \(2, 24000\)"),
        (np.zeros(24_000, np.int64), "clip 1 holds int64"),
        (np.full(24_000, np.nan), "not finite numbers"),
        (np.zeros(0), "has shape"),
    ],
)
def test_waveforms_of_no_use_are_named(tts: Synthesizer, clip_of: np.ndarray, said: str) -> None:
    with pytest.raises(AudioError, match=said):
        tts.voice(clip_of)


# ---------------------------------------------------------------- read once, and old names


def test_voices_are_read_once_and_are_the_same_objects(
    tts: Synthesizer, toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh, read = Synthesizer.from_folder(toy_folder), []
    load = Voice.load.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(Voice, "load", classmethod(lambda cls, path: (read.append(path), load(cls, path))[1]))
    assert fresh.voices is fresh.voices and fresh.resolve_voice("low") is fresh.voices["low"] is fresh.resolve_voice()
    assert len(read) == 2
    path = tmp_path / "me.safetensors"
    tts.resolve_voice("low").save(path)
    first = fresh.resolve_voice(path)
    assert fresh.resolve_voice(path) is first
    tts.voice(toy.tone(180.0, 1.0), name="new").save(path)  # another file under the name
    assert fresh.resolve_voice(path).name == "new"


def test_old_names_of_a_voice_warn_and_work(tts: Synthesizer, tmp_path: Path) -> None:
    low, high = tts.resolve_voice("low"), tts.resolve_voice("high")
    with pytest.warns(DeprecationWarning, match="Voice.borrow is deprecated .* use Voice.blend"):
        blended = low.borrow(high, 0.5)
    with pytest.warns(DeprecationWarning, match="sampling_latent"):
        assert torch.equal(blended.reader, blended.sampling_latent)
    with pytest.warns(DeprecationWarning, match="Voice.interpolate"):
        assert Voice.mix([low, high], [1, 1]).name == "low:0.5+high:0.5"
    with pytest.warns(DeprecationWarning, match="speaker_blend"):
        assert tts.voice(toy.tone(150.0, 1.0), borrowed=0.5).blended is not None
    tensors = {"autoregressive": low.autoregressive, "diffusion": low.diffusion, "reading": high.autoregressive}
    about = {"name": "old", "model": low.model, "borrowed": {"high": 1.0}}
    save_file(tensors, tmp_path / "old.safetensors", metadata={"voice": json.dumps(about)})
    old = Voice.load(tmp_path / "old.safetensors")
    assert torch.equal(old.sampling_latent, high.autoregressive) and old.about["speaker_blend"] == {"high": 1.0}
