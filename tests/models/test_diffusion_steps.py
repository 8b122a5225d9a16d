"""What the diffusion decoder does once for many steps, and what it is given in half precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import toy
from torch import Tensor

from chelys.models.diffusion import Diffusion, DiffusionConfig
from chelys.models.diffusion_steps import DiffusionSteps
from chelys.nn.attention import AttentionBlock, RelativePositionBias

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


def convolves(kind: torch.dtype) -> bool:
    """Whether torch convolves in this precision on this processor; in bfloat16 some with AVX-512 and without bfloat16
    get it wrong by the size of the result (torch 2.13.0, Skylake)."""
    x, weight = noise(1, 32, 5).to(kind), noise(96, 32, 1, seed=1).to(kind)
    wanted = F.conv1d(x.float(), weight.float())
    return float((F.conv1d(x, weight).float() - wanted).norm() / wanted.norm()) < 0.02


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_b9_latents_in_half_precision_are_latents_not_codes(kind: torch.dtype) -> None:
    if not convolves(kind):
        pytest.skip(f"torch's convolution in {kind} is wrong on this processor")
    made, latents, voice = network(), noise(1, 5, 10), noise(1, 64, seed=1)
    whole = made.conditioning(latents.to(kind).float(), voice, 9)
    assert torch.equal(made.conditioning(latents.to(kind), voice, 9), whole)
    half = made.to(kind).conditioning(latents.to(kind), voice.to(kind), 9)  # all of the network in half precision
    assert half.dtype == kind
    torch.testing.assert_close(half.float(), whole, atol=0.1, rtol=0.05)


def test_b9_codes_are_not_taken_for_latents() -> None:
    with pytest.raises(AssertionError, match="conditioning_of_codes"):
        network().conditioning(torch.ones(1, 5, 10, dtype=torch.int64), noise(1, 64), 9)


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


def test_b10_a_step_looks_up_each_distance_once_and_no_pair_of_positions(counted: list[int]) -> None:
    made, layers = network(), SMALL.layers + SMALL.timestep_encoder_layers
    step(made, noise(1, 32, 9), noise(1, 6, 18), 900)
    assert counted == [2 * 9 - 1] * layers


def test_b10_unused_weights_are_not_summed_into_the_output() -> None:
    """The original adds zero times the mean of those that it does not use."""
    made = network()
    content, x = noise(1, 32, 9), noise(1, 6, 18)
    before = step(made, content, x, 300)
    for unused in (made.mel_head, made.code_embedding, made.code_blocks, made.contextual_embedder):
        for weight in unused.parameters():
            weight.fill_(float("nan"))
    assert torch.equal(step(made, content, x, 300), before)


@pytest.mark.parametrize("length", [1, 2, 9, 200])
def test_the_reversed_bias_is_the_bias_and_takes_no_memory(length: int) -> None:
    made = RelativePositionBias(4, 8)
    made.load_state_dict({"weight.weight": noise(32, 4)})
    with torch.no_grad():
        ours, plain = made.reversed(length), made(length)
    assert torch.equal(ours.flip(2), plain)
    assert ours.untyped_storage().nbytes() == 4 * 4 * (2 * length - 1)


@pytest.mark.parametrize("length", [1, 2, 9, 200])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_same_whether_it_may_be_trained_or_not(length: int, masked: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        block = AttentionBlock(32, 4, relative=True)
    toy.stir(block, torch.Generator().manual_seed(0))
    x = noise(2, 32, length)
    mask = torch.arange(length) < torch.tensor([[length], [max(1, length - 3)]]) if masked else None
    trained = block(x, mask)
    with torch.inference_mode():
        torch.testing.assert_close(block(x, mask), trained.detach(), rtol=1e-5, atol=1e-5)


def test_a_bias_follows_its_weights() -> None:
    made = RelativePositionBias(4, 8)
    for change in (
        lambda b: b.load_state_dict({"weight.weight": noise(32, 4, seed=1)}),
        lambda b: b.weight.weight.data.add_(1),
        lambda b: b.to(torch.bfloat16),
    ):
        with torch.no_grad():
            change(made)
            assert torch.equal(made.reversed(9).flip(2), made(9)), change


# ---- step after step over one conditioning --------------------------------------------------------------------------


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("changes", [{}, {"feed_forward": 0, "patch": 1, "final_blocks": 2, "learned_variance": True}])
@torch.inference_mode()
def test_steps_give_what_the_network_gives(changes: dict[str, int], guided: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        made = Diffusion(replace(SMALL, **changes))  # type: ignore[arg-type]
    toy.stir(made, torch.Generator().manual_seed(0))
    made = made.eval()
    positions = 20 // made.config.patch
    content, x = noise(2, 32, positions), noise(2, 6, 20, seed=1)
    steps = DiffusionSteps(made, content, guided=guided)
    for timestep in (0, 700, 3999):
        wanted = made(x, torch.tensor([timestep] * 2), content)
        if guided:
            wanted = torch.cat((wanted, made(x, torch.tensor([timestep] * 2), None)))
        torch.testing.assert_close(steps(x, timestep), wanted, rtol=1e-5, atol=2e-5)
        torch.testing.assert_close(steps(x, timestep, guided=False), wanted[:2], rtol=1e-5, atol=2e-5)


@torch.inference_mode()
def test_steps_in_half_precision_stay_near() -> None:
    made, content, x = network().to(torch.bfloat16), noise(1, 32, 10), noise(1, 6, 20, seed=1)
    steps = DiffusionSteps(made, content.to(torch.bfloat16), guided=False)
    wanted = made.float()(x, torch.tensor([700]), content)
    made.to(torch.bfloat16)
    found = steps(x.to(torch.bfloat16), 700)
    assert found.dtype == torch.bfloat16
    assert (found.float() - wanted).norm() < 0.05 * wanted.norm()
