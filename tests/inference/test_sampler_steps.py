"""Single steps of the samplers against what is known of them in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from chelys.inference.diffusion_sampling import ddim_step, ddpm_step, dpm_step
from chelys.models.diffusion_schedule import DiffusionSchedule, even_timesteps, predict_eps, predict_x0, q_posterior

SCHEDULE = DiffusionSchedule(even_timesteps(10))
LAST = len(SCHEDULE) - 1


def random(seed: int, *shape: int) -> Tensor:
    shape = shape or (2, 3, 5)
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


X, CLEAN, NOISE, SAID = (random(seed) for seed in range(4))


@pytest.mark.parametrize("index", [0, 4, LAST])
def test_noise_and_clean_mel_tell_each_other(index: int) -> None:
    alpha = SCHEDULE.alphas_cumprod[index]
    noisy = alpha.sqrt() * CLEAN + (1 - alpha).sqrt() * NOISE
    torch.testing.assert_close(predict_x0(SCHEDULE, index, noisy, NOISE), CLEAN)
    torch.testing.assert_close(predict_eps(SCHEDULE, index, noisy, CLEAN), NOISE)


@pytest.mark.parametrize("index", [1, 4, LAST])
def test_the_posterior_mean_lies_where_the_tables_say(index: int) -> None:
    mean, log_variance = q_posterior(SCHEDULE, index, X, CLEAN)
    before, beta, alpha = SCHEDULE.alphas_cumprod_prev[index], SCHEDULE.betas[index], SCHEDULE.alphas_cumprod[index]
    expected = (before.sqrt() * beta * CLEAN + (1 - beta).sqrt() * (1 - before) * X) / (1 - alpha)
    torch.testing.assert_close(mean, expected)
    torch.testing.assert_close(log_variance.exp(), torch.full_like(X, float(SCHEDULE.posterior_variance[index])))


@pytest.mark.parametrize("index", range(len(SCHEDULE)))
def test_the_network_chooses_between_two_variances_and_beyond(index: int) -> None:
    low, high = SCHEDULE.posterior_log_variance[index], SCHEDULE.betas[index].log()
    for said, expected in ((-1.0, low), (1.0, high), (0.0, (low + high) / 2), (3.0, 2 * high - low)):
        made = q_posterior(SCHEDULE, index, X, CLEAN, torch.full_like(X, said)).log_variance
        torch.testing.assert_close(made, expected.expand_as(X))


def test_ddpm_draws_from_the_posterior_but_for_the_last_step() -> None:
    for variance in (SAID, None):
        mean, log_variance = q_posterior(SCHEDULE, 4, X, CLEAN, variance)
        torch.testing.assert_close(
            ddpm_step(SCHEDULE, 4, X, CLEAN, variance, NOISE), mean + log_variance.exp().sqrt() * NOISE
        )
        torch.testing.assert_close(ddpm_step(SCHEDULE, 0, X, CLEAN, variance, NOISE), CLEAN)


@pytest.mark.parametrize("index", [1, 4, LAST])
def test_ddim_with_all_its_noise_is_ddpm(index: int) -> None:
    """Song et al. 2020, section 4.1: of the variance of the posterior."""
    torch.testing.assert_close(
        ddim_step(SCHEDULE, index, X, CLEAN, 1.0, NOISE), ddpm_step(SCHEDULE, index, X, CLEAN, None, NOISE)
    )


@pytest.mark.parametrize("index", [1, 4, LAST])
def test_ddim_without_noise_keeps_the_clean_mel_and_the_noise_of_before(index: int) -> None:
    alpha = SCHEDULE.alphas_cumprod[index]
    noisy = alpha.sqrt() * CLEAN + (1 - alpha).sqrt() * NOISE
    moved = ddim_step(SCHEDULE, index, noisy, CLEAN, 0.0, None)
    torch.testing.assert_close(predict_eps(SCHEDULE, index - 1, moved, CLEAN), NOISE)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_keeps_as_much_noise_as_there_should_be(eta: float) -> None:
    """Kept and new noise together have the power that the next step has."""
    index, many = 4, 200_000
    clean, kept, new = torch.zeros(many), random(5, many).float(), random(6, many).float()
    noisy = (1 - SCHEDULE.alphas_cumprod[index]).sqrt().float() * kept
    moved = ddim_step(SCHEDULE, index, noisy, clean, eta, new if eta else None)
    assert moved.var().item() == pytest.approx(1 - SCHEDULE.alphas_cumprod[index - 1].item(), rel=0.02)
    correlation = torch.corrcoef(torch.stack((moved, kept)))[0, 1].item()
    assert correlation == pytest.approx(1.0, abs=1e-4) if not eta else correlation < 0.99


def test_the_last_step_of_every_sampler_is_the_clean_mel() -> None:
    assert torch.equal(dpm_step(SCHEDULE, 0, X, CLEAN, NOISE), CLEAN)
    for eta, noise in ((0.0, None), (1.0, NOISE)):
        torch.testing.assert_close(ddim_step(SCHEDULE, 0, X, CLEAN, eta, noise), CLEAN)


@pytest.mark.parametrize("index", [1, 4, LAST])
def test_the_solver_without_a_step_before_is_ddim(index: int) -> None:
    """Lu et al. 2022, section 4: DDIM is its first order. It is also what a step before that saw the same makes."""
    expected = ddim_step(SCHEDULE, index, X, CLEAN, 0.0, None)
    torch.testing.assert_close(dpm_step(SCHEDULE, index, X, CLEAN, None), expected, atol=1e-6, rtol=1e-6)
    if index < LAST:
        torch.testing.assert_close(dpm_step(SCHEDULE, index, X, CLEAN, CLEAN), expected, atol=1e-6, rtol=1e-6)


def test_the_solver_goes_on_in_the_direction_in_which_the_clean_mel_moved() -> None:
    """A clean mel that is linear in the half logarithm of signal over noise is met half a step ahead."""
    index = 4
    here, there, before = (0.5 * SCHEDULE.alphas_cumprod[i].logit() for i in (index, index - 1, index + 1))
    slope = random(7)
    ahead = CLEAN + slope * (there - here) / 2
    made = dpm_step(SCHEDULE, index, X, CLEAN, CLEAN - slope * (here - before))
    torch.testing.assert_close(made, dpm_step(SCHEDULE, index, X, ahead, None), atol=1e-6, rtol=1e-6)
