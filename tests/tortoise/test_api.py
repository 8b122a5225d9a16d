"""The original's interface over chelys: its arguments, defaults, shapes and state."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
from torch import Tensor

import chelys
from chelys.audio.io import write
from chelys.errors import AudioError, ModelError, TextError, UserError, VoiceError
from chelys.inference.options import SpeechOptions
from chelys.inference.speech import Candidate
from chelys.inference.synthesizer import Synthesizer
from chelys.tortoise import api, convert
from chelys.tortoise.api import TextToSpeech, get_voices, load_audio, load_voice, load_voices
from chelys.tortoise.speaking import PUBLISHED_PRESETS
from chelys.tortoise.tokenizer import make_tortoise_tokenizer

QUICK = {"num_autoregressive_samples": 2, "diffusion_iterations": 2, "cond_free": False, "use_deterministic_seed": 7}
TEXT = "Hello there."


@pytest.fixture(scope="module")
def tts() -> TextToSpeech:
    """The shim over the model that is shipped."""
    return TextToSpeech(models_dir="nano", device="cpu")


@pytest.fixture(scope="module")
def clip() -> Tensor:
    """A clip as the original's loaders give it: ``(1, n)`` at 22.05 kHz."""
    return torch.from_numpy(toy.tone(180.0, 1.2, rate=22_050))[None]


