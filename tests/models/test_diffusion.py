"""The diffusion decoder: patches, time, content and shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import toy
from torch import Tensor

from chelys.models.diffusion import (
    Diffusion,
    DiffusionConfig,
    TimestepResidualBlock,
    clip_spectrum,
    fold,
    sinusoids,
    unfold,
)

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


# ---- the mean spectrum of a voice -----------------------------------------------------------------------------------


def speech(seed: int, tilt: float = 0.0, frames: int = 200) -> Tensor:
    """A mel ``(1, 40, frames)`` of bursts over silence, tilted across its bands."""
    bursts = torch.linspace(0, 12, frames).sin().clamp(min=0) * 2 + 0.2 * noise(40, frames, seed=seed)
    tilted = bursts + tilt * torch.linspace(-1, 1, 40)[:, None]
    return torch.where(torch.linspace(0, 12, frames).sin() > 0, tilted, torch.tensor(-2.5))[None]


def test_a_mean_spectrum_is_of_speech_and_not_of_its_loudness() -> None:
    mean = clip_spectrum(speech(1), torch.zeros(40))[0]
    tilted = clip_spectrum(speech(2, tilt=0.5), mean)[0]
    line = torch.linspace(-0.5, 0.5, 40)
    torch.testing.assert_close(tilted, line - line[:20].mean(), atol=0.1, rtol=0)
    torch.testing.assert_close(clip_spectrum(speech(2, tilt=0.5) + 0.7, mean)[0], tilted, atol=1e-4, rtol=0)
    more_silence = torch.cat((speech(2, tilt=0.5), torch.full((1, 40, 300), -2.5)), 2)
    torch.testing.assert_close(clip_spectrum(more_silence, mean)[0], tilted, atol=0.05, rtol=0)


def test_empty_bands_have_no_say() -> None:
    mean = clip_spectrum(speech(1), torch.zeros(40))[0]
    cut = speech(2, tilt=0.5)
    whole = clip_spectrum(cut, mean)[0]
    cut[:, 28:30] -= 0.5  # where the filter begins
    cut[:, 30:] = cut.min()
    found = clip_spectrum(cut, mean)[0]
    torch.testing.assert_close(found[:26], whole[:26], atol=1e-5, rtol=0)
    assert (found[25:].diff() < 0).all() and found[-1] > 0, "what is last heard fades"


@pytest.mark.parametrize("tokens", [0, 4])
@torch.no_grad()
def test_the_mean_spectrum_goes_past_the_network(tokens: int) -> None:
    diffusion = network(clip_mean=True, bands=20, context_tokens=tokens)
    diffusion.mean_spectrum.copy_(noise(20, seed=3))
    bounds = (-20.0, 20.0)
    clips = noise(2, 3, 20, 40)
    voices = diffusion.voices(clips)
    assert voices.shape == (2, *diffusion.config.voice_shape)
    torch.testing.assert_close(diffusion.voice(list(clips[1].split(1))), voices[1:], atol=1e-5, rtol=1e-5)
    mel = noise(2, 20, 12)
    made = diffusion.with_spectrum(mel, voices, bounds)
    expected = torch.cat([clip_spectrum(c.transpose(0, 1).flatten(1)[None], diffusion.mean_spectrum) for c in clips])
    torch.testing.assert_close(made - mel, expected[:, :, None].expand_as(mel), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(diffusion.without_spectrum(made, voices), mel)
    assert float(diffusion.with_spectrum(mel, voices, (-0.1, 0.1)).abs().max()) == pytest.approx(0.1)
    plain = network(bands=20, context_tokens=tokens)
    assert plain.with_spectrum(mel, voices, bounds) is mel and plain.bounds(bounds) == bounds
    moved = voices.clone()
    moved[:, -1 if tokens else slice(-20, None)] += 1.0
    latents = noise(2, 3, 10)
    assert torch.equal(diffusion.conditioning(latents, moved, 6), diffusion.conditioning(latents, voices, 6))
