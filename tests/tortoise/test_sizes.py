"""Sizes read off published tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_published
import torch

from chelys.tortoise.model import published_skeleton
from chelys.tortoise.sizes import PUBLISHED, infer_config
from chelys.tortoise.state_dicts import TABLES, to_tortoise


@pytest.mark.parametrize("network", TABLES)
def test_small_ones(network: str) -> None:
    assert infer_config(network, tiny_published.published(network)) == tiny_published.SIZES[network]


@pytest.mark.parametrize("network", TABLES)
def test_the_published_ones(network: str) -> None:
    model = published_skeleton(network, PUBLISHED[network], weight_norm=TABLES[network].weight_norm)
    assert infer_config(network, to_tortoise(network, model.state_dict())) == PUBLISHED[network]


def test_a_folded_vocoder_shows_the_same() -> None:
    state = tiny_published.published("univnet")
    folded = {n.removesuffix("_v"): t for n, t in state.items() if not n.endswith("weight_g")}
    assert infer_config("univnet", folded) == tiny_published.SIZES["univnet"]


def test_towers_of_two_sizes() -> None:
    sizes = replace(tiny_published.SIZES["clvp"], speech_dim=128, speech_depth=2, speech_heads=2)
    published = to_tortoise("clvp", published_skeleton("clvp", sizes).state_dict())
    assert infer_config("clvp", published) == sizes


@pytest.mark.parametrize("network", TABLES)
def test_what_is_no_such_network_is_taken_for_the_published_one(network: str) -> None:
    assert infer_config(network, {"a": torch.zeros(2)}) == PUBLISHED[network]


def test_every_network_has_sizes_and_small_ones(tiny: Path) -> None:
    assert PUBLISHED.keys() == TABLES.keys() == tiny_published.SIZES.keys()
    assert {path.name for path in tiny.iterdir()} == {table.file for table in TABLES.values()}