@pytest.fixture
def asked(tts: TextToSpeech, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What speaking was asked for; nothing is spoken."""
    calls: list[dict[str, Any]] = []

    def speak(text: str, **settings: Any) -> chelys.Speech:
        calls.append({"text": text, **settings})
        silence = np.zeros(10, np.float32)
        return chelys.Speech(silence, 24_000, [Candidate(silence, 0.0, [])] * settings["keep"], {}, [])

    monkeypatch.setattr(tts.synthesizer, "speak", speak)
    return calls


def options(asked: list[dict[str, Any]]) -> SpeechOptions:
    return asked[-1]["options"]


# ---------------------------------------------------------------- arguments and defaults


def test_arguments_and_their_defaults_are_those_of_the_original() -> None:
    def defaults(function: Any) -> dict[str, Any]:
        parameters = list(inspect.signature(function).parameters.values())[1:]
        return {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}

    assert defaults(TextToSpeech.__init__) == {
        "autoregressive_batch_size": None, "models_dir": None, "enable_redaction": True, "kv_cache": False,
        "use_deepspeed": False, "half": False, "device": None, "tokenizer_vocab_file": None, "tokenizer_basic": False,
    }  # fmt: skip
    assert defaults(TextToSpeech.tts) == {
        "text": inspect.Parameter.empty, "voice_samples": None, "conditioning_latents": None, "k": 1, "verbose": True,
        "use_deterministic_seed": None, "return_deterministic_state": False, "num_autoregressive_samples": 512,
        "temperature": 0.8, "length_penalty": 1, "repetition_penalty": 2.0, "top_p": 0.8, "max_mel_tokens": 500,
        "cvvp_amount": 0.0, "diffusion_iterations": 100, "cond_free": True, "cond_free_k": 2,
        "diffusion_temperature": 1.0,
    }  # fmt: skip
    assert defaults(TextToSpeech.tts_with_preset) == {"text": inspect.Parameter.empty, "preset": "fast"}
    assert list(inspect.signature(load_voice).parameters) == ["voice", "extra_voice_dirs"]
    assert list(inspect.signature(load_voices).parameters) == ["voices", "extra_voice_dirs"]
    assert list(inspect.signature(load_audio).parameters) == ["audiopath", "sampling_rate"]


@pytest.mark.parametrize(
    ("preset", "samples", "steps", "guided"),
    [("ultra_fast", 16, 30, False), ("fast", 96, 80, True), ("standard", 256, 200, True),
     ("high_quality", 256, 400, True)],
)  # fmt: skip
def test_presets_have_the_published_values(
    tts: TextToSpeech, asked: list[dict[str, Any]], preset: str, samples: int, steps: int, guided: bool
) -> None:
    tts.tts_with_preset(TEXT, preset=preset, use_deterministic_seed=1)
    knobs, published = options(asked), PUBLISHED_PRESETS[preset]
    assert (knobs.candidates, knobs.steps, knobs.guidance) == (samples, steps, 2.0 if guided else 0.0)
    for name in ("temperature", "top_p", "top_k", "repetition_penalty", "diffusion_temperature", "max_new_tokens"):
        assert getattr(knobs, name) == getattr(published, name), name
    tts.tts_with_preset(TEXT, preset=preset, num_autoregressive_samples=3, temperature=0.4)
    assert options(asked).candidates == 3 and options(asked).temperature == 0.4 and options(asked).steps == steps


def test_every_argument_reaches_its_knob(tts: TextToSpeech, asked: list[dict[str, Any]]) -> None:
    tts.tts(
        TEXT, k=2, use_deterministic_seed=2**32 + 5, num_autoregressive_samples=9, temperature=0.5,
        repetition_penalty=3.0, top_p=0.6, max_mel_tokens=77, cvvp_amount=0.25, diffusion_iterations=11,
        cond_free_k=1.5, diffusion_temperature=0.9, top_k=20, typical_sampling=True, typical_mass=0.8,
    )  # fmt: skip
    knobs = options(asked)
    assert asked[-1]["keep"] == 2 and asked[-1]["seed"] == 5
    assert (knobs.candidates, knobs.steps, knobs.max_new_tokens, knobs.top_k) == (9, 11, 77, 20)
    assert (knobs.temperature, knobs.repetition_penalty, knobs.top_p, knobs.typical_mass) == (0.5, 3.0, 0.6, 0.8)
    assert (knobs.cvvp, knobs.guidance, knobs.diffusion_temperature) == (0.25, 1.5, 0.9)
    assert knobs.redact and knobs.batch == tts.autoregressive_batch_size
    tts.tts(TEXT)
    assert options(asked).typical_mass == 1.0 and options(asked).guidance == 2.0 and options(asked).top_k == 50


def test_what_has_no_meaning_is_accepted_and_told(
    tts: TextToSpeech, asked: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    tts.tts(TEXT, length_penalty=8.0, num_beams=4)
    ignored = [record.message for record in caplog.records if "ignored" in record.message]
    assert len(ignored) == 2 and "length_penalty" in ignored[1] and "num_beams" in ignored[0]
    caplog.clear()
    tts.tts(TEXT)
    assert not [record for record in caplog.records if "ignored" in record.message]


# ---------------------------------------------------------------- speech


def test_a_wave_comes_back_as_in_the_original_and_seeds_fix_it(tts: TextToSpeech) -> None:
    wave = tts.tts(TEXT, **QUICK)
    assert wave.shape[:2] == (1, 1) and wave.shape[2] > 10_000 and wave.dtype == torch.float32
    assert 0.01 < wave.abs().max() <= 1
    assert torch.equal(wave, tts.tts(TEXT, **QUICK))
    other = tts.tts(TEXT, **{**QUICK, "use_deterministic_seed": 8})
    assert other.shape != wave.shape or not torch.equal(other, wave)


def test_several_takes_are_a_list_best_first_and_the_state_comes_with_them(tts: TextToSpeech, clip: Tensor) -> None:
    waves, state = tts.tts(TEXT, voice_samples=[clip], k=2, return_deterministic_state=True, **QUICK)
    assert isinstance(waves, list) and len(waves) == 2 and all(wave.shape[:2] == (1, 1) for wave in waves)
    seed, text, samples, latents = state
    assert (seed, text, latents) == (7, TEXT, None) and samples[0] is clip
    again = tts.tts(text, voice_samples=samples, conditioning_latents=latents, **QUICK)
    assert torch.equal(again, waves[0])


def test_a_seed_that_was_not_given_is_told(tts: TextToSpeech) -> None:
    settings = {name: value for name, value in QUICK.items() if name != "use_deterministic_seed"}
    wave, (seed, *_) = tts.tts(TEXT, return_deterministic_state=True, **settings)
    assert seed > 1_600_000_000
    assert torch.equal(wave, tts.tts(TEXT, use_deterministic_seed=seed, **settings))


def test_no_global_random_state_is_read_or_changed(tts: TextToSpeech) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    wave = tts.tts(TEXT, **QUICK)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(tts.tts(TEXT, **QUICK), wave)


def test_streaming_gives_the_pieces_of_one_take(tts: TextToSpeech) -> None:
    text = "Hello there. One, two, three."
    settings = {"use_deterministic_seed": 3, "conditioning_latents": tts.synthesizer.resolve_voice("heart")}
    pieces = list(tts.tts_stream(text, stream_chunk_size=40, **settings))
    assert len(pieces) > 1 and all(piece.ndim == 1 for piece in pieces)
    again = torch.cat(list(tts.tts_stream(text, **settings)))
    assert torch.equal(torch.cat(pieces), again)


@pytest.mark.parametrize(("text", "settings"), [("", {}), ("Hi.", {"preset": "slow"}), ("Hi.", {"k": 99})])
def test_mistakes_are_one_line(tts: TextToSpeech, text: str, settings: dict[str, Any]) -> None:
    with pytest.raises(UserError) as refusal:
        tts.tts_with_preset(text, **{"preset": "ultra_fast", **settings})
    assert "\n" not in str(refusal.value)


def test_unpaired_brackets_are_refused_unless_redaction_is_off(tts: TextToSpeech) -> None:
    with pytest.raises(TextError, match="no ']' behind it"):
        tts.tts("[Hello there.", **QUICK)
    tts.enable_redaction = False
    try:
        assert tts.tts("[Hello there.", **QUICK).shape[2] > 10_000
    finally:
        tts.enable_redaction = True


# ---------------------------------------------------------------- voices


def test_latents_are_rows_and_speak_as_their_clips_do(tts: TextToSpeech, clip: Tensor) -> None:
    heard, rendered = tts.get_conditioning_latents([clip, clip])
    config = tts.synthesizer.model.config
    assert heard.shape == (1, config.autoregressive.dim) and rendered.shape == (1, *config.diffusion.voice_shape)
    spoken = tts.tts(TEXT, conditioning_latents=(heard, rendered), **QUICK)
    assert torch.equal(spoken, tts.tts(TEXT, voice_samples=[clip, clip], **QUICK))
    other = tts.tts(TEXT, conditioning_latents=tts.get_random_conditioning_latents(seed=3), **QUICK)
    assert other.shape != spoken.shape or not torch.equal(other, spoken)


def test_clips_lose_nothing_on_their_way(tts: TextToSpeech, clip: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def voice(clips: list[Tensor], *, sample_rate: int, **settings: Any) -> Any:
        assert sample_rate == 22_050 and torch.equal(clips[0], clip[0] / 3)
        return tts.synthesizer.resolve_voice("heart")

    monkeypatch.setattr(tts.synthesizer, "voice", voice)
    tts.get_conditioning_latents(clip / 3)


def test_voices_that_cannot_be_used_are_refused(tts: TextToSpeech, clip: Tensor) -> None:
    with pytest.raises(VoiceError, match="do not fit the model"):
        tts.tts(TEXT, conditioning_latents=(torch.zeros(1, 3), torch.zeros(1, 5)), **QUICK)
    with pytest.raises(AudioError, match="clip 2 lasts 0.05 s"):
        tts.get_conditioning_latents([clip, clip[:, :1_000]])
    with pytest.raises(UserError, match="return_mels"):
        tts.get_conditioning_latents([clip], return_mels=True)


@pytest.fixture
def voice_dir(tmp_path: Path, clip: Tensor) -> Path:
    """Voices as users of the original keep them."""
    folder = tmp_path / "voices"
    for name in ("me", "you", "vectors", "leftover", "empty"):
        (folder / name).mkdir(parents=True)
    write(folder / "me" / "b.wav", clip[0].numpy(), 22_050)
    write(folder / "me" / "a.flac", 0.5 * clip[0].numpy(), 22_050)
    write(folder / "you" / "c.mp3", clip[0].numpy(), 22_050)
    torch.save([clip], folder / "you" / "you.pth")
    torch.save((torch.ones(1, 4), torch.zeros(1, 6)), folder / "vectors" / "pat.pth")
    torch.save([clip], folder / "leftover" / "leftover.pth")
    return folder


def test_voices_are_loaded_as_in_the_original(voice_dir: Path, clip: Tensor) -> None:
    where = [voice_dir]
    clips, latents = load_voice("me", where)
    assert latents is None and clips is not None and [tuple(c.shape) for c in clips] == [tuple(clip.shape)] * 2
    assert clips[1].abs().max() == pytest.approx(2 * float(clips[0].abs().max()), rel=1e-3), "sorted by name"
    clips, latents = load_voice("vectors", where)
    assert clips is None and latents is not None and [tuple(v.shape) for v in latents] == [(1, 4), (1, 6)]
    assert load_voice("random", where) == load_voices(["me", "random"], where) == (None, None)
    clips, latents = load_voices(["me", "you"], where)
    assert latents is None and clips is not None and len(clips) == 3
    clips, latents = load_voices(["vectors", "vectors"], where)
    assert clips is None and latents is not None and torch.equal(latents[0], torch.ones(1, 4))
    assert {"me", "you", "heart"} <= set(get_voices(where))


def test_voices_of_chelys_are_found_too(tts: TextToSpeech) -> None:
    clips, latents = load_voice("heart")
    assert latents is None and clips and all(c.ndim == 2 and c.shape[0] == 1 and c.abs().max() <= 1 for c in clips)
    assert tts.tts(TEXT, voice_samples=clips, **QUICK).shape[2] > 10_000


def test_b8_nothing_is_written_into_voice_folders_and_what_the_original_left_is_read_as_clips(
    voice_dir: Path, clip: Tensor
) -> None:
    before = sorted(voice_dir.rglob("*"))
    for name in ("me", "you", "vectors"):
        load_voice(name, [voice_dir])
    clips, latents = load_voice("leftover", [voice_dir])
    assert latents is None and clips is not None and torch.equal(clips[0], clip)
    assert sorted(voice_dir.rglob("*")) == before


def test_voices_that_cannot_be_loaded_are_refused(voice_dir: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "written",)

    (voice_dir / "evil").mkdir()
    torch.save(Evil(), voice_dir / "evil" / "evil.pth")
    for name, fault in (
        ("nobody", "unknown voice 'nobody'"),
        ("empty", "no recordings"),
        ("evil", "more than tensors"),
    ):
        with pytest.raises(VoiceError, match=fault) as refusal:
            load_voice(name, [voice_dir])
        assert "\n" not in str(refusal.value)
    assert not (tmp_path / "written").exists()
    with pytest.raises(VoiceError, match="of one kind"):
        load_voices(["me", "vectors"], [voice_dir])


def test_audio_is_clipped_and_at_the_rate_that_is_asked_for(tmp_path: Path, clip: Tensor) -> None:
    import soundfile

    soundfile.write(tmp_path / "loud.wav", 4 * clip[0].numpy(), 22_050, subtype="FLOAT")
    loaded = load_audio(str(tmp_path / "loud.wav"), 22_050)
    assert torch.equal(loaded, (4 * clip).clamp(-1, 1))
    assert load_audio(tmp_path / "loud.wav", 24_000).shape == (1, round(clip.shape[1] * 24_000 / 22_050))


# ---------------------------------------------------------------- models


def test_models_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORTOISE_MODELS_DIR", str(tmp_path / "none"))
    assert api.resolve_model(None) == "tortoise-v2"
    assert api.resolve_model("nano") == "nano"
    assert api.resolve_model(tmp_path) == str(tmp_path)
    with pytest.raises(ModelError):
        TextToSpeech(models_dir=tmp_path, device="cpu")


@pytest.mark.parametrize("inside", ["", ".models"])
def test_published_files_are_converted_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inside: str) -> None:
    published, cache = tmp_path / "published", tmp_path / "cache"
    (published / inside).mkdir(parents=True)
    weights = published / inside / "autoregressive.pth"
    weights.touch()
    calls: list[Path] = []

    def fake(files: dict[str, Path], target: Path, **settings: Any) -> None:
        calls.append(target)
        target.mkdir()
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(convert, "find_checkpoints", lambda folder: {"autoregressive": folder})
    monkeypatch.setattr(convert, "convert", fake)
    monkeypatch.setattr(api.platformdirs, "user_cache_dir", lambda name: str(cache))
    monkeypatch.setenv("TORTOISE_MODELS_DIR", str(published))
    made = api.resolve_model(published)
    assert api.resolve_model(None) == made and [str(path) for path in calls] == [made]
    assert Path(made).is_relative_to(cache) and sorted(published.rglob("*.*th")) == [weights]
    weights.write_bytes(b"newer")
    assert api.resolve_model(published) != made, "other weights are another model"


def test_deepspeed_is_accepted_and_told(toy_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    TextToSpeech(models_dir=toy_folder, device="cpu", use_deepspeed=True, kv_cache=True, half=True)
    assert [record.message for record in caplog.records if "ignored" in record.message][0].endswith("use_deepspeed")


def test_another_tokenizer_goes_with_a_model_that_reads_spelling(
    toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "vocabulary.json"
    tokenizer = make_tortoise_tokenizer()
    file.write_text(tokenizer.core.to_str())
    with pytest.raises(UserError, match="reads phonemes"):
        TextToSpeech(models_dir=toy_folder, device="cpu", tokenizer_basic=True)
    synthesizer = Synthesizer.from_folder(toy_folder)
    synthesizer.model.tokenizer = tokenizer
    monkeypatch.setattr(chelys, "load", lambda *args, **kwargs: synthesizer)
    with pytest.raises(UserError, match="255 ids, the model only"):
        TextToSpeech(models_dir=toy_folder, device="cpu", tokenizer_vocab_file=file)
    with pytest.raises(UserError, match="cannot read the tokenizer"):
        TextToSpeech(models_dir=toy_folder, device="cpu", tokenizer_vocab_file=tmp_path / "gone.json")
    small = json.loads(tokenizer.core.to_str())
    small["model"]["vocab"] = {k: v for k, v in small["model"]["vocab"].items() if v < 30}
    small["model"]["merges"] = []
    file.write_text(json.dumps(small))
    shim = TextToSpeech(models_dir=toy_folder, device="cpu", tokenizer_vocab_file=file, tokenizer_basic=True)
    assert shim.synthesizer.model.tokenizer.vocabulary_size == 30
    assert shim.synthesizer.model.tokenizer.analyse("Dr. A").symbols == "dr. a"
