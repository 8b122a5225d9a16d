"""Logits to the next code, against figures worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from chelys.errors import UserError
from chelys.inference.code_sampling import filter_logits, mask_code, sample_codes
from chelys.inference.options import NANO_PRESETS, SpeechOptions, options_for
from chelys.tortoise.speaking import PRESETS, PUBLISHED_PRESETS

PLAIN = SpeechOptions(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0)
NEVER = float("-inf")


def logits_of(*chances: float) -> Tensor:
    return torch.tensor([chances]).log()


def chances(logits: Tensor, said: Tensor | None = None, **knobs: float) -> list[float]:
    said = torch.zeros_like(logits) if said is None else said
    return filter_logits(logits, said, replace(PLAIN, **knobs)).softmax(1)[0].tolist()


def test_without_filters_the_chances_stay_what_they_are() -> None:
    assert chances(logits_of(0.5, 0.3, 0.2)) == pytest.approx([0.5, 0.3, 0.2])


def test_temperature_takes_powers_of_the_chances() -> None:
    # at 1/2 chances are squared: .25, .09, .06 of their sum .38 (.2 squared is .04)
    assert chances(logits_of(0.5, 0.3, 0.2), temperature=0.5) == pytest.approx([0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38])
    # at 2 the roots are taken
    assert chances(logits_of(0.64, 0.36), temperature=2.0) == pytest.approx([0.8 / 1.4, 0.6 / 1.4])


def test_top_k_keeps_the_k_likeliest() -> None:
    assert chances(logits_of(0.1, 0.4, 0.3, 0.2), top_k=2) == pytest.approx([0, 4 / 7, 3 / 7, 0])
    assert chances(logits_of(0.1, 0.4, 0.3, 0.2), top_k=1) == [0, 1, 0, 0]
    assert chances(logits_of(0.6, 0.4), top_k=50) == pytest.approx([0.6, 0.4])  # more than there are codes


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (0.05, [0, 1, 0, 0]),  # the likeliest code always stays
        (0.39, [0, 1, 0, 0]),
        (0.41, [0, 4 / 7, 3 / 7, 0]),  # the code that crosses the border is in
        (0.69, [0, 4 / 7, 3 / 7, 0]),
        (0.71, [0, 4 / 9, 3 / 9, 2 / 9]),
        (0.99, [0.1, 0.4, 0.3, 0.2]),
        (1.0, [0.1, 0.4, 0.3, 0.2]),
    ],
)
def test_top_p_keeps_the_smallest_nucleus(top_p: float, kept: list[float]) -> None:
    assert chances(logits_of(0.1, 0.4, 0.3, 0.2), top_p=top_p) == pytest.approx(kept)


def test_the_nucleus_is_that_of_the_heated_chances() -> None:
    # cooled to 1/2, .4 .3 .2 .1 become 16 9 4 1 thirtieths: the first alone is .53, with the second .83
    assert chances(logits_of(0.4, 0.3, 0.2, 0.1), temperature=0.5, top_p=0.6) == pytest.approx([16 / 25, 9 / 25, 0, 0])


def test_of_equal_chances_on_the_border_of_the_nucleus_the_last_stay() -> None:
    assert chances(logits_of(0.25, 0.25, 0.25, 0.25), top_p=0.5) == [0, 0, 0.5, 0.5]
    assert chances(logits_of(0.25, 0.25, 0.25, 0.25), top_p=0.1) == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("mass", "kept"),
    [
        # the expected surprise is 1.09; those of the codes are .69, 1.20, 1.90, 3.00, so the second is the most typical
        (0.2, [0, 1, 0, 0]),
        (0.31, [0.5 / 0.8, 0.3 / 0.8, 0, 0]),
        (0.79, [0.5 / 0.8, 0.3 / 0.8, 0, 0]),
        (0.81, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]),
        (0.96, [0.5, 0.3, 0.15, 0.05]),
        (1.0, [0.5, 0.3, 0.15, 0.05]),
    ],
)
def test_typical_sampling_keeps_what_is_as_likely_as_was_to_be_expected(mass: float, kept: list[float]) -> None:
    surprises = [-math.log(p) for p in (0.5, 0.3, 0.15, 0.05)]
    expected = sum(s * math.exp(-s) for s in surprises)
    assert sorted(range(4), key=lambda i: abs(surprises[i] - expected)) == [1, 0, 2, 3]
    assert chances(logits_of(0.5, 0.3, 0.15, 0.05), typical_mass=mass) == pytest.approx(kept)


def test_typical_sampling_keeps_codes_that_are_as_typical_as_the_last_one() -> None:
    assert chances(logits_of(0.25, 0.25, 0.25, 0.25), typical_mass=0.3) == [0.25] * 4


def test_typical_sampling_leaves_out_what_is_ruled_out() -> None:
    without = chances(logits_of(0.5, 0.3, 0.15, 0.05), typical_mass=0.7)
    forbidden = mask_code(logits_of(0.25, 0.15, 0.075, 0.5, 0.025), 3)
    assert chances(forbidden, typical_mass=0.7) == pytest.approx([*without[:3], 0, without[3]])
    assert chances(mask_code(logits_of(0.9, 0.1), 0), typical_mass=0.999999) == [0, 1]


def test_knobs_are_turned_in_the_published_order() -> None:
    said = torch.tensor([[1.0, 0.0, 0.0]])
    # the penalty first: 4 becomes 2, so that 3 is the likeliest
    assert chances(torch.tensor([[4.0, 3.0, 0.0]]), said, repetition_penalty=2.0, top_k=1) == [0, 1, 0]
    # typical sampling before the temperature: cooled, the first code would be the most typical
    cold = chances(logits_of(0.5, 0.3, 0.15, 0.05), typical_mass=0.2, temperature=0.1)
    assert cold == [0, 1, 0, 0]
    assert chances(logits_of(0.5, 0.3, 0.15, 0.05).div(0.1), typical_mass=0.2) == [1, 0, 0, 0]
    # the nucleus is that of what top k has left: .4 of .7 is enough for a half
    assert chances(logits_of(0.4, 0.3, 0.2, 0.1), top_k=2, top_p=0.55) == [1, 0, 0, 0]
    assert chances(logits_of(0.4, 0.3, 0.2, 0.1), top_p=0.55) == pytest.approx([4 / 7, 3 / 7, 0, 0])


def test_repetition_makes_said_codes_less_likely_whatever_the_sign() -> None:
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0]])
    said = torch.tensor([[1.0, 3.0, 0.0, 0.0]])
    assert filter_logits(logits, said, replace(PLAIN, repetition_penalty=2.0)).tolist() == [[1.0, -4.0, 2.0, -2.0]]
    assert filter_logits(logits, said, PLAIN).tolist() == logits.tolist()


def test_rows_are_filtered_each_for_itself() -> None:
    rows = torch.cat((logits_of(0.7, 0.2, 0.1), logits_of(0.1, 0.2, 0.7)))
    both = filter_logits(rows, torch.zeros_like(rows), replace(PLAIN, top_k=1))
    assert both.isfinite().tolist() == [[True, False, False], [False, False, True]]


def test_a_forbidden_code_is_never_drawn() -> None:
    logits = mask_code(logits_of(0.9, 0.05, 0.05), 0)
    assert logits[0, 0] == NEVER
    generator = torch.Generator().manual_seed(0)
    drawn = {int(sample_codes(logits, torch.zeros_like(logits), PLAIN, [generator])) for _ in range(200)}
    assert drawn == {1, 2}


def test_draws_are_as_frequent_as_they_are_likely() -> None:
    wanted = torch.tensor([0.5, 0.25, 0.15, 0.07, 0.03])
    logits = wanted.log().expand(50, -1)
    generators = [torch.Generator().manual_seed(seed) for seed in range(50)]
    drawn = torch.cat([sample_codes(logits, torch.zeros_like(logits), PLAIN, generators) for _ in range(400)])
    seen = torch.bincount(drawn, minlength=5) / len(drawn)
    # the share of a code in n draws has a standard deviation of sqrt(p (1 - p) / n); five of them are one in a million
    tolerance = 5 * (wanted * (1 - wanted) / len(drawn)).sqrt()
    assert ((seen - wanted).abs() < tolerance).all(), (seen, wanted, tolerance)


def test_a_take_draws_the_same_in_any_company() -> None:
    logits = torch.randn(4, 30, generator=torch.Generator().manual_seed(3))
    together = sample_codes(logits, torch.zeros(4, 30), PLAIN, [torch.Generator().manual_seed(i) for i in range(4)])
    alone = [
        sample_codes(logits[i : i + 1], torch.zeros(1, 30), PLAIN, [torch.Generator().manual_seed(i)]) for i in range(4)
    ]
    assert together.tolist() == torch.cat(alone).tolist()
    assert len(set(together.tolist())) > 1


def test_temperature_0_takes_the_likeliest_and_draws_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert (
        sample_codes(logits_of(0.3, 0.4, 0.3), torch.zeros(1, 3), replace(PLAIN, temperature=0.0), [generator]).item()
        == 1
    )
    assert torch.equal(generator.get_state(), before)


def test_temperature_0_minds_the_repetitions_and_what_is_typical() -> None:
    said, logits = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[4.0, 3.0, -1.0]])
    greedy = replace(PLAIN, temperature=0.0)
    assert sample_codes(logits, said, greedy, []).tolist() == [0]
    assert sample_codes(logits, said, replace(greedy, repetition_penalty=2.0), []).tolist() == [1]
    assert (
        sample_codes(logits_of(0.5, 0.3, 0.15, 0.05), torch.zeros(1, 4), replace(greedy, typical_mass=0.2), []).item()
        == 1
    )


# ---------------------------------------------------------------- knobs


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("candidates", 0),
        ("candidates", 1025),
        ("steps", 0),
        ("steps", 4001),
        ("guidance", -0.1),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("repetition_penalty", 0.5),
        ("diffusion_temperature", 2.5),
        ("max_chars", 19),
    ],
)
def test_a_knob_out_of_range_is_named_with_its_range(knob: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^{knob} is {value}; it must lie between .+ and .+$"):
        SpeechOptions(**{knob: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("family", [NANO_PRESETS, PRESETS, PUBLISHED_PRESETS], ids=["nano", "tortoise-v2", "original"])
def test_presets_grow(family: dict[str, SpeechOptions]) -> None:
    presets = [family[name] for name in ("ultra_fast", "fast", "standard", "high_quality")]
    work = [preset.candidates * preset.steps for preset in presets]
    assert work == sorted(work) and len(set(work)) == 4


def test_presets_can_be_changed() -> None:
    assert options_for("fast") == NANO_PRESETS["fast"] == SpeechOptions()
    assert options_for("fast", candidates=7, steps=None) == replace(NANO_PRESETS["fast"], candidates=7)
    assert options_for("fast", PUBLISHED_PRESETS, top_k=9) == replace(PUBLISHED_PRESETS["fast"], top_k=9)
    with pytest.raises(UserError, match="unknown preset 'slow': choose from ultra_fast, fast, standard, high_quality"):
        options_for("slow")
