"""The samplers against data whose denoiser is known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from closed_form import (
    ALPHAS,
    BANDS,
    DEVIATION,
    FRAMES,
    MEAN,
    Denoiser,
    follow,
    gaussian,
    gaussian_end,
    saying,
    start,
)
from torch import Tensor

from chelys.inference.diffusion_sampling import ddim_step, sample_mel, sampling_schedule
from chelys.models.diffusion_schedule import TRAIN_STEPS, even_timesteps, packed_timesteps

WIDE = (-1e9, 1e9)
NOTHING = saying(0.0)
SAMPLERS: list[dict[str, Any]] = [
    {"sampler": "dpm++2m"},
    {"sampler": "ddim"},
    {"sampler": "ddim", "eta": 1.0},
    {"sampler": "ddpm"},
]
each_sampler = pytest.mark.parametrize("how", SAMPLERS, ids=["dpm++2m", "ddim", "ddim with noise", "ddpm"])
each_prediction = pytest.mark.parametrize("prediction", ["clean", "epsilon"])


def drawing(seed: int = 9, batch: int = 2) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(batch, BANDS, FRAMES, dtype=torch.float64, generator=generator)


def run(network: Any, steps: int, *, guidance: float = 0.0, content: Tensor = NOTHING, **more: Any) -> Tensor:
    more.setdefault("noise", drawing())
    return sample_mel(network, content, start(), steps, guidance, more.pop("bounds", WIDE), **more)


def off(network: Denoiser, steps: int, **more: Any) -> float:
    """How far normal data's own map is missed."""
    return (run(network, steps, **more) - gaussian_end(start())).abs().max().item()


# ---- where they lead ------------------------------------------------------------------------------------------------


@each_sampler
@each_prediction
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_data_that_is_one_point_is_reached_in_any_number_of_steps(
    how: dict[str, Any], prediction: str, steps: int
) -> None:
    point = torch.linspace(-1, 1, BANDS * FRAMES, dtype=torch.float64).view(1, BANDS, FRAMES)
    reached = run(Denoiser(lambda x, alpha, content: point.expand_as(x), prediction), steps, **how)
    torch.testing.assert_close(reached, point.expand_as(reached), atol=1e-6, rtol=0)


@each_prediction
def test_normal_data_is_reached_and_more_steps_come_closer(prediction: str) -> None:
    errors = [off(Denoiser(gaussian, prediction), steps) for steps in (1, 10, 20, 40, 80)]
    assert errors == sorted(errors, reverse=True), errors
    assert errors[2] < 0.1 * DEVIATION and errors[-1] < 0.01 * DEVIATION, errors
    # one step sees the mean of the data, whatever the noise is
    assert errors[0] > DEVIATION


