"""Text in, speech out: what the pipeline promises whatever the weights are."""

from __future__ import annotations

import importlib
import json
import logging
import random
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy

import chelys
from chelys.audio.io import read
from chelys.audio.rates import OUTPUT_RATE, SAMPLES_PER_CODE
from chelys.errors import TextError, UserError, VoiceError
from chelys.inference.options import NANO_PRESETS, SpeechOptions, parse_options
from chelys.inference.speech import Speech
from chelys.inference.synthesizer import Synthesizer
from chelys.inference.voice import Voice
from chelys.nn.attention import KVCache
from chelys.text.normalize import LONGEST_WORD
from chelys.text.split import PARAGRAPH_PAUSE_S, SENTENCE_PAUSE_S

QUICK = SpeechOptions(candidates=3, steps=2, temperature=0.8)
TEXT = "Hello there. One, two, three!"


@pytest.fixture
def speak(tts: Synthesizer) -> Callable[..., Speech]:
    """Speak with few takes and steps, seed 7 unless told otherwise."""

    def run(text: str = TEXT, **asked: Any) -> Speech:
        return tts.speak(text, **{"seed": 7, "options": QUICK, **asked})

    return run


def spoken_samples(codes: list[list[int]]) -> int:
    return sum(map(len, codes)) * SAMPLES_PER_CODE


# ---------------------------------------------------------------- what comes out


def test_speech_is_a_wave_of_as_many_samples_as_its_codes_and_pauses_take(speak: Callable[..., Speech]) -> None:
    speech = speak()
    assert speech.audio.dtype == np.float32 and speech.audio.ndim == 1 and speech.sample_rate == OUTPUT_RATE == 24_000
    assert np.abs(speech.audio).max() <= 1.0 and np.sqrt(np.mean(speech.audio**2)) > 0.01
    (take,) = speech.candidates
    assert speech.audio is take.audio and len(take.codes) == 2
    assert len(speech.audio) == spoken_samples(take.codes) + round(SENTENCE_PAUSE_S * OUTPUT_RATE)
    assert speech.seconds == len(speech.audio) / 24_000
    assert all(0 <= code < 48 for codes in take.codes for code in codes)


def test_it_can_be_saved(speak: Callable[..., Speech], tmp_path: Path) -> None:
    speech = speak()
    speech.save(tmp_path / "a.wav")
    np.testing.assert_allclose(read(tmp_path / "a.wav", OUTPUT_RATE), speech.audio, atol=2**-15)


def test_speak_is_stream_collected(tts: Synthesizer, speak: Callable[..., Speech]) -> None:
    chunks = list(tts.stream(TEXT, seed=7, options=QUICK, keep=2))
    speech = speak(keep=2)
    assert [chunk.text for chunk in chunks] == ["Hello there.", "One, two, three!"]
    for place in range(2):
        collected = np.concatenate([chunk.candidates[place].audio for chunk in chunks])
        np.testing.assert_array_equal(collected, speech.candidates[place].audio)
    np.testing.assert_array_equal(np.concatenate([chunk.audio for chunk in chunks]), speech.audio)
    assert [chunk.scores for chunk in chunks] == [sentence["scores"] for sentence in speech.receipt["sentences"]]


