"""The diffusion decoder: patches, time, content and shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import toy
from torch import Tensor

from chelys.models.diffusion import Diffusion, DiffusionConfig, TimestepResidualBlock, fold, sinusoids, unfold

SMALL = DiffusionConfig(
    bands=6,
    patch=2,
    dim=16,
    heads=2,
    layers=2,
    latent_dim=10,
    latent_blocks=1,
    codes=30,
    code_blocks=1,
    context_blocks=1,
)


def network(**changes: object) -> Diffusion:
    with torch.random.fork_rng(devices=[]):
        made = Diffusion(replace(SMALL, **changes))  # type: ignore[arg-type]
    toy.stir(made, torch.Generator().manual_seed(0))
    return made.eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_unfold_undoes_fold(patch: int) -> None:
    mel = noise(2, 6, 12)
    folded = fold(mel, patch)
    assert folded.shape == (2, 6 * patch, 12 // patch)
    assert torch.equal(unfold(folded, patch), mel)
    # a position holds neighbouring frames, so that a shift by a patch is a shift by a position
    assert torch.equal(fold(mel.roll(patch, 2), patch), folded.roll(1, 2))
    assert set(folded[0, :, 1].tolist()) == set(mel[0, :, patch : 2 * patch].flatten().tolist())


def test_variance_channels_lie_behind_the_estimate_when_unfolded() -> None:
    estimate, variance = noise(1, 6, 8), noise(1, 6, 8, seed=1)
    assert torch.equal(unfold(fold(torch.cat((estimate, variance), 1), 2), 2)[:, :6], estimate)


def test_times_are_cosines_then_sines() -> None:
    made = sinusoids(torch.tensor([3.0, 0.0]), 1024)
    assert made.shape == (2, 1024)
    # figures of the published network's embedding
    assert made[0, :3].tolist() == pytest.approx([-0.98999250, -0.98103273, -0.96950150], abs=1e-6)
    assert made[0, 512:515].tolist() == pytest.approx([0.14112000, 0.19384217, 0.24508548], abs=1e-6)
    assert torch.equal(made[1], torch.cat((torch.ones(512), torch.zeros(512))))


@pytest.mark.parametrize(
    ("changes", "channels"), [({}, 6), ({"patch": 1}, 6), ({"learned_variance": True}, 12), ({"feed_forward": 0}, 6)]
)
def test_an_estimate_has_the_shape_of_the_mel(changes: dict[str, object], channels: int) -> None:
    diffusion = network(**changes)
    content = diffusion.conditioning(noise(2, 3, 10), noise(2, 32, seed=1), 12 // diffusion.config.patch)
    x = noise(2, 6, 12, seed=2)
    made = diffusion(x, torch.tensor([5, 3000]), content)
    assert made.shape == (2, channels, 12)
    for i in range(2):  # rows keep to themselves
        alone = diffusion(x[i : i + 1], torch.tensor([[5], [3000]][i]), content[i : i + 1])
        torch.testing.assert_close(made[i], alone[0])


def test_it_looks_at_noise_time_latents_and_voice() -> None:
    diffusion = network()
    x, latents, voice, time = noise(1, 6, 12), noise(1, 3, 10, seed=1), noise(1, 32, seed=2), torch.tensor([100])

    def estimate(x: Tensor = x, latents: Tensor = latents, voice: Tensor = voice, time: Tensor = time) -> Tensor:
        return diffusion(x, time, diffusion.conditioning(latents, voice, 6))

    changes = ({"x": -x}, {"latents": -latents}, {"voice": -voice}, {"time": time + 900})
    assert all(not torch.allclose(estimate(**change), estimate(), atol=1e-3) for change in changes)


def test_without_content_a_learned_one_takes_its_place() -> None:
    diffusion = network()
    x, time = noise(2, 6, 12), torch.tensor([7, 8])
    learned = diffusion.uncond_embedding.expand(2, -1, 6)
    assert torch.equal(diffusion(x, time, None), diffusion(x, time, learned))


def test_content_is_stretched_from_codes_to_positions() -> None:
    diffusion = network()
    for content in (
        diffusion.conditioning(noise(1, 3, 10), noise(1, 32, seed=1), 9),
        diffusion.conditioning_of_codes(torch.tensor([[1, 2, 3]]), noise(1, 32, seed=1), 9),
    ):
        assert content.shape == (1, 16, 9)
        assert torch.equal(content[:, :, ::3].repeat_interleave(3, 2), content)  # each code stands for its own frames
        assert not torch.allclose(content[:, :, 0], content[:, :, 3])
        assert diffusion.mel_from_conditioning(content).shape == (1, 6, 18)


def test_a_voice_is_the_mean_over_all_frames_of_all_clips() -> None:
    diffusion = network()
    clips = [noise(1, 6, 40), noise(1, 6, 16, seed=1)]
    voice = diffusion.voice(clips)
    assert voice.shape == (1, 32)
    alone = [diffusion.voice([clip]) for clip in clips]
    torch.testing.assert_close(voice, (10 * alone[0] + 4 * alone[1]) / 14)


def test_published_size() -> None:
    with torch.device("meta"):
        published = Diffusion(DiffusionConfig.tortoise_v2())
    # 292,334,380 in the published file; the auxiliary mel head is among them
    assert sum(parameter.numel() for parameter in published.parameters()) == 292_334_380


def test_a_fresh_network_says_nothing_yet() -> None:
    with torch.random.fork_rng(devices=[]):
        diffusion = Diffusion(SMALL)
    content = diffusion.conditioning(noise(1, 3, 10), noise(1, 32, seed=1), 6)
    assert not diffusion(noise(1, 6, 12), torch.tensor([5]), content).any()
    x, time = noise(1, 16, 4), noise(1, 16, seed=1)
    with torch.random.fork_rng(devices=[]):
        assert torch.equal(TimestepResidualBlock(16)(x, time), x)


def test_layers_are_passed_over_in_training_alone() -> None:
    diffusion = network(layers=8, layer_drop=0.5)
    x, time, content = noise(1, 6, 12), torch.tensor([5]), noise(1, 16, 6, seed=2)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        dropped = [diffusion.train()._dropped(9) for _ in range(200)]
        said = {float(diffusion(x, time, content).sum()) for _ in range(10)}
        quiet = [diffusion.eval()(x, time, content) for _ in range(3)]
    assert len(said) > 5 and all(torch.equal(a, quiet[0]) for a in quiet)
    counts = torch.tensor([sum(number in numbers for numbers in dropped) for number in range(9)]) / 200
    assert counts[0] == counts[8] == 0, "the first and the last never are"
    assert 0.35 < counts[1:8].min() and counts[1:8].max() < 0.65


def test_a_layer_passed_over_has_a_gradient_of_zero() -> None:
    diffusion = network(layers=3, layer_drop=1.0).train()
    diffusion(noise(1, 6, 12), torch.tensor([5]), noise(1, 16, 6, seed=2)).square().mean().backward()
    for number, layer in enumerate(diffusion.layers):
        gradients = [parameter.grad for parameter in layer.parameters()]
        assert all(gradient is not None for gradient in gradients), "engines that sum gradients wait for them"
        assert any(gradient.any() for gradient in gradients) == (number == 0)
