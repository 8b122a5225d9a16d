"""Rows of the published codes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from chelys.config import from_mapping, to_mapping
from chelys.models.autoregressive import AutoregressiveConfig
from chelys.models.clvp import CLVPConfig
from chelys.tortoise.model import SilenceTrimming

RULES = SilenceTrimming(silence=9, max_silence=3, tail=(4, 5), length=12)


def codes(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.long)


@pytest.mark.parametrize(
    ("said", "row"),
    [
        ([], [9] * 10 + [4, 5]),
        ([1, 2, 3], [1, 2, 3] + [9] * 7 + [4, 5]),
        ([1] * 10, [1] * 10 + [4, 5]),
        ([1] * 11, [1] * 10 + [4, 5]),  # the tail comes even over what was said
        ([1] * 12, [1] * 12),  # it never stopped
    ],
)
def test_a_row_is_silent_after_the_speech_and_ends_with_the_tail(said: list[int], row: list[int]) -> None:
    given = codes(*said)
    assert RULES.padded(given).tolist() == row
    assert RULES.padded(given).dtype == torch.long
    assert given.tolist() == said


def test_a_take_that_is_too_long_is_a_fault_of_the_caller() -> None:
    with pytest.raises(AssertionError, match="13 codes do not fit into a row of 12"):
        RULES.padded(codes(*[1] * 13))


@pytest.mark.parametrize(
    ("row", "end"),
    [
        ([1, 2, 3], 3),
        ([9, 9, 9], 3),
        ([9, 9, 9, 9], 3),
        ([1, 9, 9, 9, 9, 9, 2], 4),
        ([9, 9, 9, 1, 9, 9, 9, 2], 8),  # anything else begins the count anew
        ([1, 9, 9, 9, 2, 9, 9, 9, 9], 8),
        ([], 0),
    ],
)
def test_three_silences_in_a_row_are_calm_and_the_fourth_is_the_end(row: list[int], end: int) -> None:
    assert RULES.end(codes(*row)) == end


def test_what_is_rendered_is_the_speech_and_the_calm_after_it() -> None:
    assert RULES.trimmed(codes(1, 2, 3)).tolist() == [1, 2, 3, 9, 9, 9]
    assert RULES.trimmed(codes(*[1] * 8)).tolist() == [1] * 8 + [9, 9, 4, 5]  # too little silence before the tail


def test_published_numbers_fit_the_published_networks() -> None:
    rules, decoder = SilenceTrimming(), AutoregressiveConfig.tortoise_v2()
    named = (rules.silence, *rules.tail, *rules.sampled_before[:1])
    assert max(named) < min(decoder.codes, CLVPConfig.tortoise_v2().speech_tokens)
    assert rules.sampled_before[1] == decoder.start_code
    assert rules.length < decoder.code_positions


def test_a_config_file_keeps_them() -> None:
    changed = replace(RULES, sampled_before=(1, 2, 3))
    assert from_mapping(SilenceTrimming, to_mapping(changed), where="config.json") == changed
