"""Bracket prompts: what is parsed, where each character is found, what is kept of the audio."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import MissingExtra, ModelError, TextError
from chelys.inference.options import SpeechOptions
from chelys.inference.synthesizer import Synthesizer
from chelys.text.document import Sentence
from chelys.text.normalize import normalize
from chelys.tortoise import redact
from chelys.tortoise.redact import (
    Piece,
    Wav2Vec2Aligner,
    align_text,
    has_prompt,
    join_prompts,
    parse,
    reference_starts,
    spans,
    spoken,
)

FRAME = 480  # samples: 20 ms


class Speller:
    """Hears each character for as long as the wave says it: see ``say``."""

    def __init__(self, frames: list[str]) -> None:
        self.heard = frames

    def frames(self, wave: np.ndarray) -> list[str]:
        return self.heard


def say(said: str, *, letter: int = 3, pause: int = 10) -> tuple[np.ndarray, list[str], list[int]]:
    """A wave in which each letter sounds for a few frames, at a level of its own, and spaces and points are silent.

    As CTC networks do, the speller spells a letter in its first frame alone, and a space in the middle of a pause.

    Returns:
        The wave, what is heard in it frame by frame, and the first sample of each character.
    """
    waves, frames, starts = [], [], []
    time = np.arange(letter * FRAME) / OUTPUT_RATE
    for place, character in enumerate(said):
        starts.append(len(frames) * FRAME)
        if character.isalpha():
            waves.append((0.2 + 0.01 * place) * np.sin(2 * np.pi * 220 * time))
            frames += [character, *[""] * (letter - 1)]
        else:
            waves.append(np.zeros(pause * FRAME))
            frames += [""] * (pause // 2) + ([" "] if character == " " else [""]) + [""] * (pause - pause // 2 - 1)
    return np.concatenate(waves).astype(np.float32), frames, starts


def cut(text: str, said: str | None = None, **settings: Any) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """What is left of a spoken text, the whole of it, and where its characters began."""
    wave, frames, starts = say(spoken(text).lower() if said is None else said)
    settings.setdefault("clean", lambda part: normalize(part).text)
    return redact.redact(wave, text, Speller(frames), **settings), wave, starts


def loudness(wave: np.ndarray) -> float:
    return float(np.square(wave, dtype=np.float64).sum())


# ---------------------------------------------------------------- text


def test_a_text_is_cut_at_its_brackets() -> None:
    assert parse("[I am sad,] Please [do] feed me.") == [
        Piece("I am sad,", False),
        Piece(" Please ", True),
        Piece("do", False),
        Piece(" feed me.", True),
    ]
    assert parse("None here.") == [Piece("None here.", True)] and not has_prompt("None [] here.")
    assert has_prompt("One [here].") and spoken("One [here].") == "One here."


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Say [this", "'[this' has no ']' behind it"),
        ("Say this] now", "'] now' has no '[' before it"),
        ("Say [this [and] that] now", "'[and] that] now' opens a bracket within another"),
        ("[Say] this] now", "'] now' has no '[' before it"),
        ("[All of it.] ...", "all of the text stands in [brackets]"),
    ],
)
def test_brackets_without_partners_are_refused_in_one_line(text: str, fault: str) -> None:
    with pytest.raises(TextError) as refusal:
        parse(text)
    assert fault in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_prompt_is_not_parted_from_what_it_colours() -> None:
    pieces = ["Hello.", "[I am sad.", "So sad.]", "Please.", "[Really!]"]
    joined = join_prompts([Sentence(text, 0.1 * place) for place, text in enumerate(pieces)])
    assert [sentence.text for sentence in joined] == ["Hello.", "[I am sad. So sad.] Please. [Really!]"]
    assert joined[1].pause_s == pytest.approx(0.4)
    plain = [Sentence("One.", 0.2), Sentence("Two.", 0.0)]
    assert join_prompts(plain) == plain


# ---------------------------------------------------------------- alignment


def test_b6_aligning_a_long_text_needs_no_recursion() -> None:
    expected = "the cat sat " * 300
    assert len(expected) > 3 * sys.getrecursionlimit()
    aligned = align_text(expected.replace("c", "k"), expected)
    assert aligned == expected.replace("c", "~")


def test_characters_that_were_not_heard_share_the_time_between_their_neighbours() -> None:
    frames = ["a", "", "", "", "", "", "", "d", "d", ""]
    starts, ends = spans(frames, "abcd", 100)
    assert starts == [0, 10, 40, 70] and ends == [10, 40, 70, 90]
    assert spans([], "ab", 100) == ([0, 50], [50, 100])
    assert reference_starts(frames, "abcd", 100) == [0, 23, 46, 70]


# ---------------------------------------------------------------- audio


def test_a_text_without_brackets_is_left_alone() -> None:
    left, wave, _ = cut("please feed me")
    assert left is not None and np.array_equal(left, wave)


@pytest.mark.parametrize("text", ["[so sad] feed me", "feed me [so sad]", "feed [so sad] me", "[so] feed [sad] me"])
def test_b6_the_last_letter_and_the_tail_of_the_audio_are_kept(text: str) -> None:
    left, wave, starts = cut(text)
    place, kept = 0, 0.0
    for piece in parse(text):
        for character in piece.text:
            if piece.kept and not character.isspace():
                kept += loudness(wave[starts[place] : starts[place] + 3 * FRAME])
            place += 1
    assert loudness(left) == pytest.approx(kept, rel=1e-6)
    if text.endswith("me"):
        assert np.array_equal(left[-FRAME:], wave[-FRAME:])


def test_reference_ends_where_the_last_character_begins() -> None:
    left, wave, starts = cut("[so sad] feed me", reference=True)
    space = starts[len("so sad")] + 5 * FRAME  # where it is spelled
    assert np.array_equal(left, wave[space : starts[len("so sad feed m")]])
    left, wave, starts = cut("feed [so sad] me", reference=True)
    first, second = starts[4] + 5 * FRAME, starts[len("feed so sad")] + 5 * FRAME
    assert np.array_equal(left, np.concatenate((wave[:first], wave[second : starts[len("feed so sad m")]])))


def test_reference_survives_a_prompt_at_the_very_end() -> None:
    left, wave, starts = cut("feed me [sad]", reference=True)
    assert np.array_equal(left, wave[: starts[len("feed me")] + 5 * FRAME])


def test_b6_numbers_are_sought_as_the_words_that_are_spoken() -> None:
    left, wave, starts = cut("[I have 12] 7 times", said="i have twelve seven times")
    words = loudness(wave[starts[len("i have twelve")] :])
    assert loudness(left) == pytest.approx(words, rel=1e-6)


def test_a_cut_is_put_where_it_is_quiet_and_does_not_click() -> None:
    wave, frames, starts = say("sadfeed")
    wave[starts[3] - 700 : starts[3] - 300] *= 0.01  # the end of the d dies away
    left = redact.redact(wave, "[sad]feed", Speller(frames), clean=str)
    dropped = len(wave) - len(left)
    assert starts[3] - 700 < dropped < starts[3] - 300
    wave = np.ones_like(wave)
    left = redact.redact(wave, "sa[df]eed", Speller(frames), clean=str)
    assert left[0] == left[-1] == 1 and left.min() == 0 and np.abs(np.diff(left)).max() < 0.01
    assert wave.min() == 1, "the wave that was given must stay as it is"


def test_what_was_misheard_is_told(caplog: pytest.LogCaptureFixture) -> None:
    wave, frames, _ = say("zzzzzzz zzzz zz")
    left = redact.redact(wave, "[so sad] feed me", Speller(frames), clean=str)
    assert 0 < len(left) < len(wave) and "letters were not found" in caplog.text


def test_a_mishearing_does_not_move_the_cut() -> None:
    right, wave, starts = cut("[i am so sad,] please feed me")
    wrong, _, _ = cut("[i am so sad,] please feed me", said="i am so zat, blease feed me")
    kept = loudness(wave[starts[len("i am so sad,")] :])
    assert loudness(right) == pytest.approx(kept, rel=1e-6) and loudness(wrong) == pytest.approx(kept, rel=1e-6)


def test_speech_is_redacted_sentence_by_sentence(tts: Synthesizer, caplog: pytest.LogCaptureFixture) -> None:
    """The aligner hears the letters of each sentence in even steps, whatever the toy model says."""
    said: list[str] = []

    class Even:
        def frames(self, wave: np.ndarray) -> list[str]:
            letters = normalize(spoken(said.pop(0))).text.lower()
            return [letter for letter in letters for _ in range(8)]

    options = SpeechOptions(candidates=2, steps=1, temperature=0.8)
    text = "Hello there. [One, two,] three. [One."
    speaker = Synthesizer(tts.model, aligner=Even())
    with pytest.raises(TextError, match="no ']' behind it"):
        speaker.speak(text, seed=1, options=replace(options, redact=True))
    text = text.removesuffix(" [One.")
    whole = list(speaker.stream(text, seed=1, options=options))
    said.append("[One, two,] three.")
    left = list(speaker.stream(text, seed=1, options=replace(options, redact=True)))
    assert np.array_equal(left[0].audio, whole[0].audio), "nothing is cut where nothing stands in brackets"
    said.append("[One, two,] three.")
    cut = redact.redact(whole[1].audio, "[One, two,] three.", Even(), clean=lambda part: normalize(part).text)
    assert np.array_equal(left[1].audio, cut) and 0 < len(cut) < len(whole[1].audio)
    assert "not found" not in caplog.text, "what is sought must be letters, though the model reads phonemes"


# ---------------------------------------------------------------- the published aligner


class TinySymbols:
    """What the adapter asks of a tokenizer: blank, word delimiter, letters."""

    pad_token_id, word_delimiter_token_id = 0, 1
    all_special_ids = [0, 1]  # some versions count the delimiter among them, some do not

    def __len__(self) -> int:
        return 4

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [["<pad>", "|", "A", "B"][i] for i in ids]


class TinyNetwork(torch.nn.Module):
    """Spells the sign of the mean of every 20 ms."""

    config = SimpleNamespace(pad_token_id=0)

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.heard: list[torch.Tensor] = []

    def forward(self, heard: torch.Tensor) -> Any:
        self.heard.append(heard)
        frames = heard[0, : heard.shape[1] // 320 * 320].reshape(-1, 320).mean(1)
        logits = torch.stack([0.1 - frames.abs(), torch.full_like(frames, -9), frames, -frames, frames - 9], -1)
        return SimpleNamespace(logits=logits[None])


def test_the_adapter_hears_at_16_khz_normalised_and_spells_in_lower_case() -> None:
    network = TinyNetwork()
    wave = np.repeat(np.array([1, -1, 1, -1], np.float32), 12_000) + 5
    heard = Wav2Vec2Aligner(network, TinySymbols()).frames(wave)
    assert len(heard) == 100 and heard[5] == "a" and heard[30] == "b" and set(heard) <= {"a", "b", "", " "}
    (given,) = network.heard
    assert given.shape == (1, 32_000) and abs(given.mean()) < 1e-4 and given.var() == pytest.approx(1, abs=1e-3)
    assert not network.training


@pytest.mark.parametrize("length", [1, 100])
def test_the_adapter_takes_waves_shorter_than_its_convolutions(length: int) -> None:
    heard = Wav2Vec2Aligner(TinyNetwork(), TinySymbols()).frames(np.ones(length, np.float32))
    assert len(heard) == 1


def test_b6_the_aligner_stays_on_the_device_it_is_given() -> None:
    network = TinyNetwork()
    Wav2Vec2Aligner(network, TinySymbols()).frames(np.ones(9_600, np.float32))
    assert network.heard[0].device == network.weight.device == torch.device("cpu")


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"pip install 'chelys\[align\]'$"):
        Wav2Vec2Aligner.load()


def test_without_network_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable:
        @classmethod
        def from_pretrained(cls, name: str) -> None:
            raise OSError(f"We couldn't connect to load {name}.\nCheck your connection.")

    fake = SimpleNamespace(Wav2Vec2ForCTC=Unreachable, Wav2Vec2CTCTokenizer=Unreachable)
    monkeypatch.setitem(sys.modules, "transformers", fake)
    with pytest.raises(ModelError) as refusal:
        Wav2Vec2Aligner.load()
    assert "couldn't connect" in str(refusal.value) and "\n" not in str(refusal.value)


def test_the_real_classes_are_driven_as_they_want_to_be(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGH"]
    (tmp_path / "vocab.json").write_text("{" + ", ".join(f'"{c}": {i}' for i, c in enumerate(letters)) + "}")
    symbols = transformers.Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))
    symbols.save_pretrained(tmp_path)
    sizes = transformers.Wav2Vec2Config(
        vocab_size=len(letters), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, pad_token_id=0,
    )  # fmt: skip
    transformers.Wav2Vec2ForCTC(sizes).save_pretrained(tmp_path)
    aligner = Wav2Vec2Aligner.load(network=str(tmp_path), symbols=str(tmp_path))
    assert aligner.characters == ["", "", "", "", " ", *"abcdefgh"]
    assert len(aligner.frames(np.random.default_rng(0).standard_normal(OUTPUT_RATE).astype(np.float32))) == 49
