"""Noise is a row's own, however a batch is cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from chelys.training.task import RowGenerator, rand

DRAWS: list[Callable[[int, torch.Generator], Tensor]] = [
    lambda rows, generator: rand((rows, 3, 40), generator),
    lambda rows, generator: rand((rows, 5), generator),
]


@pytest.mark.parametrize("draw", DRAWS)
def test_rows_meet_the_same_noise_in_any_cut(draw: Callable[[int, torch.Generator], Tensor]) -> None:
    whole = RowGenerator(1, 5, range(6))
    first, second = draw(6, whole), draw(6, whole)
    assert not torch.equal(first, second), "each draw is another"
    for cut in (range(0, 2), range(2, 6), range(4, 5)):
        part = RowGenerator(1, 5, cut)
        assert torch.equal(draw(len(cut), part), first[cut.start : cut.stop])
        assert torch.equal(draw(len(cut), part), second[cut.start : cut.stop])


@pytest.mark.parametrize("other", [(2, 5), (1, 6)])
def test_seed_and_step_make_other_noise(other: tuple[int, int]) -> None:
    assert not torch.equal(rand((3, 4), RowGenerator(1, 5, range(3))), rand((3, 4), RowGenerator(*other, range(3))))


def test_a_row_that_is_padded_further_begins_alike() -> None:
    short, long = (rand((2, n), RowGenerator(1, 5, range(2))) for n in (7, 12))
    assert torch.equal(long[:, :7], short)


def test_noise_is_what_it_is_called() -> None:
    generator = RowGenerator(1, 0, range(50))
    even = rand((50, 400), generator)
    assert 0 <= float(even.min()) and float(even.max()) < 1 and float(even.mean()) == pytest.approx(0.5, abs=0.01)


def test_a_plain_generator_draws_as_torch_does() -> None:
    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(3)

    assert torch.equal(rand((2, 3), seeded()), torch.rand(2, 3, generator=seeded()))