def test_a_text_goes_on_after_a_stop_with_the_same_samples(tts: Synthesizer, speak: Callable[..., Speech]) -> None:
    text, kept, whole = "Hello there. One, two, three! Four.", [], speak("Hello there. One, two, three! Four.", keep=2)

    def stop(chunk: Any) -> None:
        kept.append(chunk)
        if len(kept) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        speak(text, keep=2, on_chunk=stop)
    more: list[Any] = []
    resumed = speak(text, keep=2, spoken=kept, on_chunk=more.append)
    for place in range(2):
        np.testing.assert_array_equal(resumed.candidates[place].audio, whole.candidates[place].audio)
    assert resumed.receipt["sentences"] == whole.receipt["sentences"]
    assert [(chunk.sentence, chunk.sentences, chunk.complete) for chunk in (*kept, *more)] == [
        (place, 3, True) for place in range(3)
    ]
    (last,) = tts.stream(text, seed=7, options=QUICK, start=2)
    np.testing.assert_array_equal(last.audio, more[0].audio)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"text": None}, "the text is NoneType: give a str"),
        ({"text": b"Hello."}, "the text is bytes: give a str"),
        ({"seed": 1.5}, "seed is 1.5; it must be a whole number"),
        ({"seed": True}, "seed is True; it must be a whole number"),
        ({"keep": 1.5}, "keep is 1.5; it must be a whole number"),
        ({"options": None, "candidates": "2"}, "candidates is '2'; it must be a whole number"),
        ({"options": {}}, "options is dict: give SpeechOptions"),
        ({"options": None, "preset": 3}, "unknown preset 3"),
        ({"voice": 3}, "clip 1 is int: give a path, or a waveform"),
        ({"voice": []}, "no clips given"),
        ({"voice": np.zeros((2, 9))}, r"clip 1 has shape \(2, 9\)"),
    ],
)
def test_arguments_of_another_kind_are_one_line(speak: Callable[..., Speech], given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        speak(**given)
    assert "\n" not in str(error.value)


def test_options_of_another_kind_are_one_line(tts: Synthesizer) -> None:
    for name, value, said in (
        ("top_k", 1.5, "a whole number"), ("max_chars", 20.5, "a whole number"), ("temperature", "hot", "a number"),
        ("guidance_ramp", "x", "true or false"), ("temperature", True, "a number"), ("sampler", 3, "a word"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"{name} is {value!r}; it must be {said}"):
            tts.options(**{name: value})
    with pytest.raises(UserError, match="no option 'pitch': choose from candidates, batch"):
        tts.options(pitch=3)
    options = tts.options(top_k=np.int64(7), temperature=np.float32(0.5))
    assert json.dumps([options.top_k, options.temperature]) == "[7, 0.5]"


def test_clips_stand_for_a_voice_wherever_one_is_taken(tts: Synthesizer, speak: Callable[..., Speech]) -> None:
    clips = [toy.tone(180.0, 1.0), torch.from_numpy(toy.tone(190.0, 1.0))]
    voice = tts.voice(clips)
    for given in (clips, tuple(clips)):
        np.testing.assert_array_equal(speak(voice=given).audio, speak(voice=voice).audio)
    assert tts.resolve_voice(clips[0]).fingerprint == tts.voice([clips[0]]).fingerprint
    assert voice.about["pitch"] == pytest.approx(185, abs=6)


def test_the_log_has_choices_and_times_and_no_text_but_for_debugging(
    tts: Synthesizer, speak: Callable[..., Speech], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "chelys"):
        speak("Hello there.")
    lines = "\n".join(caplog.messages)
    for part in ("sentences in low, seed 7, 3 candidates", "sentence 1 of 1", "sampled", "ranked", "rendered", "spoke"):
        assert part in lines
    assert "Hello" not in lines
    with caplog.at_level(logging.DEBUG, "chelys"):
        speak("Hello there.")
    assert "'Hello there.' is read as " in "\n".join(caplog.messages)


def test_long_text_is_split_and_pauses_are_silent(tts: Synthesizer) -> None:
    chunks = list(tts.stream("Hello. One two.\n\nThree.", seed=1, options=QUICK))
    assert [chunk.text for chunk in chunks] == ["Hello.", "One two.", "Three."]
    for chunk, pause_s in zip(chunks, (SENTENCE_PAUSE_S, PARAGRAPH_PAUSE_S, 0.0), strict=True):
        spoken = spoken_samples(chunk.candidates[0].codes)
        assert len(chunk.audio) == spoken + round(pause_s * OUTPUT_RATE)
        assert not chunk.audio[spoken:].any() and chunk.audio[:spoken].any()


def test_no_piece_is_longer_than_asked(tts: Synthesizer) -> None:
    text = "one two three hello there " * 8
    chunks = list(tts.stream(text, seed=1, options=replace(QUICK, candidates=1, steps=1, max_chars=40)))
    assert len(chunks) > 5 and max(len(chunk.text) for chunk in chunks) <= 40
    assert " ".join(chunk.text for chunk in chunks).split() == text.split()


def test_a_sentence_sounds_the_same_whatever_follows(speak: Callable[..., Speech]) -> None:
    alone, followed = speak("Hello there."), speak("Hello there. One. Two.")
    np.testing.assert_array_equal(alone.audio, followed.audio[: len(alone.audio)])


# ---------------------------------------------------------------- seeds


def test_the_same_seed_gives_the_same_samples_whatever_was_asked_before(
    tts: Synthesizer, toy_folder: Path, speak: Callable[..., Speech]
) -> None:
    first = speak().audio
    speak("Something else.", seed=8, voice="high", keep=3)
    np.testing.assert_array_equal(first, speak().audio)
    np.testing.assert_array_equal(first, chelys.load(str(toy_folder)).speak(TEXT, seed=7, options=QUICK).audio)


def test_another_seed_voice_or_text_gives_another_take(speak: Callable[..., Speech]) -> None:
    takes = [speak(), speak(seed=8), speak(voice="high"), speak("Hello there. One, two!")]
    assert len({take.audio.tobytes() for take in takes}) == 4


def test_a_drawn_seed_is_in_the_receipt_and_gives_the_same_again(speak: Callable[..., Speech]) -> None:
    drawn, other = speak(seed=None), speak(seed=None)
    assert drawn.receipt["seed"] != other.receipt["seed"]
    np.testing.assert_array_equal(drawn.audio, speak(seed=drawn.receipt["seed"]).audio)


@pytest.mark.parametrize(
    "change",
    [{"temperature": 0.0}, {"temperature": 1.5}, {"top_k": 2}, {"top_p": 0.2}, {"repetition_penalty": 20.0},
     {"steps": 3}, {"guidance": 0.0}, {"diffusion_temperature": 0.5}],
    ids=str,
)  # fmt: skip
def test_every_knob_turns_something(speak: Callable[..., Speech], change: dict[str, Any]) -> None:
    text = "Hello there, my friend. One, two, and three."
    plain, changed = (speak(text, keep=3, options=replace(QUICK, **knobs)) for knobs in ({}, change))
    assert [take.audio.tobytes() for take in plain.candidates] != [take.audio.tobytes() for take in changed.candidates]


def test_global_random_state_is_neither_read_nor_written(toy_folder: Path, speak: Callable[..., Speech]) -> None:
    def states() -> tuple[bytes, str, str]:
        return torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), repr(random.getstate())

    with torch.random.fork_rng(devices=[]):
        waves = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            before = states()
            waves.append(chelys.load(str(toy_folder)).speak(TEXT, seed=7, options=QUICK).audio)
            speak(seed=None)
            assert states() == before
        np.testing.assert_array_equal(*waves)


# ---------------------------------------------------------------- many takes


def test_three_kept_takes_differ_and_the_best_comes_first(speak: Callable[..., Speech]) -> None:
    options = replace(QUICK, candidates=6)
    speech = speak("Hello there.", keep=3, options=options)
    scores = speech.receipt["sentences"][0]["scores"]
    assert len(scores) == 6
    kept = [take.score for take in speech.candidates]
    assert kept == sorted(scores, reverse=True)[:3] == speech.receipt["scores"]
    assert len({take.audio.tobytes() for take in speech.candidates}) == 3
    np.testing.assert_array_equal(speech.audio, speak("Hello there.", options=options).audio)


def test_a_take_sounds_the_same_however_many_were_sampled(speak: Callable[..., Speech]) -> None:
    def takes(count: int) -> dict[float, bytes]:
        speech = speak("Hello there.", keep=count, options=replace(QUICK, candidates=count))
        return {round(take.score, 5): take.audio.tobytes() for take in speech.candidates}

    few, many = takes(2), takes(5)
    assert len(many) == 5 and few.items() <= many.items()


def test_of_several_sentences_the_scores_are_means(speak: Callable[..., Speech]) -> None:
    speech = speak(keep=2)
    best = [sorted(sentence["scores"], reverse=True) for sentence in speech.receipt["sentences"]]
    assert speech.receipt["scores"] == pytest.approx([np.mean([scores[i] for scores in best]) for i in range(2)])


def test_a_preset_and_its_number_of_takes(tts: Synthesizer) -> None:
    receipt = tts.speak("A", preset="ultra_fast", candidates=3, seed=1).receipt
    assert len(receipt["sentences"][0]["scores"]) == 3 and receipt["preset"] == "ultra_fast"
    assert receipt["options"]["steps"] == NANO_PRESETS["ultra_fast"].steps
    assert tts.speak("A", options=QUICK, seed=1).receipt["preset"] is None


# ---------------------------------------------------------------- what is told


def test_the_receipt_is_ready_for_json(speak: Callable[..., Speech]) -> None:
    receipt = json.loads(json.dumps(speak(seed=np.int64(7), keep=2).receipt, allow_nan=False))
    assert receipt["text"] == TEXT and receipt["seed"] == 7 and receipt["voice"] == "low" and receipt["model"] == "toy"
    assert receipt["sample_rate"] == 24_000 and receipt["options"]["candidates"] == 3
    assert receipt["real_time_factor"] == pytest.approx(
        receipt["synthesis_seconds"] / receipt["seconds"], rel=0.02, abs=2e-3
    )
    assert [sentence["text"] for sentence in receipt["sentences"]] == ["Hello there.", "One, two, three!"]


@pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="no kernel for it here")
def test_the_receipt_names_the_weights_that_codes_were_sampled_with(tts: Synthesizer) -> None:
    halves = Synthesizer(tts.model)
    halves.sampling_weights = "float16"
    receipts = [each.speak("one two", seed=1, candidates=1).receipt for each in (tts, halves)]
    assert [receipt["sampling_weights"] for receipt in receipts] == ["float32", "float16"]
    assert receipts[0]["model_hash"] != receipts[1]["model_hash"]


