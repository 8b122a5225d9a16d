"""The loader: batches in order, whatever the workers; errors of users come out as they are; a killed worker is told."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from chelys.data.loader import DataWorkerError, StepLoader, default_workers
from chelys.errors import ManifestError, MissingExtra


def load(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {"step": torch.tensor(step), "noise": torch.randn(3, generator=generator), "by": torch.tensor(os.getpid())}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_batches_come_in_order_whatever_the_workers(workers: int) -> None:
    alone = list(StepLoader(load, 5, 17))
    made = list(StepLoader(load, 5, 17, workers=workers))
    assert [int(batch["step"]) for batch in made] == list(range(5, 17))
    assert all(torch.equal(a["noise"], b["noise"]) for a, b in zip(alone, made, strict=True))
    assert len({int(batch["by"]) for batch in made}) == workers and {int(b["by"]) for b in alone} == {os.getpid()}


def broken(step: int) -> int:
    if step == 3:
        raise ManifestError("the file is gone")
    return step


def without_extra(step: int) -> int:
    raise MissingExtra("train", ImportError(name="pyworld"))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_user_comes_out_as_one_line(workers: int) -> None:
    batches = iter(StepLoader(broken, 0, 9, workers=workers))
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ManifestError, match="^the file is gone$"):
        next(batches)
    with pytest.raises(MissingExtra, match="^pyworld is not installed: pip install 'chelys\\[train\\]'$"):
        next(iter(StepLoader(without_extra, 0, 9, workers=workers)))


def deadly(step: int) -> int:
    if step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return step


def test_a_worker_that_is_killed_ends_the_run_with_a_word() -> None:
    with pytest.raises(DataWorkerError, match="lower loop.data_workers"):
        list(StepLoader(deadly, 0, 9, workers=2))


def test_workers_by_default() -> None:
    assert default_workers(torch.device("cpu")) == 0
    assert 1 <= default_workers(torch.device("cuda")) <= 8
    assert default_workers(torch.device("cuda"), processes=10**6) == 1