@each_prediction
def test_ddim_follows_the_same_flow_more_slowly(prediction: str) -> None:
    errors = [off(Denoiser(gaussian, prediction), steps, sampler="ddim") for steps in (1, 5, 20, 80, 320)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.03 * DEVIATION, errors
    assert errors[2] > off(Denoiser(gaussian, prediction), 20)


def test_the_second_order_beats_the_first() -> None:
    """A solver that forgets the step before is DDIM over its steps."""

    def first_order(steps: int) -> Tensor:
        schedule, x = sampling_schedule("dpm++2m", steps), start()
        for index in reversed(range(steps)):
            x = ddim_step(schedule, index, x, gaussian(x, schedule.alphas_cumprod[index], NOTHING), 0.0, None)
        return x

    for steps in (10, 20, 40):
        assert off(Denoiser(gaussian), steps) < 0.5 * (first_order(steps) - gaussian_end(start())).abs().max()


@each_prediction
@pytest.mark.parametrize("how", SAMPLERS[2:], ids=["ddim with noise", "ddpm"])
def test_drawing_samplers_draw_normal_data(how: dict[str, Any], prediction: str) -> None:
    many = 400
    content, begin = saying(0.0, many), start(many)
    made = sample_mel(
        Denoiser(gaussian, prediction), content, begin, 400, 0.0, WIDE, noise=drawing(batch=many), **how
    )  # fmt: skip
    assert made.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert made.std().item() == pytest.approx(DEVIATION, rel=0.05)
    # the end owes nothing to the noise at the start
    assert abs(torch.corrcoef(torch.stack((made.flatten(), begin.flatten())))[0, 1]) < 0.05


def test_a_learned_variance_widens_or_narrows_what_ddpm_draws() -> None:
    """True values lie between the variance of the posterior and beta (Ho et al. 2020, section 3.2)."""
    many = 400
    spread = {}
    for said in (None, -1.0, 1.0):
        made = sample_mel(
            Denoiser(gaussian, "epsilon", variance=said), saying(0.0, many), start(many), 12, 0.0, WIDE,
            sampler="ddpm", noise=drawing(batch=many),
        )  # fmt: skip
        spread[said] = made.std().item()
    assert spread[-1.0] == pytest.approx(spread[None])
    assert spread[-1.0] < DEVIATION < spread[1.0]


# ---- guidance -------------------------------------------------------------------------------------------------------


@each_sampler
def test_without_guidance_the_content_alone_decides_and_the_network_runs_once_a_step(how: dict[str, Any]) -> None:
    network = Denoiser(follow)
    torch.testing.assert_close(run(network, 6, content=saying(0.25), **how), torch.full_like(start(), 0.25))
    steps = packed_timesteps(6) if how["sampler"] == "dpm++2m" else even_timesteps(6)
    assert network.calls == [(2, step) for step in reversed(steps)]


@each_sampler
@each_prediction
def test_guidance_leads_away_from_what_is_said_without_content(how: dict[str, Any], prediction: str) -> None:
    # (1 + g) conditioned - g unconditioned, of noises as of clean mels: 1.5 * 0.25 + 0.5 * 7
    reached = run(Denoiser(follow, prediction), 6, guidance=0.5, content=saying(0.25), **how)
    torch.testing.assert_close(reached, torch.full_like(reached, 1.5 * 0.25 + 0.5 * 7.0), atol=1e-6, rtol=0)


@each_sampler
def test_b10_both_passes_of_guidance_are_one_batch(how: dict[str, Any]) -> None:
    network = Denoiser(follow)
    run(network, 6, guidance=0.5, content=saying(0.25), **how)
    assert [rows for rows, _ in network.calls] == [4] * 6


@each_sampler
def test_guidance_changes_nothing_where_content_says_nothing_new(how: dict[str, Any]) -> None:
    unguided, guided = (run(Denoiser(gaussian), 10, guidance=g, **how) for g in (0.0, 2.0))
    torch.testing.assert_close(unguided, guided)


def test_guidance_leaves_the_variance_alone() -> None:
    unguided, guided = (
        run(Denoiser(gaussian, "epsilon", variance=0.3), 10, guidance=g, sampler="ddpm") for g in (0.0, 2.0)
    )
    torch.testing.assert_close(unguided, guided)


@each_prediction
@pytest.mark.parametrize("sampler", ["ddim", "dpm++2m"])
def test_the_ramp_counts_the_visited_steps(sampler: Any, prediction: str) -> None:
    steps, g = 5, 2.0
    network = Denoiser(follow, prediction)
    reached = run(network, steps, guidance=g, content=saying(0.25), guidance_ramp=True, sampler=sampler)
    whole = (1 + g) * 0.25 + g * 7
    torch.testing.assert_close(reached, torch.full_like(reached, whole), atol=1e-6, rtol=0)  # all at the last step
    weight = g / steps  # at the first
    clean = torch.full_like(start(), (1 + weight) * 0.25 + weight * 7)
    expected = ddim_step(sampling_schedule(sampler, steps), steps - 1, start(), clean, 0.0, None)
    torch.testing.assert_close(network.seen[1][:2], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("share", "guided"), [(1.0, 5), (0.8, 4), (0.5, 2), (0.0, 0)])
def test_the_share_says_which_steps_are_guided(share: float, guided: int) -> None:
    network = Denoiser(follow)
    reached = run(network, 5, guidance=2.0, content=saying(0.25), guidance_share=share)
    rows = [len(noisy) for noisy in network.seen]
    assert rows == [2 * rows[-1] if share < 1 else rows[-1]] * guided + [rows[-1]] * (5 - guided)
    last = (1 + 2.0) * 0.25 + 2.0 * 7 if share == 1 else 0.25
    torch.testing.assert_close(reached, torch.full_like(reached, last), atol=1e-6, rtol=0)


@each_sampler
def test_rows_keep_to_themselves(how: dict[str, Any]) -> None:
    contents = torch.cat((saying(0.25, 1), saying(-0.5, 1)))
    reached = run(Denoiser(follow), 4, guidance=1.0, content=contents, **how)
    torch.testing.assert_close(reached[:, 0, 0].tolist(), [2 * 0.25 + 7.0, 2 * -0.5 + 7.0])


# ---- the rest -------------------------------------------------------------------------------------------------------


@each_sampler
def test_the_clean_mel_is_held_within_its_bounds_at_every_step(how: dict[str, Any]) -> None:
    beyond, at_the_bound = Denoiser(follow), Denoiser(follow)
    reached = run(beyond, 4, content=saying(9.0), bounds=(-1.0, 2.0), **how)
    run(at_the_bound, 4, content=saying(2.0), **how)
    torch.testing.assert_close(reached, torch.full_like(reached, 2.0))
    assert all(torch.equal(x, y) for x, y in zip(beyond.seen, at_the_bound.seen, strict=True))


def test_samplers_that_do_not_draw_leave_variance_channels_aside() -> None:
    plain, learned = Denoiser(gaussian, "epsilon"), Denoiser(gaussian, "epsilon", variance=0.3)
    for how in SAMPLERS[:3]:
        for guidance in (0.0, 1.0):
            torch.testing.assert_close(
                run(plain, 5, guidance=guidance, **how), run(learned, 5, guidance=guidance, **how)
            )


@pytest.mark.parametrize(("how", "times"), list(zip(SAMPLERS, [0, 0, 7, 7], strict=True)))
def test_noise_is_drawn_once_a_step_the_last_too_or_never(how: dict[str, Any], times: int) -> None:
    drawn: list[Tensor] = []
    draw = drawing()

    def noise() -> Tensor:
        drawn.append(draw())
        return drawn[-1]

    first = run(Denoiser(gaussian), 7, noise=noise, **how)
    assert len(drawn) == times
    again, other = (run(Denoiser(gaussian), 7, noise=drawing(seed), **how) for seed in (9, 10))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (times == 0)
    # that of the last step is left
    replayed = [*drawn[:-1], drawn[-1] + 1] if drawn else []
    assert torch.equal(first, run(Denoiser(gaussian), 7, noise=lambda: replayed.pop(0), **how))


@pytest.mark.parametrize("how", SAMPLERS[2:], ids=["ddim with noise", "ddpm"])
def test_a_sampler_that_draws_must_be_given_noise(how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="pass noise"):
        run(Denoiser(gaussian), 3, noise=None, **how)


@each_sampler
def test_progress_is_told(how: dict[str, Any]) -> None:
    told: list[tuple[int, int]] = []
    run(Denoiser(gaussian), 3, progress=lambda _, done, of: told.append((done, of)), **how)
    assert told == [(1, 3), (2, 3), (3, 3)]


@each_sampler
def test_as_many_steps_as_the_schedule_has_are_taken(how: dict[str, Any]) -> None:
    network = Denoiser(gaussian)
    reached = run(network, TRAIN_STEPS, **how)
    assert [step for _, step in network.calls] == list(range(TRAIN_STEPS))[::-1]
    if how in SAMPLERS[:2]:
        assert (reached - gaussian_end(start())).abs().max() < 2e-3
    else:
        assert reached.isfinite().all() and abs(reached.mean() - MEAN) < 4 * DEVIATION / reached.numel() ** 0.5


@each_sampler
def test_a_network_in_half_precision_is_asked_in_it_and_the_rest_stays_whole(how: dict[str, Any]) -> None:
    half = Denoiser(gaussian, uncond_embedding=torch.full((1, 1, 1), -7.0, dtype=torch.bfloat16))
    network = lambda x, time, content: half(x, time, content).bfloat16()  # noqa: E731
    network.config, network.uncond_embedding = half.config, half.uncond_embedding  # type: ignore[attr-defined]
    reached = run(network, 10, guidance=1.0, **how)
    assert {x.dtype for x in half.seen} == {torch.bfloat16} and reached.dtype == torch.float64
    assert (reached - run(Denoiser(gaussian), 10, **how)).abs().max() < 0.05


def test_the_formula_is_told_the_alphas_of_the_trained_schedule() -> None:
    """Guards this file: another schedule in the formula than in the samplers would miss normal data."""
    assert len(ALPHAS) == TRAIN_STEPS and off(Denoiser(gaussian), 320) < 0.002 * DEVIATION