def test_the_original_is_sampled_with_the_weights_it_had(tts: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chelys.inference.synthesizer.best_weights", lambda decoder: "float16")
    assert Synthesizer(tts.model).sampling_weights == "float16"
    assert Synthesizer(tts.model, compat="reference").sampling_weights == "float32"


def test_sentences_sound_the_same_where_memory_runs_out(
    tts: Synthesizer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wanted, real = tts.speak("Hello there. One two. Three!", seed=3), KVCache.repeated

    def repeated(cache: KVCache, rows: int, capacity: int) -> KVCache:
        if rows > 3:
            raise MemoryError
        return real(cache, rows, capacity)

    monkeypatch.setattr(KVCache, "repeated", repeated)
    with caplog.at_level("WARNING"):
        found = Synthesizer(tts.model).speak("Hello there. One two. Three!", seed=3)
    np.testing.assert_array_equal(found.audio, wanted.audio)
    assert [message.partition(":")[0] for message in caplog.messages] == [
        f"out of memory with {rows} candidates at a time, goes on with {rows // 2}" for rows in (24, 8, 4)
    ]


def test_what_is_dropped_is_told_once(speak: Callable[..., Speech]) -> None:
    speech = speak("Hello 😀 there. One 😀 two 漢.")
    assert [warning for warning in speech.warnings if "dropped" in warning] == ["dropped what cannot be spoken: 😀漢"]
    np.testing.assert_array_equal(speech.audio, speak("Hello there. One two.").audio)
    assert speak("Hello there. One two.").warnings == []


def test_takes_that_met_the_limit_are_told_of(speak: Callable[..., Speech], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chelys.inference.synthesizer.default_max_new_tokens", lambda ids: 1)
    speech = speak("Hello there.")
    assert speech.warnings == ["no candidate came to its end: 'Hello there.' may be cut or ramble"]
    assert len(speech.audio) == SAMPLES_PER_CODE


def test_progress_tells_every_step_of_every_sentence(speak: Callable[..., Speech]) -> None:
    told: list[tuple[str, int, int]] = []
    speak(keep=2, progress=lambda *figures: told.append(figures))
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == [
        "sampling 1/2", "rendering 1/2", "sampling 2/2", "rendering 2/2"
    ]  # fmt: skip
    assert [told for told in told if told[0] == "rendering 2/2"] == [("rendering 2/2", n, 2) for n in (1, 2)] * 2
    assert all(1 <= done <= of for _, done, of in told)
    told.clear()
    speak("Hello.", progress=lambda *figures: told.append(figures))
    assert {stage for stage, _, _ in told} == {"sampling", "rendering"}


def test_half_the_precision_speaks_as_well(toy_folder: Path) -> None:
    speech = chelys.load(str(toy_folder), dtype="bfloat16").speak("Hello there.", seed=7, options=QUICK, keep=2)
    assert speech.audio.dtype == np.float32 and np.isfinite(speech.audio).all() and speech.audio.any()


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"text": ""}, TextError, "the text is empty: give at least one word to speak"),
        ({"text": " \n\t "}, TextError, "the text is empty"),
        ({"text": "😀 🐢"}, TextError, "nothing in the text '😀 🐢' can be spoken: give English words or figures"),
        ({"text": "漢字"}, TextError, "can be spoken: give English words"),
        ({"text": "?! ... -"}, TextError, "can be spoken: give English words"),
        ({"text": "\udce9"}, TextError, "can be spoken: give English words"),
        ({"text": "a" * 10_000}, TextError, f"has 10000 letters, the longest that is spoken {LONGEST_WORD}"),
        ({"text": "Hello. " + "ab" * 5_000}, TextError, "has 10000 letters"),
        ({"voice": "nobody"}, VoiceError, "unknown voice 'nobody': choose from low, high, or give a voice file"),
        ({"voice": ""}, VoiceError, "unknown voice '': choose from low, high"),
        ({"voice": "x" * 5_000}, VoiceError, "choose from low, high"),
        ({"voice": "~nobody/at/home"}, VoiceError, "choose from low, high"),
        ({"voice": "a\0b"}, VoiceError, "choose from low, high"),
        ({"voice": "../low"}, VoiceError, "choose from low, high"),
        ({"voice": "gone.safetensors"}, VoiceError, "unknown voice 'gone.safetensors'"),
        ({"voice": "low:x+high:1"}, VoiceError, "'low:x' is no part of a mix"),
        ({"voice": "low:nan+high:1"}, VoiceError, "a mix needs a weight of 0 or more"),
        ({"voice": "low:0+high:0"}, VoiceError, "a mix needs a weight of 0 or more"),
        ({"voice": "low+nobody"}, VoiceError, "unknown voice 'nobody'"),
        ({"keep": 4}, UserError, "keep is 4; it must lie between 1 and the number of candidates, 3"),
        ({"keep": 0}, UserError, "keep is 0"),
        ({"seed": -1}, UserError, "seed is -1; it must lie between 0 and"),
        ({"seed": 2**32}, UserError, "it must lie between 0 and"),
        ({"options": None, "preset": "slow"}, UserError, "unknown preset 'slow': choose from ultra_fast, fast"),
        ({"options": None, "candidates": 0}, UserError, "candidates is 0; it must lie between 1 and"),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, dict) else "",
)
def test_mistakes_are_one_line_and_found_out_at_once(
    tts: Synthesizer, speak: Callable[..., Speech], asked: dict[str, Any], error: type[Exception], said: str
) -> None:
    for run in (speak, lambda **asked: tts.stream(**{"text": TEXT, "seed": 7, "options": QUICK, **asked})):
        with pytest.raises(error) as raised:
            run(**asked)
        message = str(raised.value)
        assert said in message and "\n" not in message


