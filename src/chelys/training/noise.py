"""Noise of a step, row by row.

However a batch is cut into parts and dealt to processes, a row meets the same noise: each is drawn from a generator of
its own, a function of the seed, the step, the row's number and how many draws came before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class RowGenerator(torch.Generator):
    """Generator of some rows of a step's batch; it can be handed to any function that draws, in which case it is a
    plain one and what it draws depends on the cut.

    Attributes:
        rows: Numbers of the rows within the step's batch.
    """

    def __new__(cls, *_: Any) -> RowGenerator:
        return super().__new__(cls)

    def __init__(self, seed: int, step: int, rows: Sequence[int]) -> None:
        self.rows = rows
        self._origin = (seed, step)
        self._draws = 0
        self.manual_seed(mixed(seed, step, rows[0]))

    def draw(self, function: Callable[[torch.Generator], Tensor]) -> Tensor:
        """Stack what a function draws for each row."""
        self._draws += 1
        one = torch.Generator()
        return torch.stack([function(one.manual_seed(mixed(*self._origin, row, self._draws))) for row in self.rows])


def randn(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Normal noise ``shape``, rows first."""
    if isinstance(generator, RowGenerator):
        return generator.draw(lambda one: torch.randn(tuple(shape[1:]), generator=one))
    return torch.randn(tuple(shape), generator=generator)


def rand(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Even noise in [0, 1), ``shape``, rows first; a row's first values do not depend on how many follow."""
    if isinstance(generator, RowGenerator):
        return generator.draw(lambda one: torch.rand(tuple(shape[1:]), generator=one))
    return torch.rand(tuple(shape), generator=generator)


def randint(high: int, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Whole numbers from 0 to ``high - 1``, ``shape``, rows first."""
    if isinstance(generator, RowGenerator):
        return generator.draw(lambda one: torch.randint(high, tuple(shape[1:]), generator=one))
    return torch.randint(high, tuple(shape), generator=generator)


def with_others(codes: Tensor, share: float, count: int, generator: torch.Generator) -> Tensor:
    """Codes ``(b, m)``, a share of them any others of ``count``."""
    chance, other = (rand(codes.shape, generator).to(codes.device) for _ in range(2))
    return torch.where(chance < share, (other * count).long(), codes)


def mixed(*numbers: int) -> int:
    """A seed made of several numbers, 0 or more each."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
