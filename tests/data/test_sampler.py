"""Batches: every item once an epoch, within the budget, the same for a seed and a step in whatever order asked."""

from __future__ import annotations

import numpy as np
import pytest

from chelys.data.loader import LengthBucketSampler, held_out, is_held_out
from chelys.errors import ManifestError

LENGTHS = np.random.default_rng(0).integers(10, 200, 120)


def epoch(buckets: LengthBucketSampler, first: int = 0) -> list[np.ndarray]:
    """The batches from step ``first`` on, up to the end of their epoch."""
    batches: list[np.ndarray] = []
    while sum(map(len, batches)) < len(buckets.lengths):
        batches.append(buckets.at(first + len(batches)))
    return batches


def test_each_item_comes_once_an_epoch() -> None:
    buckets = LengthBucketSampler(LENGTHS, 1000, seed=1)
    first = epoch(buckets)
    second = epoch(buckets, len(first))
    for batches in (first, second):
        assert sorted(np.concatenate(batches)) == list(range(len(LENGTHS)))
    assert [b.tolist() for b in first] != [b.tolist() for b in second]
    assert {frozenset(b.tolist()) for b in first} != {frozenset(b.tolist()) for b in second}, "others meet"


def test_the_budget_is_kept_and_used() -> None:
    batches = epoch(LengthBucketSampler(LENGTHS, 1000, seed=1))
    cost = [len(b) * LENGTHS[b].max() for b in batches]
    assert max(cost) <= 1000
    assert np.mean(cost) > 700
    assert sum(LENGTHS) / sum(cost) > 0.85, "like lengths together: little padding"


def test_an_item_beyond_the_budget_stands_alone() -> None:
    batches = epoch(LengthBucketSampler([5, 50, 5], 20, seed=0))
    assert [1] in [b.tolist() for b in batches]
    assert sorted(map(len, batches)) == [1, 2]


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    steps = np.random.default_rng(1).permutation(100)  # several epochs, to and fro
    in_order = [LengthBucketSampler(LENGTHS, 1000, seed=1).at(step).tolist() for step in range(100)]
    asked = LengthBucketSampler(LENGTHS, 1000, seed=1)
    assert [asked.at(step).tolist() for step in steps] == [in_order[step] for step in steps]
    other = LengthBucketSampler(LENGTHS, 1000, seed=2)
    assert [other.at(step).tolist() for step in range(100)] != in_order


def test_weights_are_kept_on_average() -> None:
    weights = [0.25, 1.0, 2.5, 0.0]
    buckets = LengthBucketSampler([10] * 4, 10, seed=3, weights=weights)
    taken = [int(buckets.at(step)[0]) for step in range(3000)]
    epochs = 3000 / sum(weights)
    np.testing.assert_allclose(np.bincount(taken, minlength=4) / epochs, weights, atol=0.05)


@pytest.mark.parametrize(("lengths", "weights"), [([], None), ([3, 4], [0.0, 0.0])])
def test_nothing_to_train_on_is_said_and_not_waited_for(lengths: list[int], weights: list[float] | None) -> None:
    with pytest.raises(ManifestError, match="no clip to train on"):
        LengthBucketSampler(lengths, 10, seed=0, weights=weights)


def test_held_out_is_a_matter_of_the_name_in_a_large_corpus() -> None:
    names = [f"hibari-{i:07d}" for i in range(20_000)]
    chosen = held_out(names)
    assert 140 < chosen.sum() < 260
    assert chosen.tolist() == [is_held_out(name) for name in names]
    assert held_out(names[::-1]).tolist() == chosen[::-1].tolist()


@pytest.mark.parametrize(("count", "wanted"), [(1, 0), (9, 0), (10, 1), (30, 3), (80, 8), (500, 8)])
def test_small_corpora_have_held_out_clips_too(count: int, wanted: int) -> None:
    for corpus in range(40):
        names = [f"LJ{corpus:03d}-{i:04d}" for i in range(count)]
        chosen = held_out(names)
        by_name = sum(map(is_held_out, names))
        assert chosen.sum() == max(wanted, by_name)
        assert all(chosen[i] for i, name in enumerate(names) if is_held_out(name))
        order = np.random.default_rng(corpus).permutation(count)
        assert held_out([names[i] for i in order]).tolist() == chosen[order].tolist(), "a matter of the names alone"
    assert not held_out([f"x{i}" for i in range(40)], least=0).any()
