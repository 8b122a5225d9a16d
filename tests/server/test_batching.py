"""A candidate is the same alone and in any company."""

from __future__ import annotations

import pytest
import torch

import chelys
from chelys.inference.generation import generate
from chelys.inference.synthesizer import SentencePlan, Synthesizer
from chelys.server.batching import LEAST_ROWS, BatchSampler, Group

TEXTS = ["Hello there.", "One, two, three!", "Nobody here could say.", "No.", "There, there, and there again: two."]


def plans(tts: Synthesizer, **asked: object) -> list[SentencePlan]:
    return [tts.plan(text, seed=5 + number, **asked)[0] for number, text in enumerate(TEXTS)]


def sample(sampler: BatchSampler, waiting: list[SentencePlan], *, every: int = 1) -> list[Group]:
    """Let one join every so many steps; groups in the order of the plans."""
    waiting, groups, number = list(waiting), [], 0
    while waiting or sampler.groups:
        if waiting and number % every == 0:
            groups.append(sampler.join(waiting.pop(0)))
        sampler.step()
        number += 1
    return groups


def codes(group: Group) -> list[tuple[list[int], bool]]:
    return [(candidate.codes.tolist(), candidate.stopped) for candidate in group.candidates]


@pytest.mark.parametrize("preset", ["fast", "ultra_fast"])
def test_codes_are_those_of_speaking_alone(tts: Synthesizer, preset: str) -> None:
    together = sample(BatchSampler(tts.model.autoregressive, tts.family), plans(tts, preset=preset), every=3)
    for plan, group in zip(plans(tts, preset=preset), together, strict=True):
        alone = generate(
            tts.model.autoregressive, [plan.prompt] * len(plan.generators), plan.options, plan.generators,
            rules=tts.family.decoding_rules(plan.options),
        )  # fmt: skip
        assert codes(group) == [(candidate.codes.tolist(), candidate.stopped) for candidate in alone]


def test_logits_are_the_same_to_the_bit_in_any_company(tts: Synthesizer) -> None:
    def trace(others: list[SentencePlan]) -> list[torch.Tensor]:
        sampler = BatchSampler(tts.model.autoregressive, tts.family)
        for other in others:
            sampler.join(other)
        group = sampler.join(plans(tts, preset="ultra_fast")[0])
        seen = []
        while group in sampler.groups:
            seen.append(group.logits.clone())
            sampler.step()
        return seen

    alone = trace([])
    for others in (plans(tts, preset="fast")[1:], plans(tts, preset="standard")[2:3]):
        for mine, theirs in zip(alone, trace(others), strict=True):
            assert torch.equal(mine, theirs)


def test_groups_with_other_options_share_steps(tts: Synthesizer) -> None:
    mixed = plans(tts, preset="fast")[:2] + plans(tts, options=tts.options("fast", temperature=0.0, candidates=3))[2:]
    fresh = plans(tts, preset="fast")[:2] + plans(tts, options=tts.options("fast", temperature=0.0, candidates=3))[2:]
    alone = [sample(BatchSampler(tts.model.autoregressive, tts.family), [plan])[0] for plan in fresh]
    together = sample(BatchSampler(tts.model.autoregressive, tts.family), mixed)
    assert [codes(group) for group in together] == [codes(group) for group in alone]


def test_a_group_that_leaves_changes_nothing_for_the_others(tts: Synthesizer) -> None:
    (plan,), (same,) = tts.plan(TEXTS[1], seed=3), tts.plan(TEXTS[1], seed=3)
    alone = sample(BatchSampler(tts.model.autoregressive, tts.family), [same])[0]
    sampler = BatchSampler(tts.model.autoregressive, tts.family)
    leaving, staying = sampler.join(plans(tts)[2]), sampler.join(plan)
    sampler.step()
    sampler.leave(leaving)
    assert sampler.groups == [staying] and sampler.rows == 8
    while sampler.groups:
        sampler.step()
    assert codes(staying) == codes(alone)


@pytest.mark.parametrize("network", ["toy", "nano"])
def test_a_row_of_a_matrix_product_does_not_depend_on_their_number(tts: Synthesizer, network: str) -> None:
    """What ``LEAST_ROWS`` stands for, on the machine at hand, for every linear layer of the decoder."""
    decoder = (tts if network == "toy" else chelys.load()).model.autoregressive
    layers = [m for m in (*decoder.blocks.modules(), decoder.code_head) if isinstance(m, torch.nn.Linear)]
    x = torch.randn(64, 1, max(m.in_features for m in layers), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for layer in layers:
            rows = x[..., : layer.in_features].contiguous()
            whole = layer(rows)
            for count in range(LEAST_ROWS, 64):
                assert torch.equal(layer(rows[:count].contiguous()), whole[:count]), (layer, count)
