"""The published system end to end, in small: files of invented weights, converted, speaking."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_published
import torch
import toy

from chelys.audio.io import write
from chelys.audio.rates import HOP, OUTPUT_RATE, PUBLISHED_CODE_RATE, mel_frames
from chelys.errors import ModelError, TextError, UserError, VoiceError
from chelys.inference.options import SpeechOptions
from chelys.inference.speech import Speech
from chelys.inference.synthesizer import Synthesizer
from chelys.inference.voice import Voice
from chelys.tortoise.api import TextToSpeech
from chelys.tortoise.convert import convert, find_checkpoints
from chelys.tortoise.speaking import PUBLISHED_PRESETS

TEXT = "Hello there. Hello there."
QUICK = SpeechOptions(candidates=2, steps=2, sampler="ddpm", repetition_penalty=2.0, temperature=0.8, max_new_tokens=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("published")
    convert(find_checkpoints(tiny_published.make(home / "pth")), home / "model")
    return home / "model"


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Synthesizer:
    return Synthesizer.from_folder(folder)


@pytest.fixture(scope="module")
def original(folder: Path) -> Synthesizer:
    return Synthesizer.from_folder(folder, compat="reference")


@pytest.fixture
def speak(tiny: Synthesizer) -> Callable[..., Speech]:
    def speak(text: str = "Hello there.", **asked: Any) -> Speech:
        options = replace(QUICK, **asked.pop("knobs", {}))
        return tiny.speak(text, **{"seed": 7, "voice": "random:1", "options": options, **asked})

    return speak


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    write(path, toy.tone(180.0, 2.0), OUTPUT_RATE)
    return path


# ---------------------------------------------------------------- what is spoken


def test_the_wave_is_as_long_as_the_codes_and_the_calm_after_them(
    tiny: Synthesizer, speak: Callable[..., Speech]
) -> None:
    speech = speak()
    rules = tiny.family._rules(QUICK)
    assert rules is not None and rules.length == QUICK.max_new_tokens
    rendered = rules.trimmed(torch.tensor(speech.candidates[0].codes[0]))
    assert len(speech.audio) == HOP * mel_frames(len(rendered), PUBLISHED_CODE_RATE)
    assert np.isfinite(speech.audio).all() and speech.audio.any()


@pytest.mark.parametrize(
    "knobs",
    [
        {"sampler": "ddim"}, {"sampler": "dpm++2m"}, {"guidance": 2.0}, {"guidance": 2.0, "guidance_ramp": True},
        {"typical_mass": 0.5}, {"steps": 3}, {"sampler": "ddim", "eta": 1.0}, {"decoder": "hifigan"},
        {"diffusion_temperature": 0.5}, {"temperature": 0.0},
    ],
    ids=str,
)  # fmt: skip
def test_every_knob_can_be_heard(speak: Callable[..., Speech], knobs: dict[str, Any]) -> None:
    plain, turned = speak(), speak(knobs=knobs)
    assert np.isfinite(turned.audio).all()
    assert plain.audio.shape != turned.audio.shape or not np.array_equal(plain.audio, turned.audio)


def test_the_batch_changes_no_take(speak: Callable[..., Speech]) -> None:
    one, all_at_once = (speak(knobs={"candidates": 5, "batch": batch}, keep=5) for batch in (2, 5))
    for a, b in zip(one.candidates, all_at_once.candidates, strict=True):
        assert a.codes == b.codes and np.array_equal(a.audio, b.audio)


def test_every_text_ends_with_a_stop(tiny: Synthesizer) -> None:
    """CLVP reads one, the decoder frames the text with another."""
    assert tiny.text_ids([5, 6]).tolist() == [5, 6, 0]


def test_its_presets_are_the_published_with_a_solver(tiny: Synthesizer) -> None:
    ours = {name: tiny.options(name) for name in PUBLISHED_PRESETS}
    assert {name: (options.sampler, options.steps) for name, options in ours.items()} == {
        "ultra_fast": ("dpm++2m", 10), "fast": ("dpm++2m", 15), "standard": ("dpm++2m", 18),
        "high_quality": ("dpm++2m", 20), "paper": ("ddim", 64), "streaming": ("ddpm", 10),
    }  # fmt: skip
    for name, options in ours.items():
        published = PUBLISHED_PRESETS[name]
        assert replace(options, sampler=published.sampler, steps=published.steps) == published
    assert tiny.options("fast", sampler="ddpm", steps=80) == PUBLISHED_PRESETS["fast"]
    paper = tiny.options("paper", candidates=2)
    assert (paper.sampler, paper.steps, paper.candidates, paper.top_k) == ("ddim", 64, 2, 50)
    with pytest.raises(UserError, match="choose from ultra_fast, fast, standard, high_quality, paper, streaming"):
        tiny.options("slow")


def test_the_original_keeps_its_sampler(original: Synthesizer) -> None:
    assert {name: original.options(name) for name in PUBLISHED_PRESETS} == PUBLISHED_PRESETS


def test_the_interface_of_the_original_keeps_its_sampler(
    folder: Path, tiny: Synthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim, asked = TextToSpeech(models_dir=folder, device="cpu", autoregressive_batch_size=16), []
    monkeypatch.setattr(shim.synthesizer, "speak", lambda *_, options, **__: asked.append(options) or tiny.speak(
        "one", seed=1, options=replace(options, candidates=1, steps=1, max_new_tokens=2)
    ))  # fmt: skip
    shim.tts_with_preset("one", preset="fast", use_deterministic_seed=1)
    assert asked == [PUBLISHED_PRESETS["fast"]]


def test_a_text_that_the_position_table_cannot_hold(speak: Callable[..., Speech]) -> None:
    with pytest.raises(TextError, match="tokens, this model reads 78 at most"):
        speak("x" * 90, knobs={"max_chars": 300})


def test_other_scripts_are_transliterated(speak: Callable[..., Speech]) -> None:
    assert len(speak("Привет").audio)
    with pytest.raises(TextError):
        speak("...")


# ---------------------------------------------------------------- voices


def test_the_default_voice_is_drawn_by_the_seed_of_the_speech(tiny: Synthesizer) -> None:
    first, again, named = (tiny.speak("Hello.", voice=v, seed=3, options=QUICK) for v in (None, "random", "random:3"))
    assert np.array_equal(first.audio, again.audio) and np.array_equal(first.audio, named.audio)
    assert first.receipt["voice"] == "random:3"
    assert not np.array_equal(first.audio[:2000], tiny.speak("Hello.", seed=4, options=QUICK).audio[:2000])


def test_a_voice_of_clips_hears_all_of_them_and_the_original_a_part(
    tiny: Synthesizer, original: Synthesizer, tmp_path: Path
) -> None:
    write(
        tmp_path / "long.wav",
        toy.tone(150.0, 9.0) * np.linspace(0.1, 1, 9 * OUTPUT_RATE, dtype=np.float32),
        OUTPUT_RATE,
    )
    ours, theirs = tiny.voice(tmp_path / "long.wav"), original.voice(tmp_path / "long.wav")
    assert ours.autoregressive.shape == (64,) and ours.diffusion.shape == (128,)
    assert not torch.equal(ours.autoregressive, theirs.autoregressive)
    other = original.resolve_voice(tmp_path / "long.wav", seed=5)
    assert not torch.equal(other.autoregressive, theirs.autoregressive), "which six seconds, the seed says"


def test_vectors_of_the_original_are_a_voice(tiny: Synthesizer, tmp_path: Path) -> None:
    torch.save((torch.ones(1, 64), torch.zeros(1, 128)), tmp_path / "pat.pth")
    voice = tiny.resolve_voice(tmp_path / "pat.pth")
    assert voice.name == "pat" and torch.equal(voice.autoregressive, torch.ones(64))


def test_random_voices_can_be_mixed(tiny: Synthesizer) -> None:
    one, two = (tiny.resolve_voice(f"random:{seed}") for seed in (3, 4))
    even = tiny.resolve_voice("random:3+random:4")
    torch.testing.assert_close(even.autoregressive, (one.autoregressive + two.autoregressive) / 2)
    mostly = tiny.resolve_voice("random:3:0.75+random:4:0.25")
    torch.testing.assert_close(mostly.diffusion, 0.75 * one.diffusion + 0.25 * two.diffusion)


# ---------------------------------------------------------------- CVVP


def test_cvvp_has_its_say(tiny: Synthesizer, clip: Path) -> None:
    voice = tiny.voice(clip, name="tone")
    told = {
        weight: tiny.speak("Hello.", voice=voice, seed=7, options=replace(QUICK, cvvp=weight)).receipt["sentences"]
        for weight in (0.0, 0.5, 1.0)
    }
    clvp, both, cvvp = (np.array(told[weight][0]["scores"]) for weight in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(both, (clvp + cvvp) / 2, rtol=1e-4)


def test_b5_cvvp_without_clips_is_refused_before_anything_is_sampled(
    speak: Callable[..., Speech], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chelys.inference.synthesizer.generate", lambda *_, **__: pytest.fail("it was sampled"))
    with pytest.raises(VoiceError, match="carries no clips for CVVP"):
        speak(knobs={"cvvp": 0.5})


# ---------------------------------------------------------------- the original's ways


def test_b14_every_sentence_has_a_seed_of_its_own(tiny: Synthesizer, original: Synthesizer) -> None:
    """The reader of the original began every piece of a long text with the same seed."""
    asked: dict[str, Any] = {"seed": 7, "voice": "random:1", "options": QUICK}
    ours = [chunk.candidates[0].codes for chunk in tiny.stream(TEXT, **asked)]
    theirs = [chunk.candidates[0].codes for chunk in original.stream(TEXT, **asked)]
    assert ours[0] != ours[1] and theirs[0] == theirs[1]


def test_the_original_reads_the_text_its_own_way(tiny: Synthesizer, original: Synthesizer) -> None:
    """The tokenizer of the one is not that of the other (fault B2)."""
    assert tiny.family.tokenizer.encode("It costs £5.") != original.family.tokenizer.encode("It costs £5.")


def test_two_ways_of_speaking_with_one_model_leave_each_other_alone(tiny: Synthesizer) -> None:
    before = tiny.family.tokenizer.encode("It costs £5.")
    original = Synthesizer(tiny.model, compat="reference")
    assert original.family.tokenizer.encode("It costs £5.") != before
    assert tiny.family.tokenizer.encode("It costs £5.") == tiny.model.tokenizer.encode("It costs £5.") == before


def test_no_other_ways(folder: Path) -> None:
    with pytest.raises(UserError, match="compat is 'exact'; choose 'repaired' or 'reference'"):
        Synthesizer.from_folder(folder, compat="exact")  # type: ignore[arg-type]


# ---------------------------------------------------------------- HiFi-GAN, piece by piece


STREAMED = replace(QUICK, candidates=1, decoder="hifigan", temperature=1.0, max_new_tokens=200)


def long_take(tiny: Synthesizer) -> tuple[str, int]:
    """A text and a seed whose take comes in three pieces or more."""
    for seed in range(40):
        pieces = list(tiny.stream("Hello there.", voice="random:1", seed=seed, options=STREAMED))
        if len(pieces) >= 3:
            return "Hello there.", seed
    raise AssertionError("all takes are short: choose other weights")


def test_streamed_pieces_are_the_whole(tiny: Synthesizer) -> None:
    text, seed = long_take(tiny)
    asked: dict[str, Any] = {"voice": "random:1", "seed": seed, "options": STREAMED}
    pieces = list(tiny.stream(text, **asked))
    whole = tiny.speak(text, **asked)
    assert np.array_equal(np.concatenate([piece.audio for piece in pieces]), whole.audio)
    assert [piece.text for piece in pieces] == [text] + [""] * (len(pieces) - 1)
    codes = [code for part in whole.candidates[0].codes for code in part]
    voice = tiny.resolve_voice("random:1").autoregressive[None]
    ids = tiny.text_ids(tiny.model.tokenizer.encode(text))
    latents = tiny.model.autoregressive.latents(voice, ids[None], torch.tensor([codes]))
    at_once = tiny.model.extra("hifigan").decode(latents, voice)[0].numpy()
    np.testing.assert_allclose(whole.audio, at_once, atol=1e-4)
    assert whole.receipt["scores"] == [None] and math.isnan(whole.candidates[0].score), "nothing is ranked"
    assert whole.receipt["sentences"] == [{"text": text, "scores": []}]


def test_b12_a_stream_minds_its_seed_and_its_voice(tiny: Synthesizer) -> None:
    """The original reseeded every stream with 0, and put a random voice in the place of one without clips."""
    vectors = tiny.resolve_voice("random:1")
    voice = Voice(vectors.autoregressive, vectors.diffusion, vectors.model)
    said = {
        (name, seed): tiny.speak("Hello.", voice=who, seed=seed, options=STREAMED).audio
        for name, who in (("one", voice), ("same", "random:1"), ("two", "random:2"))
        for seed in (1, 2)
    }
    assert np.array_equal(said["one", 1], said["same", 1])
    assert not np.array_equal(said["one", 1][:5000], said["one", 2][:5000])
    assert not np.array_equal(said["one", 1][:5000], said["two", 1][:5000])


def test_nano_has_no_hifigan(tts: Synthesizer) -> None:
    with pytest.raises(ModelError, match="has no hifigan network"):
        tts.stream("Hello.", options=replace(STREAMED))
