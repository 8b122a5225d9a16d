"""The sampler against data whose denoiser is known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from chelys.inference.denoise import denoise, spaced_steps
from chelys.models.schedule import STEPS, alphas_cumulative

WIDE = (-1e9, 1e9)
ALPHAS = alphas_cumulative()
BANDS, FRAMES = 3, 5


@dataclass
class Denoiser:
    """Stands in for the network: says what it would say if it took ``clean(x, alpha, content)`` for the clean mel."""

    clean: Callable[[Tensor, Tensor, Tensor], Tensor]
    prediction: str = "clean"
    calls: list[tuple[int, int]] = field(default_factory=list)
    unconditioned: Tensor = field(default_factory=lambda: torch.full((1, 1, 1), -7.0, dtype=torch.float64))
    variance_channels: bool = False

    @property
    def config(self) -> Any:
        return SimpleNamespace(prediction=self.prediction)

    def __call__(self, x: Tensor, time: Tensor, content: Tensor) -> Tensor:
        self.calls.append((len(x), int(time[0])))
        alpha = ALPHAS[time].view(-1, 1, 1)
        clean = self.clean(x, alpha, content)
        noise = (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        said = noise if self.prediction == "epsilon" else clean
        return torch.cat((said, 100 + said), dim=1) if self.variance_channels else said


def start(batch: int = 2) -> Tensor:
    return torch.randn(batch, BANDS, FRAMES, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def saying(value: float, batch: int = 2) -> Tensor:
    return torch.full((batch, 1, FRAMES), value, dtype=torch.float64)


NOTHING = saying(0.0)


def run(network: Any, steps: int, *, guidance: float = 0.0, content: Tensor = NOTHING, **more: Any) -> Tensor:
    return denoise(network, content, start(), steps, guidance, more.pop("bounds", WIDE), **more)


MEAN, DEVIATION = 0.7, 0.4


def gaussian(x: Tensor, alpha: Tensor, content: Tensor) -> Tensor:
    """Posterior mean of data that is normal with MEAN and DEVIATION."""
    gain = alpha.sqrt() * DEVIATION**2 / (alpha * DEVIATION**2 + 1 - alpha)
    return MEAN + gain * (x - alpha.sqrt() * MEAN)


def gaussian_end(x: Tensor) -> Tensor:
    """Where the probability flow takes noise x of the last step of the schedule to: the normal's own map."""
    alpha = ALPHAS[-1]
    return MEAN + DEVIATION * (x - alpha.sqrt() * MEAN) / (alpha * DEVIATION**2 + 1 - alpha).sqrt()


@pytest.mark.parametrize("prediction", ["clean", "epsilon"])
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_data_that_is_one_point_is_reached_in_any_number_of_steps(prediction: str, steps: int) -> None:
    point = torch.linspace(-1, 1, BANDS * FRAMES, dtype=torch.float64).view(1, BANDS, FRAMES)
    reached = run(Denoiser(lambda x, alpha, content: point.expand_as(x), prediction), steps)
    torch.testing.assert_close(reached, point.expand_as(reached), atol=1e-6, rtol=0)


@pytest.mark.parametrize("prediction", ["clean", "epsilon"])
def test_normal_data_is_reached_and_more_steps_come_closer(prediction: str) -> None:
    goal = gaussian_end(start())
    errors = [
        (run(Denoiser(gaussian, prediction), steps) - goal).abs().max().item() for steps in (1, 5, 10, 20, 40, 80)
    ]
    assert errors == sorted(errors, reverse=True), errors
    assert errors[2] < 0.1 * DEVIATION and errors[-1] < 0.01 * DEVIATION, errors
    # one step sees the mean of the data, whatever the noise is
    assert errors[0] > DEVIATION


