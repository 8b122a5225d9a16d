"""The loop that says the most likely codes, against the original's with and without its cache."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from chelys.inference.generation import DecodingRules, Prompt, generate, generate_stream, generate_uncached
from chelys.inference.options import SpeechOptions
from chelys.tortoise.model import SilenceTrimming
from chelys.tortoise.speaking import decoding_rules
from chelys.tortoise.state_dicts import from_tortoise

GREEDY = SpeechOptions(temperature=0.0, typical_mass=1.0, repetition_penalty=1.0)
#: What the fixture's call with a penalty had.
PENALISED = replace(GREEDY, repetition_penalty=2.0)


@pytest.fixture
def theirs(reference):
    return reference("autoregressive")


@pytest.fixture
def ours(theirs, build):
    model = build("autoregressive", theirs)
    model.load_state_dict(from_tortoise("autoregressive", theirs.weights, model))
    return model


@pytest.fixture
def rules(ours) -> DecodingRules:
    rules = SilenceTrimming(length=ours.config.code_positions, sampled_before=(1, ours.config.start_code))
    return decoding_rules(rules, reference=True)


def prompt(theirs, codes: torch.Tensor) -> Prompt:
    return Prompt(theirs.outputs["cond_latent"][0], theirs.inputs["text"][0], codes.shape[1])


def before(codes: torch.Tensor, *ends: int) -> int:
    """How many of the codes ``(1, m)`` come before the first of those."""
    return next((place for place, code in enumerate(codes[0].tolist()) if code in ends), codes.shape[1])


@pytest.mark.parametrize(
    ("call", "logits", "options"),
    [
        ("greedy_kv_codes", "greedy_kv_logits", GREEDY),
        ("greedy_kv_rep2_codes", "greedy_kv_rep2_raw_logits", PENALISED),
    ],
)
def test_the_loop_with_the_cache_as_it_was(theirs, ours, rules, call, logits, options) -> None:
    wanted = theirs.outputs[call]
    length = before(wanted, ours.config.stop_code)
    given = prompt(theirs, wanted)
    said = list(generate_stream(ours, given, options, torch.Generator(), rules=rules))
    assert [code for code, _ in said] == wanted[0, :length].tolist()
    for (_, latent), raw in zip(said, theirs.outputs[logits][0], strict=False):
        assert (ours.code_head(latent) - raw).abs().max() <= 1e-4 * theirs.outputs[logits].abs().max()
    take = generate(ours, [given], options, [torch.Generator()], rules=rules)[0]
    assert take.codes.tolist() == wanted[0, :length].tolist()
    assert take.stopped == (length < wanted.shape[1])


def test_the_loop_without_the_cache(theirs, ours) -> None:
    wanted = theirs.outputs["greedy_nokv_codes"]
    # ours says neither the start code nor nothing at all, so that it may part from theirs there
    length = before(wanted, ours.config.start_code, ours.config.stop_code)
    given = prompt(theirs, wanted)
    said = list(generate_stream(ours, given, GREEDY, torch.Generator()))[:length]
    assert [code for code, _ in said] == wanted[0, :length].tolist()
    logits = theirs.outputs["greedy_nokv_logits"]
    for (_, latent), raw in zip(said, logits[0], strict=False):
        assert (ours.code_head(latent) - raw).abs().max() <= 1e-4 * logits.abs().max()
    slow = generate_uncached(ours, given, GREEDY, torch.Generator())
    assert slow.codes[:length].tolist() == wanted[0, :length].tolist()


def test_b1_the_cached_loop_places_codes_as_training_does(theirs, ours) -> None:
    cached, naive = theirs.outputs["greedy_kv_logits"], theirs.outputs["greedy_nokv_logits"]
    assert torch.equal(cached.argmax(-1)[:, 0], naive.argmax(-1)[:, 0])  # the first code is the same, its place not
    voice, text = theirs.outputs["cond_latent"], theirs.inputs["text"]
    length = torch.full((len(text),), text.shape[1])
    first = cached.argmax(-1)[:, 0]
    for place, wanted in ((1, naive), (2, cached)):
        _, cache = ours.read_prompt(voice, text, length, 1)
        logits = ours.code_head(ours.read_code(first, place, cache))
        assert (logits - wanted[:, 1]).abs().max() <= 1e-4 * wanted.abs().max()
    assert not torch.allclose(cached[:, 1], naive[:, 1], rtol=0, atol=1e-2 * naive.abs().max().item())
