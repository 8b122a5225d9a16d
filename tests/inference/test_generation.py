"""The cached loop against the naive one, alone and in company."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import toy

from chelys.errors import TextError, UserError
from chelys.inference import generation
from chelys.inference.generation import (
    CodeCandidate,
    CodeSampler,
    DecodingRules,
    Prompt,
    default_max_new_tokens,
    generate,
    generate_stream,
    generate_uncached,
)
from chelys.inference.options import SpeechOptions
from chelys.inference.synthesizer import Synthesizer, candidate_generator
from chelys.models.autoregressive import Autoregressive
from chelys.models.code_reader import CodeReader, row_bytes
from chelys.nn.attention import KVCache
from chelys.tortoise.model import SilenceTrimming
from chelys.tortoise.speaking import decoding_rules

GREEDY = SpeechOptions(temperature=0.0, repetition_penalty=1.0)
SAMPLED = SpeechOptions(temperature=0.8, repetition_penalty=1.0)
ORIGINAL = decoding_rules(None, reference=True)
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
    return [candidate_generator(seed, 0, take) for take in range(count)]


def same(one: CodeCandidate, other: CodeCandidate) -> bool:
    return torch.equal(one.codes, other.codes) and one.stopped == other.stopped


@pytest.mark.parametrize("length", [1, 40, 400])
def test_greedy_decoding_with_the_cache_agrees_with_the_naive_loop(
    tts: Synthesizer, decoder: Autoregressive, length: int
) -> None:
    text = TEXTS[length]
    assert len(text) == length
    given = prompt(tts, text)
    fast = generate(decoder, [given], GREEDY, generators(1))[0]
    slow = generate_uncached(decoder, given, GREEDY, candidate_generator(0, 0, 0))
    assert same(fast, slow), (fast, slow)
    assert len(fast.codes) > 1


def test_sampling_with_the_cache_agrees_with_the_naive_loop(tts: Synthesizer, decoder: Autoregressive) -> None:
    given, options = prompt(tts, SENTENCE, 60), SpeechOptions(temperature=0.8, repetition_penalty=1.5)
    fast = generate(decoder, [given] * 4, options, generators(4))
    slow = [generate_uncached(decoder, given, options, generator) for generator in generators(4)]
    assert all(map(same, fast, slow))
    assert len({len(take.codes) for take in fast}) > 1  # rows left the batch at different times


def test_a_batch_of_different_texts_gives_what_each_gives_alone(tts: Synthesizer, decoder: Autoregressive) -> None:
    prompts = [prompt(tts, text, LIMIT - i, "low" if i % 2 else "high") for i, text in enumerate(RAGGED)]
    together = generate(decoder, prompts, GREEDY, generators(len(prompts)))
    for given, take in zip(prompts, together, strict=True):
        assert same(take, generate(decoder, [given], GREEDY, generators(1))[0])
        assert same(take, generate_uncached(decoder, given, GREEDY, candidate_generator(0, 0, 0)))
    assert {take.stopped for take in together} == {True, False}
    assert len({tuple(take.codes.tolist()) for take in together}) > len(RAGGED) // 2  # the text and the voice matter


@pytest.fixture(scope="module")
def learned(tts: Synthesizer) -> Autoregressive:
    """A decoder with tables of positions, which end."""
    config = replace(tts.model.config.autoregressive, positions="learned", text_positions=60, code_positions=40)
    with torch.random.fork_rng(devices=[]):
        network = Autoregressive(config).eval()
    toy.stir(network, torch.Generator().manual_seed(5))
    return network.requires_grad_(False)  # as a model that is loaded to speak


def test_b1_the_cached_loop_counts_positions_as_training_does(tts: Synthesizer, learned: Autoregressive) -> None:
    prompts = [prompt(tts, text) for text in ("A", SENTENCE, "hello")]
    together = generate(learned, prompts, GREEDY, generators(3))
    assert all(
        same(take, generate_uncached(learned, given, GREEDY, candidate_generator(0, 0, 0)))
        for given, take in zip(prompts, together, strict=True)
    )


def test_b1_the_cached_loop_of_the_original_did_not(tts: Synthesizer, learned: Autoregressive) -> None:
    given, learned = prompt(tts, SENTENCE), copy.deepcopy(learned)
    with torch.no_grad():
        learned.code_head.bias[learned.config.start_code] = -100.0  # the original might say it
    one, other = (
        generate(learned, [given], GREEDY, generators(1), rules=r)[0].codes for r in (DecodingRules(), ORIGINAL)
    )
    assert one[0] == other[0]  # it is drawn before any code is read
    assert not torch.equal(one, other)
    # a table without its second row leads the right loop to where the original's went
    moved = copy.deepcopy(learned)
    with torch.no_grad():
        table = moved.code_position.weight
        table[1:-1] = table[2:].clone()
    assert torch.equal(generate(moved, [given], GREEDY, generators(1))[0].codes, other)


def test_a_voice_that_differs_gives_other_codes(tts: Synthesizer, decoder: Autoregressive) -> None:
    takes = [generate(decoder, [prompt(tts, SENTENCE, voice=v)], GREEDY, generators(1))[0] for v in ("low", "high")]
    assert not torch.equal(takes[0].codes, takes[1].codes)


def test_the_seed_alone_decides_the_codes(tts: Synthesizer, decoder: Autoregressive) -> None:
    given = [prompt(tts, SENTENCE, 60)] * 3
    first, again = (generate(decoder, given, SAMPLED, generators(3)) for _ in range(2))
    other = generate(decoder, given, SAMPLED, generators(3, seed=1))
    assert all(map(same, first, again))
    assert not any(map(same, first, other))
    assert len({tuple(take.codes.tolist()) for take in first}) == 3


def test_a_take_is_the_same_however_many_are_sampled(tts: Synthesizer, decoder: Autoregressive) -> None:
    given = prompt(tts, SENTENCE, 60)
    many = generate(decoder, [given] * 7, SAMPLED, generators(7))
    for count in (1, 2, 4):
        assert all(map(same, many, generate(decoder, [given] * count, SAMPLED, generators(count))))


@pytest.mark.parametrize(("count", "batch"), [(96, 64), (5, 64), (7, 3), (3, 1)])
def test_b3_every_take_is_sampled_whatever_the_batch(
    tts: Synthesizer, decoder: Autoregressive, count: int, batch: int
) -> None:
    prompts = [prompt(tts, SENTENCE, 12)] * count
    told: list[tuple[int, int]] = []
    takes = generate(
        decoder, prompts, replace(SAMPLED, batch=batch), generators(count), progress=lambda _, *done: told.append(done)
    )
    assert len(takes) == count
    assert len({tuple(take.codes.tolist()) for take in takes}) > count // 2
    assert all(map(same, takes, generate(decoder, prompts, replace(SAMPLED, batch=1024), generators(count))))
    assert told == sorted(set(told))
    assert {most for _, most in told} == {-(-count // batch) * 12}


def test_different_texts_in_batches_stay_in_order(tts: Synthesizer, decoder: Autoregressive) -> None:
    prompts = [prompt(tts, text, LIMIT - i) for i, text in enumerate(RAGGED)]
    whole, parts = (generate(decoder, prompts, replace(GREEDY, batch=b), generators(len(RAGGED))) for b in (16, 4))
    assert all(map(same, whole, parts))


def test_equal_prompts_are_read_once(
    tts: Synthesizer, decoder: Autoregressive, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    read_prompt = decoder.read_prompt

    def counted(conditioning: torch.Tensor, *rest: object) -> object:
        rows.append(len(conditioning))
        return read_prompt(conditioning, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(decoder, "read_prompt", counted)
    generate(decoder, [prompt(tts, "A")] * 5, SAMPLED, generators(5))
    generate(decoder, [prompt(tts, "A"), prompt(tts, "b")], SAMPLED, generators(2))
    assert rows == [1, 1, 1]
    generate(decoder, [prompt(tts, "A")] * 5, replace(SAMPLED, batch=2), generators(5))
    assert rows == [1] * 4, "once for all batches"


def test_limits_are_kept_and_told(tts: Synthesizer, decoder: Autoregressive) -> None:
    prompts = [prompt(tts, SENTENCE, limit) for limit in (1, 5, 2)]
    seen: list[tuple[int, int]] = []
    endless = with_stop(decoder, -100.0)
    takes = generate(endless, prompts, GREEDY, generators(3), progress=lambda _, done, of: seen.append((done, of)))
    assert [(len(take.codes), take.stopped) for take in takes] == [(1, False), (5, False), (2, False)]
    assert seen == [(n, 5) for n in range(1, 6)]


def test_b4_the_start_code_is_never_sampled_and_no_take_is_empty(tts: Synthesizer, decoder: Autoregressive) -> None:
    hasty = with_stop(decoder, 100.0)
    with torch.no_grad():
        hasty.code_head.bias[decoder.config.start_code] = 200.0
    for options in (GREEDY, SAMPLED):
        take = generate(hasty, [prompt(tts, "A")], options, generators(1))[0]
        assert take.stopped and len(take.codes) == 1 and take.codes[0] < decoder.config.codes
        assert same(take, generate_uncached(hasty, prompt(tts, "A"), options, candidate_generator(0, 0, 0)))


def test_b4_the_original_let_both_happen(tts: Synthesizer, decoder: Autoregressive) -> None:
    hasty = with_stop(decoder, 100.0)
    take = generate(hasty, [prompt(tts, "A")], GREEDY, generators(1), rules=ORIGINAL)[0]
    assert take.stopped and take.codes.tolist() == []
    with torch.no_grad():
        hasty.code_head.bias[decoder.config.start_code] = 200.0
    take = generate(hasty, [prompt(tts, "A", 3)], GREEDY, generators(1), rules=ORIGINAL)[0]
    assert not take.stopped and take.codes.tolist() == [decoder.config.start_code] * 3


def test_what_counts_as_said_from_the_start_is_penalised(tts: Synthesizer, decoder: Autoregressive) -> None:
    given, penalised = prompt(tts, SENTENCE), replace(GREEDY, repetition_penalty=1.5)
    first = int(generate(decoder, [given], penalised, generators(1))[0].codes[0])
    rules = DecodingRules(sampled_before=(first, decoder.config.start_code))
    takes = [generate(decoder, [given], penalised, generators(1), rules=rules)[0] for _ in range(2)]
    assert takes[0].codes[0] != first
    assert same(*takes)
    assert same(takes[0], generate_uncached(decoder, given, penalised, generators(1)[0], rules=rules))
    # without a penalty it is of no account
    plain = [generate(decoder, [given], GREEDY, generators(1), rules=r)[0] for r in (rules, DecodingRules())]
    assert same(*plain)


@pytest.mark.parametrize(
    ("limit", "max_new_tokens", "length", "most"), [(9, 0, 500, 9), (9, 5, 500, 5), (5, 9, 500, 5), (9, 9, 4, 4)]
)
def test_the_lowest_limit_holds(
    tts: Synthesizer, decoder: Autoregressive, limit: int, max_new_tokens: int, length: int, most: int
) -> None:
    endless, options = with_stop(decoder, -100.0), replace(GREEDY, max_new_tokens=max_new_tokens)
    given, rules = prompt(tts, SENTENCE, limit), DecodingRules(max_codes=length)
    take = generate(endless, [given], options, generators(1), rules=rules)[0]
    assert len(take.codes) == most and not take.stopped
    assert same(take, generate_uncached(endless, given, options, generators(1)[0], rules=rules))


@pytest.mark.parametrize("rules", [DecodingRules(), ORIGINAL])
def test_codes_end_with_the_table_of_their_positions(
    tts: Synthesizer, learned: Autoregressive, rules: DecodingRules
) -> None:
    endless = with_stop(learned, -100.0)
    given = prompt(tts, SENTENCE, 1000)
    take = generate(endless, [given], GREEDY, generators(1), rules=rules)[0]
    assert (len(take.codes), take.stopped) == (39, False)
    assert endless.latents(given.conditioning[None], given.text_ids[None], take.codes[None]).shape[1] == 39


def test_a_text_longer_than_the_table_is_refused_in_one_line(tts: Synthesizer, learned: Autoregressive) -> None:
    for length in (58, 59):
        given = Prompt(prompt(tts, "A").conditioning, torch.full((length,), 5), 2)
        if length == 58:  # with start and stop it fills the table
            assert len(generate(learned, [given], GREEDY, generators(1))[0].codes)
            continue
        for run in (
            lambda given=given: generate(learned, [given], GREEDY, generators(1)),
            lambda given=given: next(generate_stream(learned, given, GREEDY, generators(1)[0])),
        ):
            with pytest.raises(TextError, match="^a sentence has 59 tokens, this model reads 58 at most: cut it"):
                run()


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("options", [GREEDY, SAMPLED])
def test_a_stream_is_a_take_with_its_latents(
    tts: Synthesizer, decoder: Autoregressive, learned: Autoregressive, options: SpeechOptions, positions: str
) -> None:
    network = decoder if positions == "rotary" else learned
    given = prompt(tts, SENTENCE, 30)
    take = generate(network, [given], options, generators(1))[0]
    streamed = list(generate_stream(network, given, options, generators(1)[0]))
    assert [code for code, _ in streamed] == take.codes.tolist()
    wanted = network.latents(given.conditioning[None], given.text_ids[None], take.codes[None])[0]
    torch.testing.assert_close(torch.stack([latent for _, latent in streamed]), wanted, rtol=1e-4, atol=1e-5)


def test_a_stream_samples_no_further_than_it_is_asked(
    tts: Synthesizer, decoder: Autoregressive, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    endless = with_stop(decoder, -100.0)
    real = CodeReader.read
    monkeypatch.setattr(CodeReader, "read", lambda *given: (read.append(given[2][0][1]), real(*given))[1])
    stream = generate_stream(endless, prompt(tts, SENTENCE), GREEDY, generators(1)[0])
    for _ in range(3):
        next(stream)
    stream.close()
    assert read == [1, 2]


def test_b10_latents_of_the_calm_end_need_no_more_than_the_codes_before(
    tts: Synthesizer, decoder: Autoregressive
) -> None:
    rules = SilenceTrimming(silence=9, max_silence=3, tail=(4, 5), length=60, sampled_before=())
    given = prompt(tts, SENTENCE, 30)
    codes = generate(decoder, [given], GREEDY, generators(1), rules=decoding_rules(rules))[0].codes
    row, kept = rules.padded(codes), rules.trimmed(codes)
    assert len(kept) < len(row)
    whole, cut = (decoder.latents(given.conditioning[None], given.text_ids[None], c[None]) for c in (row, kept))
    torch.testing.assert_close(whole[:, : len(kept)], cut, rtol=1e-5, atol=1e-5)


def test_only_runaways_meet_the_limit() -> None:
    # a second of slow speech, eight phonemes and a space, is 23.4 codes
    assert default_max_new_tokens(9) >= 2 * 23.4
    assert default_max_new_tokens(1) >= 24


def with_stop(decoder: Autoregressive, logit: float) -> Autoregressive:
    changed = copy.deepcopy(decoder)
    with torch.no_grad():
        changed.code_head.bias[decoder.config.stop_code] = logit
    return changed


# ---- company --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_who_joins_and_leaves_changes_no_candidate(
    tts: Synthesizer, decoder: Autoregressive, learned: Autoregressive, positions: str
) -> None:
    network = decoder if positions == "rotary" else learned
    prompts = [prompt(tts, text[:50], LIMIT) for text in RAGGED]
    alone = [generate(network, [given] * 5, SAMPLED, generators(5, seed=i)) for i, given in enumerate(prompts)]
    sampler, joined = CodeSampler(network), []
    for i, given in enumerate(prompts):
        joined.append(sampler.join(given, SAMPLED, generators(5, seed=i), DecodingRules()))
        sampler.step()
        stranger = sampler.join(given, replace(SAMPLED, repetition_penalty=2.0), generators(1, seed=9), DecodingRules())
        sampler.step()
        sampler.leave(stranger)
    assert 5 < sampler.rows <= 30
    while sampler.groups:
        sampler.step()
    for takes, group in zip(alone, joined, strict=True):
        assert all(map(same, takes, group.candidates))
        for take, other in zip(takes, group.candidates, strict=True):
            assert torch.equal(torch.stack(take.latents), torch.stack(other.latents))
        assert group.cache is None, "what came to its end holds no memory"


@pytest.mark.parametrize(("widest", "threads"), [(generation.WIDEST_ALONE, 1), (0, 3)])
def test_a_narrow_decoder_reads_without_helpers(
    tts: Synthesizer, decoder: Autoregressive, monkeypatch: pytest.MonkeyPatch, widest: int, threads: int
) -> None:
    """With helpers a product is cut by its rows, so that company would change last bits."""
    monkeypatch.setattr(generation, "WIDEST_ALONE", widest)
    seen, reader = [], CodeReader(decoder)

    def watch(method: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda *given: (seen.append(torch.get_num_threads()), method(*given))[1]

    for name in ("read", "logits"):
        monkeypatch.setattr(reader, name, watch(getattr(reader, name)))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        generate(reader, [prompt(tts, "A", 3)] * 2, SAMPLED, generators(2))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert len(seen) >= 3 and set(seen) == {threads}


def test_kept_latents_are_those_of_the_whole_pass(tts: Synthesizer, decoder: Autoregressive) -> None:
    given = prompt(tts, SENTENCE, 30)
    for take in generate(decoder, [given] * 3, SAMPLED, generators(3)):
        wanted = decoder.latents(given.conditioning[None], given.text_ids[None], take.codes[None])[0]
        torch.testing.assert_close(torch.stack(take.latents), wanted, rtol=1e-4, atol=1e-5)


# ---- memory ---------------------------------------------------------------------------------------------------------


def watch_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows are read at each step."""
    rows: list[int] = []
    real = CodeReader.read
    monkeypatch.setattr(CodeReader, "read", lambda *given: (rows.append(len(given[1])), real(*given))[1])
    return rows


