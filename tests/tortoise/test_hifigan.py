"""HiFi-GAN: lengths, windows of the whole, and what later codes cannot change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from chelys.errors import ConfigError
from chelys.tortoise.hifigan import RATE_RATIO, HiFiGAN, HiFiGANConfig, stretch, stretch_rows

SMALL = HiFiGANConfig(
    latent_dim=12, voice_dim=10, channels=16, strides=(4, 2), stride_kernels=(8, 4), block_kernels=(3, 5),
    dilations=(1, 2),
)  # fmt: skip
#: Other sizes that the margin of a window must be right for, too.
SIZES = {
    "small": SMALL,
    "uneven": replace(SMALL, strides=(3, 2, 2), stride_kernels=(7, 2, 6), block_kernels=(3,), dilations=(1, 3)),
    "published, narrow": HiFiGANConfig(latent_dim=8, voice_dim=6, channels=16),
}


def make(config: HiFiGANConfig = SMALL, *, weight_norm: bool = False) -> HiFiGAN:
    torch.manual_seed(0)
    model = HiFiGAN(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("weight"):  # as torch makes them they are so small that most of the signal is lost on its way
            torch.nn.init.normal_(parameter, std=(1.5 / parameter[0].numel()) ** 0.5)
    if weight_norm:
        model.unfold()
    return model


def take(config: HiFiGANConfig, codes: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, codes, config.latent_dim, generator=generator)
    return latents, torch.randn(batch, config.voice_dim, generator=generator)


@pytest.fixture(params=SIZES)
def model(request):
    return make(SIZES[request.param])


def test_shape_range_and_repetition():
    model = make()
    latents, voice = take(SMALL, 9, batch=2)
    wave = model.decode(latents, voice)
    assert wave.shape == (2, model.wave_length(9)) and wave.abs().max() <= 1 and wave.std() > 0.05
    assert torch.equal(wave, model.decode(latents, voice))
    assert not torch.allclose(wave[:1], model.decode(latents[:1], voice[1:]), atol=1e-4), "the voice counts"
    torch.testing.assert_close(wave[1:], model.decode(latents[1:], voice[1:]))


def test_published_lengths():
    with torch.device("meta"):
        model = HiFiGAN(HiFiGANConfig.tortoise_v2())
    assert [model.wave_length(codes) for codes in (6, 10, 60)] == [6_656, 11_008, 66_816]


def test_stretching_is_torchs_of_each_step():
    """Positions and lengths of the original, which interpolates twice."""
    model = make()
    for codes in (1, 2, 7, 147, 302, 603):
        latents = torch.randn(1, 3, codes, generator=torch.Generator().manual_seed(codes))
        expected = F.interpolate(latents, scale_factor=4.0, mode="linear")
        expected = F.interpolate(expected, scale_factor=RATE_RATIO, mode="linear")
        assert model.frames(codes) == expected.shape[-1]
        tolerance = max(1e-5, 1e-6 * codes)  # of a position near 2400, single precision has no finer digit than 2.4e-4
        torch.testing.assert_close(stretch(latents, 0, model.frames(codes)), expected, rtol=0, atol=tolerance)


def test_b12_a_window_is_that_stretch_of_the_whole(model):
    codes = 30
    latents, voice = take(model.config, codes)
    whole, hop, total = model.decode(latents, voice), model.config.hop, model.frames(codes)
    for first, count in ((0, 1), (0, 20), (17, 5), (50, 40), (total - 1, 1), (total - 30, 30), (0, total)):
        window = model.decode_window(latents, voice, first, count)
        torch.testing.assert_close(window, whole[:, first * hop : (first + count) * hop], rtol=0, atol=1e-5)


def test_b12_a_window_costs_no_more_in_a_long_take():
    """Decoding again and again what was already spoken makes streaming quadratic."""
    model = make()
    seen = []
    model.input.register_forward_hook(lambda _, args, __: seen.append(args[0].shape[-1]))
    for codes in (40, 400):
        model.decode_window(*take(SMALL, codes), 100, 10)
    assert seen == [10 + 2 * SMALL.reach] * 2


def test_b12_settled_frames_do_not_change_and_few_are_held_back(model):
    codes, more = 20, 40
    latents, voice = take(model.config, more)
    latents[:, codes:] += 100.0  # what comes later differs as much as can be
    settled, hop = model.settled_frames(codes), model.config.hop
    assert settled > 0 and model.frames(codes) - settled <= model.config.reach + 4
    early, late = model.decode(latents[:, :codes], voice), model.decode(latents, voice)
    torch.testing.assert_close(early[:, : settled * hop], late[:, : settled * hop], rtol=0, atol=1e-5)
    assert not torch.allclose(early, late[:, : early.shape[1]], atol=1e-2), "the others do"
    assert model.settled_frames(1) == 0


def test_b12_pieces_while_codes_come_are_the_whole(model):
    latents, voice = take(model.config, 50)
    pieces, done = [], 0
    for codes in (*range(10, 50, 7), 50):
        end = model.frames(codes) if codes == 50 else model.settled_frames(codes)
        if end > done:
            pieces.append(model.decode_window(latents[:, :codes], voice, done, end - done))
            done = end
    assert len(pieces) > 2
    torch.testing.assert_close(torch.cat(pieces, dim=1), model.decode(latents, voice), rtol=0, atol=1e-5)


def measured_reach(model: HiFiGAN) -> int:
    """How far a change in one frame is heard, in frames."""
    at, length = 60, 121
    frames = torch.zeros(1, model.config.latent_dim, length, requires_grad=True)
    with torch.enable_grad():
        wave = model(frames, torch.zeros(1, model.config.voice_dim))
        hop = model.config.hop
        wave[:, at * hop : (at + 1) * hop].square().sum().backward()
    heard = frames.grad.abs().sum(1)[0].nonzero()
    return int(max(at - heard.min(), heard.max() - at))


def test_the_reach_is_as_far_as_a_frame_is_heard(model):
    assert measured_reach(model) == model.config.reach


def test_published_size():
    with torch.device("meta"):
        model = HiFiGAN(HiFiGANConfig.tortoise_v2(), weight_norm=True)
    assert sum(weight.numel() for weight in model.parameters()) == 17_844_226
    assert (model.config.hop, model.config.reach) == (256, 13)


def test_folding_changes_nothing_but_the_form():
    model = make(weight_norm=True)
    latents, voice = take(SMALL, 9)
    before = model.decode(latents, voice)
    model.fold()
    assert model.state_dict().keys() == make().state_dict().keys()
    torch.testing.assert_close(model.decode(latents, voice), before, rtol=0, atol=1e-5)


def test_every_weight_learns():
    model = make(weight_norm=True)
    latents, voice = take(SMALL, 9)
    with torch.enable_grad():
        model(stretch(latents.transpose(1, 2), 0, model.frames(9)), voice).square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"strides": (4, 2, 2)}, "3 strides and 2 stride_kernels"),
        ({"stride_kernels": (7, 4)}, "each must be larger by an even number"),
        ({"stride_kernels": (2, 4)}, "each must be larger by an even number"),
        ({"block_kernels": (3, 4)}, "they must be odd"),
        ({"channels": 18}, "must be a multiple of 4"),
    ],
)
def test_impossible_sizes(change, said):
    with pytest.raises(ConfigError, match=said):
        replace(SMALL, **change)


def test_rows_are_stretched_as_each_alone():
    latents = torch.randn(4, 5, 20, generator=torch.Generator().manual_seed(0))
    lengths, first = torch.tensor([20, 9, 3, 2]), torch.tensor([31, 0, 4, 2])
    together = stretch_rows(latents, lengths, first, 6)
    for row, (length, start) in enumerate(zip(lengths.tolist(), first.tolist(), strict=True)):
        assert torch.equal(together[row], stretch(latents[row : row + 1, :, :length], start, start + 6)[0])