def test_the_longest_word_that_is_spoken_comes_to_an_end(speak: Callable[..., Speech]) -> None:
    speech = speak("ab" * (LONGEST_WORD // 2), options=SpeechOptions(candidates=1, steps=1))
    assert 0 < speech.seconds < 60


def test_a_model_without_voices_says_so(
    toy_copy: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = toy_copy()
    for file in (folder / "voices").iterdir():
        file.unlink()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    bare = Synthesizer.from_folder(folder)
    for voice in (None, "low"):
        with pytest.raises(VoiceError, match="give a voice file, a clip(,| or) a folder of clips"):
            bare.speak("Hello.", voice=voice)


# ---------------------------------------------------------------- options


@pytest.mark.parametrize("given", [{"candidates": 5}, {"preset": "fast"}])
def test_options_beside_a_keyword_are_refused(tts: Synthesizer, given: dict[str, Any]) -> None:
    for run in (tts.speak, tts.stream):
        with pytest.raises(UserError, match=f"{next(iter(given))} and options are both given"):
            run("Hello.", options=SpeechOptions(candidates=2), **given)


def test_old_names_of_options_warn_and_work(tts: Synthesizer) -> None:
    with pytest.warns(DeprecationWarning, match="most_codes.* use max_new_tokens"):
        assert SpeechOptions(most_codes=9).max_new_tokens == 9  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match="longest"):
        assert tts.options("fast", longest=50).max_chars == 50
    with pytest.warns(DeprecationWarning, match="use max_chars"):
        assert SpeechOptions().longest == 100
    with pytest.warns(DeprecationWarning, match="max_new_tokens"):
        assert parse_options(["most_codes=7"]) == {"max_new_tokens": 7}


def test_codes_that_a_user_limits_are_as_few(speak: Callable[..., Speech]) -> None:
    speech = speak("Hello there.", options=replace(QUICK, max_new_tokens=2))
    assert len(speech.candidates[0].codes[0]) <= 2


@pytest.mark.parametrize(
    ("old", "name", "new"),
    [
        ("chelys.inference.decode", "Take", "chelys.inference.generation.CodeCandidate"),
        ("chelys.inference.denoise", "denoise", "chelys.inference.diffusion_sampling.sample_mel"),
        ("chelys.inference.rerank", "ranked", "chelys.inference.reranking.rank"),
        ("chelys.inference.voice_shelf", "user_folder", "chelys.inference.voice_files.user_folder"),
        ("chelys.models.schedule", "Process", "chelys.models.diffusion_schedule.DiffusionSchedule"),
        ("chelys.models.gaussian", "noise_of_clean", "chelys.models.diffusion_schedule.predict_eps"),
        ("chelys.models.harmonic_source", "pulses", "chelys.models.vocos.pulses"),
    ],
)
def test_old_modules_and_their_names_warn_and_work(old: str, name: str, new: str) -> None:
    home, _, attribute = new.rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"{old} is deprecated .* use {home}"):
        sys.modules.pop(old, None)
        module = importlib.import_module(old)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = getattr(module, name)
    assert found is getattr(importlib.import_module(home), attribute)
    assert [new in str(warning.message) for warning in caught] == ([] if name == attribute else [True])


# ---------------------------------------------------------------- documents


def test_a_document_sounds_as_its_text(tts: Synthesizer, speak: Callable[..., Speech]) -> None:
    document = tts.read_text(TEXT)
    assert [one.spoken for one in document.sentences] == ["hello there.", "one, two, three!"]
    speech = speak(document)
    np.testing.assert_array_equal(speech.audio, speak().audio)
    assert speech.receipt["text"] == TEXT


def test_pauses_are_as_long_as_the_text_asks(speak: Callable[..., Speech]) -> None:
    speech = speak("[pause:0.123]Hello [pause:0.8] there. [pause:50ms]", keep=2)
    for candidate in speech.candidates:
        first, second = (len(codes) * SAMPLES_PER_CODE for codes in candidate.codes)
        pauses = [round(seconds * OUTPUT_RATE) for seconds in (0.123, 0.8, 0.05)]
        assert len(candidate.audio) == first + second + sum(pauses)
        middle = pauses[0] + first
        for start, length in ((0, pauses[0]), (middle, pauses[1]), (len(candidate.audio) - pauses[2], pauses[2])):
            assert not candidate.audio[start : start + length].any()
        assert candidate.audio[pauses[0]] and candidate.audio[middle - 1] and candidate.audio[middle + pauses[1]]


def test_warnings_of_the_text_come_with_the_first_chunk(tts: Synthesizer) -> None:
    chunks = list(tts.stream("Hello. [laugh] There [rate:2] 漢.", seed=7, options=QUICK))
    assert [len(chunk.warnings) for chunk in chunks] == [3] + [0] * (len(chunks) - 1)


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.25, 2.0])
def test_the_pace_stretches_speech_and_leaves_codes_and_pauses(speak: Callable[..., Speech], speed: float) -> None:
    plain, paced = speak(), speak(options=replace(QUICK, speed=speed))
    assert paced.candidates[0].codes == plain.candidates[0].codes
    pause, patch = round(SENTENCE_PAUSE_S * OUTPUT_RATE), 2 * 256
    assert len(paced.audio) - pause == pytest.approx((len(plain.audio) - pause) / speed, abs=2 * patch)
    assert np.isfinite(paced.audio).all() and paced.audio.any()


