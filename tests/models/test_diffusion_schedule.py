"""The trained schedule, and the processes over some of its steps."""

from __future__ import annotations

import itertools

import pytest
import torch

from chelys.models.diffusion_schedule import (
    TRAIN_STEPS,
    DiffusionSchedule,
    alphas_cumprod,
    even_timesteps,
    packed_timesteps,
)

ALPHAS = alphas_cumprod()
COUNTS = [1, 2, 3, 10, 30, 80, 100, 384, 385, 400, 1000, 2001, 3999, 4000]


def test_the_schedule_is_the_one_of_ho_et_al_at_4000_steps() -> None:
    betas = 1 - ALPHAS[1:] / ALPHAS[:-1]
    assert len(ALPHAS) == TRAIN_STEPS == 4000 and ALPHAS.dtype == torch.float64
    assert ALPHAS[0].item() == pytest.approx(1 - 2.5e-5, abs=1e-15)
    assert betas[-1].item() == pytest.approx(5e-3) and (betas.diff() > 0).all()
    assert ALPHAS[-1].item() == pytest.approx(4.24665e-5, rel=1e-5)


@pytest.mark.parametrize("make", [even_timesteps, packed_timesteps])
@pytest.mark.parametrize("count", COUNTS)
def test_every_step_is_visited_once_and_the_noisiest_is_among_them(make, count: int) -> None:
    visited = make(count)
    assert len(set(visited)) == count and visited == sorted(visited)
    assert visited[-1] == TRAIN_STEPS - 1 and visited[0] >= 0


@pytest.mark.parametrize("make", [even_timesteps, packed_timesteps])
@pytest.mark.parametrize("count", [-1, 0, 4001])
def test_a_number_of_steps_that_there_is_not_is_refused(make, count: int) -> None:
    with pytest.raises(ValueError, match="1 to 4000"):
        make(count)


def test_even_steps_are_the_published_ones() -> None:
    assert even_timesteps(10) == [0, 444, 889, 1333, 1777, 2222, 2666, 3110, 3555, 3999]
    thirty = even_timesteps(30)
    assert thirty[:8] == [0, 138, 276, 414, 552, 689, 827, 965] and thirty[-2:] == [3861, 3999]
    assert even_timesteps(2) == [0, 3999]
    assert even_timesteps(4000) == list(range(4000))


def test_halves_fall_on_even_steps() -> None:
    assert even_timesteps(5, train_steps=11) == [0, 2, 5, 8, 10]  # 2.5 and 7.5


def test_steps_are_summed_up_as_published_so_that_halves_are_not_quite_halves() -> None:
    stride = 3999 / 30
    summed = [round(at) for at in itertools.accumulate([0.0] + 30 * [stride])]
    assert even_timesteps(31) == summed != [round(i * stride) for i in range(31)]


def test_packed_steps_are_denser_at_the_clean_end() -> None:
    gaps = [b - a for a, b in itertools.pairwise(packed_timesteps(10))]
    assert gaps == sorted(gaps) and gaps[0] < gaps[-1] / 1.5


@pytest.mark.parametrize("steps", [[3999], [0, 3999], [5, 17, 200], even_timesteps(30), list(range(4000))])
def test_a_process_keeps_what_is_left_of_the_signal_at_each_visited_step(steps: list[int]) -> None:
    schedule = DiffusionSchedule(steps)
    assert schedule.timesteps == tuple(steps) and len(schedule) == len(steps)
    for table in (schedule.alphas_cumprod, schedule.betas, schedule.posterior_coef_x0, schedule.posterior_log_variance):
        assert table.dtype == torch.float64 and len(table) == len(steps) and table.isfinite().all()
    torch.testing.assert_close((1 - schedule.betas).cumprod(0), ALPHAS[steps], atol=0, rtol=1e-9)


def test_all_steps_have_the_betas_of_training() -> None:
    betas = torch.linspace(2.5e-5, 5e-3, TRAIN_STEPS, dtype=torch.float64)
    torch.testing.assert_close(DiffusionSchedule(range(TRAIN_STEPS)).betas, betas, atol=0, rtol=1e-9)


def test_the_posterior_is_the_one_of_bayes() -> None:
    """Of the cleaner mel y: what is known of it from the clean one, times what x says of it."""
    schedule = DiffusionSchedule(even_timesteps(30))
    for i in range(1, len(schedule)):
        before, beta = schedule.alphas_cumprod_prev[i], schedule.betas[i]
        precision = 1 / (1 - before) + (1 - beta) / beta
        torch.testing.assert_close(schedule.posterior_variance[i], 1 / precision)
        torch.testing.assert_close(schedule.posterior_coef_x0[i], before.sqrt() / (1 - before) / precision)
        torch.testing.assert_close(schedule.posterior_coef_x[i], (1 - beta).sqrt() / beta / precision)


def test_the_first_log_variance_is_the_second_in_place_of_minus_infinity() -> None:
    schedule = DiffusionSchedule(even_timesteps(30))
    assert schedule.posterior_variance[0] == 0
    torch.testing.assert_close(schedule.posterior_log_variance[1:], schedule.posterior_variance[1:].log())
    assert schedule.posterior_log_variance[0] == schedule.posterior_log_variance[1]
