"""The cached loop against the naive one, alone and in company."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import toy

from chelys.inference.decode import Prompt, Take, code_limit, decode, decode_naively
from chelys.inference.options import SpeechOptions
from chelys.inference.synthesizer import Synthesizer, take_generator
from chelys.models.autoregressive import Autoregressive

GREEDY = SpeechOptions(temperature=0.0)
SAMPLED = SpeechOptions(temperature=0.8)
LIMIT = 24
SENTENCE = "one two three, hello there my old friend"
TEXTS = {1: "A", 40: SENTENCE, 400: ". ".join([SENTENCE] * 10)[:400]}
#: Long and short ones side by side; under greedy decoding some come to their end and some meet the limit.
RAGGED = ["A", SENTENCE, "Z", "hello", TEXTS[400][:150], "b"]


@pytest.fixture(scope="module")
def decoder(tts: Synthesizer) -> Autoregressive:
    return tts.model.autoregressive


def prompt(tts: Synthesizer, text: str, limit: int = LIMIT, voice: str = "low") -> Prompt:
    ids = torch.tensor(tts.model.tokenizer.encode(text))
    return Prompt(tts.resolve_voice(voice).autoregressive, ids, limit)


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [take_generator(seed, 0, take) for take in range(count)]


def same(one: Take, other: Take) -> bool:
    return torch.equal(one.codes, other.codes) and one.stopped == other.stopped


@pytest.mark.parametrize("length", [1, 40, 400])
def test_greedy_decoding_with_the_cache_agrees_with_the_naive_loop(
    tts: Synthesizer, decoder: Autoregressive, length: int
) -> None:
    text = TEXTS[length]
    assert len(text) == length
    given = prompt(tts, text)
    fast = decode(decoder, [given], GREEDY, generators(1))[0]
    slow = decode_naively(decoder, given, GREEDY, take_generator(0, 0, 0))
    assert same(fast, slow), (fast, slow)
    assert len(fast.codes) > 1


def test_sampling_with_the_cache_agrees_with_the_naive_loop(tts: Synthesizer, decoder: Autoregressive) -> None:
    given, options = prompt(tts, SENTENCE, 60), SpeechOptions(temperature=0.8, repetition_penalty=1.5)
    fast = decode(decoder, [given] * 4, options, generators(4))
    slow = [decode_naively(decoder, given, options, generator) for generator in generators(4)]
    assert all(map(same, fast, slow))
    assert len({len(take.codes) for take in fast}) > 1  # rows left the batch at different times


def test_a_batch_of_different_texts_gives_what_each_gives_alone(tts: Synthesizer, decoder: Autoregressive) -> None:
    prompts = [prompt(tts, text, LIMIT - i, "low" if i % 2 else "high") for i, text in enumerate(RAGGED)]
    together = decode(decoder, prompts, GREEDY, generators(len(prompts)))
    for given, take in zip(prompts, together, strict=True):
        assert same(take, decode(decoder, [given], GREEDY, generators(1))[0])
        assert same(take, decode_naively(decoder, given, GREEDY, take_generator(0, 0, 0)))
    assert {take.stopped for take in together} == {True, False}
    assert len({tuple(take.codes.tolist()) for take in together}) > len(RAGGED) // 2  # the text and the voice matter


def test_learned_positions_decode_alike(tts: Synthesizer) -> None:
    config = replace(tts.model.config.autoregressive, positions="learned", text_positions=60, code_positions=40)
    with torch.random.fork_rng(devices=[]):
        decoder = Autoregressive(config).eval()
    toy.stir(decoder, torch.Generator().manual_seed(5))
    prompts = [prompt(tts, text) for text in ("A", SENTENCE, "hello")]
    together = decode(decoder, prompts, GREEDY, generators(3))
    assert all(
        same(take, decode_naively(decoder, given, GREEDY, take_generator(0, 0, 0)))
        for given, take in zip(prompts, together, strict=True)
    )


def test_a_voice_that_differs_gives_other_codes(tts: Synthesizer, decoder: Autoregressive) -> None:
    takes = [decode(decoder, [prompt(tts, SENTENCE, voice=v)], GREEDY, generators(1))[0] for v in ("low", "high")]
    assert not torch.equal(takes[0].codes, takes[1].codes)


def test_the_seed_alone_decides_the_codes(tts: Synthesizer, decoder: Autoregressive) -> None:
    given = [prompt(tts, SENTENCE, 60)] * 3
    first, again = (decode(decoder, given, SAMPLED, generators(3)) for _ in range(2))
    other = decode(decoder, given, SAMPLED, generators(3, seed=1))
    assert all(map(same, first, again))
    assert not any(map(same, first, other))
    assert len({tuple(take.codes.tolist()) for take in first}) == 3


def test_a_take_is_the_same_however_many_are_sampled(tts: Synthesizer, decoder: Autoregressive) -> None:
    given = prompt(tts, SENTENCE, 60)
    many = decode(decoder, [given] * 7, SAMPLED, generators(7))
    for count in (1, 2, 4):
        assert all(map(same, many, decode(decoder, [given] * count, SAMPLED, generators(count))))


def test_equal_prompts_are_read_once(
    tts: Synthesizer, decoder: Autoregressive, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    prefill = decoder.prefill

    def counted(conditioning: torch.Tensor, *rest: object) -> object:
        rows.append(len(conditioning))
        return prefill(conditioning, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(decoder, "prefill", counted)
    decode(decoder, [prompt(tts, "A")] * 5, SAMPLED, generators(5))
    decode(decoder, [prompt(tts, "A"), prompt(tts, "b")], SAMPLED, generators(2))
    assert rows == [1, 2]


def test_limits_are_kept_and_told(tts: Synthesizer, decoder: Autoregressive) -> None:
    prompts = [prompt(tts, SENTENCE, limit) for limit in (1, 5, 2)]
    seen: list[tuple[int, int]] = []
    endless = with_stop(decoder, -100.0)
    takes = decode(endless, prompts, GREEDY, generators(3), progress=lambda done, of: seen.append((done, of)))
    assert [(len(take.codes), take.stopped) for take in takes] == [(1, False), (5, False), (2, False)]
    assert seen == [(n, 5) for n in range(1, 6)]


def test_no_take_is_empty_and_speech_starts_once(tts: Synthesizer, decoder: Autoregressive) -> None:
    hasty = with_stop(decoder, 100.0)
    with torch.no_grad():
        hasty.code_head.bias[decoder.config.start_code] = 200.0
    for options in (GREEDY, SAMPLED):
        take = decode(hasty, [prompt(tts, "A")], options, generators(1))[0]
        assert take.stopped and len(take.codes) == 1 and take.codes[0] < decoder.config.codes
        assert same(take, decode_naively(hasty, prompt(tts, "A"), options, take_generator(0, 0, 0)))


def test_only_runaways_meet_the_limit() -> None:
    # a second of slow speech, eight phonemes and a space, is 23.4 codes
    assert code_limit(9) >= 2 * 23.4
    assert code_limit(1) >= 24


def with_stop(decoder: Autoregressive, logit: float) -> Autoregressive:
    changed = copy.deepcopy(decoder)
    with torch.no_grad():
        changed.code_head.bias[decoder.config.stop_code] = logit
    return changed