def test_the_pace_of_a_part_joins_that_of_the_whole(speak: Callable[..., Speech]) -> None:
    text = '<speak><prosody rate="slow">Hello there.</prosody> <prosody rate="fast">One two.</prosody></speak>'
    parts = [speak("Hello there.", options=replace(QUICK, speed=0.6)), speak(text, options=replace(QUICK, speed=0.8))]
    np.testing.assert_array_equal(parts[1].audio[: len(parts[0].audio)], parts[0].audio)
    with pytest.raises(UserError, match="speed is 3"):
        speak(options=None, preset="ultra_fast", speed=3.0)
    with pytest.raises(UserError, match="speed and options are both given"):
        speak(speed=1.0)


def test_a_text_changes_voices(speak: Callable[..., Speech]) -> None:
    mixed = speak("Hello there. [voice:high] One two. [voice:] One two.", voice="low")
    sentences = [speak("Hello there.", voice="low"), None, None]
    start = len(sentences[0].audio) + round(SENTENCE_PAUSE_S * OUTPUT_RATE)  # type: ignore[union-attr]
    np.testing.assert_array_equal(mixed.audio[: len(sentences[0].audio)], sentences[0].audio)  # type: ignore[union-attr]
    same = speak("Hello there. One two. One two.", voice="low")
    assert not np.array_equal(mixed.audio[start : start + 5000], same.audio[start : start + 5000])
    high = speak("Hello there. One two. One two.", voice="high")
    first = len(speak("Hello there.", voice="high").audio) + round(SENTENCE_PAUSE_S * OUTPUT_RATE)
    np.testing.assert_array_equal(mixed.audio[start : start + 5000], high.audio[first : first + 5000])


