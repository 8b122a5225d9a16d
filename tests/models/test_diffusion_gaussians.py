"""The distributions of a diffusion process, against what is known of them in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from chelys.models.diffusion_schedule import (
    TRAIN_STEPS,
    DiffusionSchedule,
    Gaussian,
    predict_x0,
    q_posterior,
    q_sample,
)
from chelys.training.losses import BIN, discretized_nll, normal_kl, variational_bound

SCHEDULE = DiffusionSchedule(range(TRAIN_STEPS))


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_step_of_each_row_is_that_step_of_all() -> None:
    clean, noise, said = (random(seed, 3, 4, 5) for seed in range(3))
    steps = torch.tensor([0, 17, 3999])
    x = q_sample(SCHEDULE, steps, clean, noise)
    torch.testing.assert_close(predict_x0(SCHEDULE, steps, x, noise), clean, rtol=1e-3, atol=1e-3)
    together = q_posterior(SCHEDULE, steps, x, clean, said)
    for row, step in enumerate(steps.tolist()):
        one = slice(row, row + 1)
        alone = q_posterior(SCHEDULE, step, x[one], clean[one], said[one])
        torch.testing.assert_close(together.mean[one], alone.mean)
        torch.testing.assert_close(together.log_variance[one], alone.log_variance)


def test_divergence() -> None:
    means, logs = random(0, 2, 50), random(1, 2, 50)
    a, b = (Normal(m, (0.5 * v).exp()) for m, v in zip(means, logs, strict=True))
    made = normal_kl(Gaussian(means[0], logs[0]), Gaussian(means[1], logs[1]))
    torch.testing.assert_close(made, kl_divergence(a, b), rtol=1e-4, atol=1e-5)
    assert float(normal_kl(Gaussian(means[0], logs[0]), Gaussian(means[0], logs[0])).abs().max()) < 1e-6


def test_surprise_is_that_of_the_bin() -> None:
    said = Gaussian(torch.tensor([0.1]), torch.tensor([-6.0]))
    normal = Normal(0.1, math.exp(-3))
    expected = -math.log(float(normal.cdf(torch.tensor(0.15 + BIN / 2)) - normal.cdf(torch.tensor(0.15 - BIN / 2))))
    assert float(discretized_nll(torch.tensor([0.15]), said)) == pytest.approx(expected, rel=1e-3)
    bins = torch.linspace(-1, 1, 256)
    wide = Gaussian(torch.zeros(256), torch.zeros(256))
    assert float((-discretized_nll(bins, wide)).exp().sum()) == pytest.approx(1.0, abs=1e-3), (
        "the ends take what is left"
    )


@pytest.mark.parametrize(("spread", "best"), [(0.0, -1.0), (1.0, 1.0)])
def test_the_learned_variance_approaches_that_of_the_true_posterior(spread: float, best: float) -> None:
    """Of data that never varies the reverse step has the posterior's variance, of unit noise the whole beta."""
    step = 1
    clean = spread * random(0, 400, 10, 10)
    index = torch.full((400,), step)
    x = q_sample(SCHEDULE, index, clean, random(1, 400, 10, 10))
    guess = float(SCHEDULE.alphas_cumprod[step].sqrt()) * spread**2 * x  # what is known of the clean one, given x
    variance = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.Adam([variance], lr=0.1)
    for _ in range(120):
        said = q_posterior(SCHEDULE, index, x, guess, variance.expand_as(x))
        bound = variational_bound(SCHEDULE, index, clean, x, said).mean()
        optimizer.zero_grad()
        bound.backward()
        optimizer.step()
    assert float(variance.detach()) == pytest.approx(best, abs=0.1)


def test_the_bound_is_zero_for_whoever_knows_the_clean_mel() -> None:
    clean, index = random(0, 2, 3, 4), torch.tensor([5, 2000])
    x = q_sample(SCHEDULE, index, clean, random(1, 2, 3, 4))
    knows = q_posterior(SCHEDULE, index, x, clean, torch.full_like(x, -1.0))
    assert float(variational_bound(SCHEDULE, index, clean, x, knows).abs().max()) < 1e-5
    wrong = q_posterior(SCHEDULE, index, x, clean + 0.5, torch.full_like(x, -1.0))
    assert float(variational_bound(SCHEDULE, index, clean, x, wrong).min()) > 0