@pytest.mark.parametrize(("room", "most"), [(0.5, 1), (1, 1), (3.5, 3), (1000, 7)])
def test_the_room_of_keys_and_values_bounds_the_batch_and_changes_no_candidate(
    tts: Synthesizer, decoder: Autoregressive, monkeypatch: pytest.MonkeyPatch, room: float, most: int
) -> None:
    given = prompt(tts, SENTENCE, 12)
    wanted = generate(decoder, [given] * 7, SAMPLED, generators(7))
    reader = CodeReader(decoder)
    reader.room, rows = int(room * row_bytes(decoder, given.columns + 12)), watch_rows(monkeypatch)
    assert all(map(same, wanted, generate(reader, [given] * 7, SAMPLED, generators(7))))
    assert max(rows) == most


def test_prompts_wait_until_there_is_room_for_all_their_candidates(
    tts: Synthesizer, decoder: Autoregressive, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [prompt(tts, SENTENCE, 12), prompt(tts, SENTENCE[:-1], 12)]
    wanted = [generate(decoder, [one] * 3, SAMPLED, generators(3)) for one in given]
    reader, rows = CodeReader(decoder), watch_rows(monkeypatch)
    reader.room = 5 * row_bytes(decoder, given[0].columns + 12)
    sampler = CodeSampler(reader)
    groups = [sampler.join(one, SAMPLED, generators(3), DecodingRules()) for one in given]
    assert sampler.rows == 6
    while sampler.groups:
        sampler.step()
    assert max(rows) == 3
    for takes, group in zip(wanted, groups, strict=True):
        assert all(map(same, takes, group.candidates))


def test_rows_are_counted_as_large_as_they_are(tts: Synthesizer, decoder: Autoregressive) -> None:
    given, reader = prompt(tts, SENTENCE, 12), CodeReader(decoder)
    sampler = CodeSampler(reader)
    group = sampler.join(given, SAMPLED, generators(5), DecodingRules())
    sampler.step()
    assert group.cache is not None
    assert group.cache.store.nbytes == 5 * row_bytes(decoder, group.columns)


#: What a processor says on Linux, and what an accelerator does.
FULL = RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize("error", [FULL, MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
@pytest.mark.parametrize("late", [False, True], ids=["at the beginning", "halfway"])
def test_out_of_memory_halves_the_batch_and_changes_no_candidate(
    tts: Synthesizer, decoder: Autoregressive, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    error: Exception, late: bool,
) -> None:  # fmt: skip
    given, options = [prompt(tts, SENTENCE, 40)] * 8, replace(SAMPLED, repetition_penalty=1.3)
    used = generators(8)
    wanted = generate(decoder, given, options, used)
    steps = 0

    def check(rows: int, step: int) -> None:
        if rows > 2 and step >= 4 * late:
            raise error

    real_read, real_repeated = CodeReader.read, KVCache.repeated

    def read(reader: CodeReader, codes: torch.Tensor, groups: object) -> torch.Tensor:
        nonlocal steps
        steps += 1
        latents = real_read(reader, codes, groups)  # type: ignore[arg-type]
        check(len(codes), steps)  # keys and values are written by now
        return latents

    def repeated(cache: KVCache, rows: int, capacity: int) -> KVCache:
        check(rows, steps)
        return real_repeated(cache, rows, capacity)

    monkeypatch.setattr(CodeReader, "read", read)
    monkeypatch.setattr(KVCache, "repeated", repeated)
    again = generators(8)
    with caplog.at_level("WARNING"):
        found = generate(decoder, given, options, again)
    assert all(map(same, wanted, found))
    for take, other in zip(wanted, found, strict=True):
        assert torch.equal(torch.stack(take.latents), torch.stack(other.latents))
    # rendering goes on with them
    assert all(torch.equal(one.get_state(), other.get_state()) for one, other in zip(used, again, strict=True))
    assert all(message.startswith("out of memory with ") for message in caplog.messages)
    assert re.match(r"out of memory with [34] candidates at a time, goes on with [12]: ", caplog.messages[-1])


def test_no_memory_for_one_candidate_is_one_line(
    tts: Synthesizer, decoder: Autoregressive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise FULL

    monkeypatch.setattr(CodeReader, "read", full)
    with pytest.raises(UserError, match="the memory has no room to sample 1 at a time"):
        generate(decoder, [prompt(tts, "A")] * 4, SAMPLED, generators(4))


def test_any_other_fault_is_told(tts: Synthesizer, decoder: Autoregressive, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(CodeReader, "read", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        generate(decoder, [prompt(tts, "A")] * 4, SAMPLED, generators(4))