@pytest.mark.parametrize("name", ["nobody", "../voices", "low.safetensors", "random:1", "low+high", "/etc/passwd"])
def test_a_text_names_voices_and_no_paths(speak: Callable[..., Speech], name: str) -> None:
    with pytest.raises(VoiceError, match="the text asks for a voice"):
        speak(f"Hello. [voice:{name}] There.")


def test_a_voice_gives_its_mean_spectrum_to_the_mel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = toy.config()
    monkeypatch.setattr(
        toy, "config", lambda name="toy": replace(sizes, diffusion=replace(sizes.diffusion, clip_mean=True))
    )
    tts = Synthesizer.from_folder(toy.make(tmp_path / "model"))
    voice, latents = tts.voices["low"], torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0))

    def mel(voice: Voice, **given: Any) -> torch.Tensor:
        return tts.mel(latents, voice, torch.Generator().manual_seed(1), QUICK, 20, **given)

    spectrum = torch.linspace(-0.1, 0.1, 100)
    added = torch.cat((torch.zeros(64), spectrum))
    plain, moved = mel(voice), mel(replace(voice, diffusion=voice.diffusion + added))
    low, high = tts.model.config.mel_range.bounds
    inside = (plain > low + 0.1) & (plain < high - 0.1)
    torch.testing.assert_close(
        (moved - plain)[inside], spectrum[:, None].expand(100, 20)[None][inside], atol=1e-4, rtol=0
    )
    assert inside.float().mean() > 0.4
    known = torch.rand(1, 100, 8)
    torch.testing.assert_close(mel(voice, known=known)[:, :, :8], known)
    assert len(tts.speak(TEXT, voice=voice, seed=1, options=QUICK).audio)
