"""What the diffusion decoder does once for many steps, and what it is given in half precision."""

from __future__ import annotations

import threading

import pytest
import torch
import toy
from torch import Tensor

from chelys.models import diffusion
from chelys.models.diffusion import Diffusion, DiffusionConfig, KeptPositionBias
from chelys.nn.attention import RelativePositionBias

SMALL = DiffusionConfig(
    bands=6, dim=32, heads=2, layers=2, latent_dim=10, latent_blocks=1, codes=30, code_blocks=1, context_blocks=1
)


def network() -> Diffusion:
    with torch.random.fork_rng(devices=[]):
        made = Diffusion(SMALL)
    toy.stir(made, torch.Generator().manual_seed(0))
    return made.eval().requires_grad_(False)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- B9: latents in half precision ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_b9_latents_in_half_precision_are_latents_not_codes(kind: torch.dtype) -> None:
    made, latents, voice = network(), noise(1, 5, 10), noise(1, 64, seed=1)
    whole = made.content(latents.to(kind).float(), voice, 9)
    assert torch.equal(made.content(latents.to(kind), voice, 9), whole)
    half = made.to(kind).content(latents.to(kind), voice.to(kind), 9)  # all of the network in half precision
    assert half.dtype == kind
    torch.testing.assert_close(half.float(), whole, atol=0.1, rtol=0.05)


def test_b9_codes_are_not_taken_for_latents() -> None:
    with pytest.raises(AssertionError, match="content_of_codes"):
        network().content(torch.ones(1, 5, 10, dtype=torch.int64), noise(1, 64), 9)


# ---- B10: no work done twice ----------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the tables of distances whose buckets were looked up."""
    sizes: list[int] = []
    bucket = RelativePositionBias.bucket
    monkeypatch.setattr(
        RelativePositionBias, "bucket", lambda self, distance: sizes.append(distance.numel()) or bucket(self, distance)
    )
    return sizes


def step(made: Diffusion, content: Tensor, x: Tensor, time: int) -> Tensor:
    with torch.inference_mode():
        return made(x, torch.full((len(x),), time), content)


def test_b10_position_bias_is_computed_once_for_all_steps_of_a_length(counted: list[int]) -> None:
    made, layers = network(), SMALL.layers + SMALL.integrator_layers
    first, other = noise(1, 32, 9), noise(1, 32, 7)
    for time in (900, 500, 20):
        step(made, first, noise(1, 6, 18, seed=time), time)
    assert counted == [2 * 9 - 1] * layers
    step(made, other, noise(1, 6, 14), 900)
    assert counted == [2 * 9 - 1] * layers + [2 * 7 - 1] * layers


def test_b10_unused_weights_are_not_summed_into_the_output() -> None:
    """The original adds zero times the mean of those that it does not use."""
    made = network()
    content, x = noise(1, 32, 9), noise(1, 6, 18)
    before = step(made, content, x, 300)
    for unused in (made.mel_head, made.code_embedding, made.code_blocks, made.contextual_embedder):
        for weight in unused.parameters():
            weight.fill_(float("nan"))
    assert torch.equal(step(made, content, x, 300), before)


def bias(kept: bool) -> RelativePositionBias:
    made = (KeptPositionBias if kept else RelativePositionBias)(4, 8)
    made.load_state_dict({"weight.weight": noise(32, 4)})
    return made


@pytest.mark.parametrize("length", [1, 2, 9, 200])
@pytest.mark.parametrize("most", [0, 2**22])
def test_a_kept_bias_is_the_bias(length: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion, "MOST_KEPT", most)
    ours, plain = bias(kept=True), bias(kept=False)
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(ours(length), plain(length))
        assert (ours(length) is ours(length)) == (most > 0)
    assert ours(length).requires_grad  # in training it is computed anew


def test_a_kept_bias_is_forgotten_with_its_weights() -> None:
    ours, plain = bias(kept=True), bias(kept=False)
    with torch.inference_mode():
        ours(9)
    # the second writes where no version counts it
    for change in (
        lambda b: b.load_state_dict({"weight.weight": noise(32, 4, seed=1)}),
        lambda b: b.weight.weight.data.add_(1),
        lambda b: b.to(torch.bfloat16),
    ):
        with torch.no_grad():
            change(ours), change(plain)
            assert torch.equal(ours(9), plain(9)), change


def test_renderings_of_two_lengths_at_a_time_do_not_take_each_others_bias() -> None:
    ours, plain = bias(kept=True), bias(kept=False)
    wrong: list[int] = []

    def render(length: int) -> None:
        with torch.inference_mode():
            expected = plain(length)
            wrong.extend(length for _ in range(300) if not torch.equal(ours(length), expected))

    threads = [threading.Thread(target=render, args=(length,)) for length in (5, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