def test_the_second_order_beats_the_first() -> None:
    """A solver that forgets the step before is DDIM."""
    clean_end = gaussian_end(start())

    def first_order(steps: int) -> Tensor:
        visited, x, network = spaced_steps(steps), start(), Denoiser(gaussian)
        for here, there in zip(visited, [*visited[1:], None], strict=True):
            alpha = ALPHAS[here]
            clean = gaussian(x, alpha, NOTHING)
            if there is None:
                return clean
            noise = (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()
            x = ALPHAS[there].sqrt() * clean + (1 - ALPHAS[there]).sqrt() * noise
        raise AssertionError(network)

    for steps in (10, 20, 40):
        ours = (run(Denoiser(gaussian), steps) - clean_end).abs().max()
        assert ours < 0.5 * (first_order(steps) - clean_end).abs().max()


def follow(x: Tensor, alpha: Tensor, content: Tensor) -> Tensor:
    """The clean mel is what the content says."""
    return content.expand_as(x)


def test_without_guidance_the_content_alone_decides_and_the_network_runs_once_a_step() -> None:
    network = Denoiser(follow)
    torch.testing.assert_close(run(network, 6, content=saying(0.25)), torch.full_like(start(), 0.25))
    assert network.calls == [(2, step) for step in spaced_steps(6)]


@pytest.mark.parametrize("prediction", ["clean", "epsilon"])
def test_guidance_leads_away_from_what_is_said_without_content(prediction: str) -> None:
    # (1 + g) conditioned - g unconditioned, of velocities and noises as of clean mels: 1.5 * 0.25 + 0.5 * 7
    network = Denoiser(follow, prediction)
    reached = run(network, 6, guidance=0.5, content=saying(0.25))
    torch.testing.assert_close(reached, torch.full_like(reached, 1.5 * 0.25 + 0.5 * 7.0), atol=1e-6, rtol=0)
    assert network.calls == [(4, step) for step in spaced_steps(6)]  # both passes as one batch


def test_guidance_changes_nothing_where_content_says_nothing_new() -> None:
    unguided, guided = (run(Denoiser(gaussian), 10, guidance=g) for g in (0.0, 2.0))
    torch.testing.assert_close(unguided, guided)


def test_rows_keep_to_themselves() -> None:
    contents = torch.cat((saying(0.25, 1), saying(-0.5, 1)))
    reached = run(Denoiser(follow), 4, guidance=1.0, content=contents)
    torch.testing.assert_close(reached[:, 0, 0].tolist(), [2 * 0.25 + 7.0, 2 * -0.5 + 7.0])


def test_the_clean_mel_is_held_within_its_bounds_at_every_step() -> None:
    reached = run(Denoiser(follow), 4, content=saying(9.0), bounds=(-1.0, 2.0))
    assert (reached == 2.0).all()


def test_variance_channels_are_left_aside() -> None:
    plain, learned = Denoiser(gaussian, "epsilon"), Denoiser(gaussian, "epsilon", variance_channels=True)
    for guidance in (0.0, 1.0):
        torch.testing.assert_close(run(plain, 5, guidance=guidance), run(learned, 5, guidance=guidance))


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    run(Denoiser(gaussian), 3, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("count", [1, 2, 10, 100, 384, 385, 1000, 3999, 4000])
def test_every_step_is_visited_once_from_the_noisiest_down(count: int) -> None:
    visited = spaced_steps(count)
    assert len(set(visited)) == count and visited == sorted(visited, reverse=True)
    assert visited[0] == STEPS - 1 and visited[-1] >= 0


def test_steps_are_denser_at_the_clean_end() -> None:
    visited = spaced_steps(10)
    gaps = [a - b for a, b in zip(visited, visited[1:], strict=False)]
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < gaps[0] / 1.5


def test_as_many_steps_as_the_schedule_has_are_taken() -> None:
    goal = gaussian_end(start())
    assert (run(Denoiser(gaussian), 1000) - goal).abs().max() < 1e-3


def test_the_schedule_is_the_one_of_ho_et_al_at_4000_steps() -> None:
    betas = 1 - ALPHAS[1:] / ALPHAS[:-1]
    assert len(ALPHAS) == STEPS == 4000
    assert ALPHAS[0].item() == pytest.approx(1 - 2.5e-5)
    assert betas[-1].item() == pytest.approx(5e-3) and (betas.diff() > 0).all()
    assert ALPHAS[-1].item() == pytest.approx(4e-5, rel=0.1)
