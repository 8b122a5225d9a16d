"""Intervals hold what they say, models that are alike are not told apart, and distances are those of the formula."""

from __future__ import annotations

import numpy as np
import pytest

from chelys.evaluation.statistics import SAME, compare, frechet, frechet_by_size, interval


def test_a_ratio_is_of_sums_and_lies_within_its_interval() -> None:
    top, bottom = np.array([0.0, 1, 0, 3, 0, 2]), np.array([8.0, 9, 7, 8, 8, 9])
    found = interval(top, bottom)
    assert found.value == 6 / 49 and found.low is not None and found.high is not None
    assert 0 <= found.low < found.value < found.high < 0.3
    assert interval(top[:1], bottom[:1])[1:] == (None, None)
    with pytest.raises(ValueError, match="divide"):
        interval(top, 0 * bottom)


def test_alike_models_are_seldom_told_apart_and_different_ones_are() -> None:
    rng, texts = np.random.default_rng(5), 20
    ones, told, better = np.ones(texts), 0, 0
    for _ in range(100):
        hardness = rng.normal(size=texts)
        first, alike = (hardness + rng.normal(size=texts) for _ in range(2))
        told += compare((first, ones), (alike, ones)).seen
        better += (
            compare((first, ones), (first + 1 + rng.normal(size=texts), ones)).verdict("higher") == "higher, better"
        )
    assert told <= 12, f"{told} of 100 pairs of like models were told apart at 95 %"
    assert better >= 90


def test_a_model_is_no_different_from_itself() -> None:
    one = np.array([1.0, 0, 2]), np.array([8.0, 8, 8])
    found = compare(one, one)
    assert found.verdict("lower") == SAME and found.difference.value == 0
    assert compare(one, (one[0] + 1, one[1])).verdict("lower") == "higher, worse"
    assert compare(one, (one[0] + 1, one[1])).verdict("") == "higher"


def test_frechet_distance_is_that_of_the_formula() -> None:
    """The square root of the matrix by its eigenvalues, on more clips than dimensions and on fewer."""
    rng = np.random.default_rng(3)
    for n, m, d in ((40, 60, 6), (5, 7, 12)):
        a, b = rng.normal(size=(n, d)) * np.arange(1, d + 1), rng.normal(size=(m, d)) + 0.3
        product = np.cov(a.T) @ np.cov(b.T)
        root = np.sqrt(np.clip(np.linalg.eigvals(product).real, 0, None)).sum()
        expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T)) + np.trace(np.cov(b.T)) - 2 * root
        assert frechet(a, b) == pytest.approx(expected, rel=1e-4)
        assert frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_falls_with_the_number_of_clips_and_its_floor_shows_it() -> None:
    rng = np.random.default_rng(4)
    recordings, judged = rng.normal(size=(256, 16)), rng.normal(size=(256, 16)) + 0.5
    sizes = frechet_by_size(judged, recordings, draws=5)
    assert [one.clips for one in sizes] == [4, 8, 16, 32, 64, 128, 256]
    floors = [one.floor for one in sizes if one.floor is not None]
    assert sorted(floors, reverse=True) == floors and len(floors) == 6 and floors[-1] < floors[0] / 10
    assert all(one.distance > one.floor for one in sizes if one.floor is not None)
    many = rng.normal(size=(2, 20_000, 16))
    assert frechet(many[0] + 0.5, many[1]) == pytest.approx(4, abs=0.2)  # 16 times a half squared
