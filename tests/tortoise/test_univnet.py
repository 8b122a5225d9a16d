"""UnivNet: the convolution with a kernel of its own for each frame, weight norm, the end of an utterance."""

from __future__ import annotations

import pytest
import torch

from chelys.errors import ConfigError
from chelys.tortoise.univnet import PADDING_FRAMES, UnivNet, UnivNetConfig, location_variable_convolution
from chelys.tortoise.univnet_pieces import StagePieces, UnivNetPieces

SMALL = UnivNetConfig(mel_bands=6, noise_dim=5, channels=4, strides=(4, 3), dilations=(1, 3), predictor_channels=8)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return UnivNet(SMALL).eval()


@pytest.fixture
def mel():
    return torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("taps", [1, 3, 5])
def test_location_variable_convolution_sample_by_sample(taps):
    generator = torch.Generator().manual_seed(0)
    frames, hop, inputs, outputs = 3, 4, 2, 3
    x = torch.randn(2, inputs, frames * hop, generator=generator)
    kernels = torch.randn(2, inputs, outputs, taps, frames, generator=generator)
    biases = torch.randn(2, outputs, frames, generator=generator)
    expected = torch.zeros(2, outputs, frames * hop)
    for at in range(frames * hop):
        frame = at // hop
        expected[:, :, at] = biases[:, :, frame]
        for tap in range(taps):
            source = at + tap - taps // 2
            if 0 <= source < frames * hop:
                expected[:, :, at] += torch.einsum("bi,bio->bo", x[:, :, source], kernels[..., tap, frame])
    torch.testing.assert_close(location_variable_convolution(x, kernels, biases), expected)


def test_a_hop_of_samples_for_each_frame(model, mel):
    assert SMALL.hop == 12
    wave = model(mel, torch.zeros(2, 5, 9))
    assert wave.shape == (2, 9 * 12)
    assert wave.abs().max() <= 1


def test_weight_norm_makes_the_same_wave(mel):
    torch.manual_seed(0)
    model = UnivNet(SMALL, weight_norm=True)
    noise = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(2))
    split, names = model(mel, noise), set(model.state_dict())
    model.fold()
    folded = model(mel, noise)
    torch.testing.assert_close(split, folded)
    assert set(model.state_dict()) == set(UnivNet(SMALL).state_dict())
    model.unfold()
    torch.testing.assert_close(model(mel, noise), folded)
    assert set(model.state_dict()) == names != set(UnivNet(SMALL).state_dict())


def test_a_seed_means_one_wave(model, mel):
    first, again, other = (model.vocode(mel, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert first.shape == (2, 9 * SMALL.hop)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_global_random_state(model, mel):
    before = torch.get_rng_state()
    model.vocode(mel, torch.Generator().manual_seed(3))
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(AssertionError, match="generator"):
        model.vocode(mel)


def test_what_follows_the_end_is_silence(model, mel):
    noise = torch.randn(2, 5, 9 + PADDING_FRAMES, generator=torch.Generator().manual_seed(2))
    padded = torch.cat([mel, torch.full((2, 6, PADDING_FRAMES), -11.5129)], dim=-1)
    torch.testing.assert_close(model.vocode(mel, noise=noise), model(padded, noise)[:, : 9 * SMALL.hop])


def test_published_size():
    with torch.device("meta"):
        sizes = [
            sum(weight.numel() for weight in UnivNet(UnivNetConfig.c32(), weight_norm=norm).parameters())
            for norm in (True, False)
        ]
    assert sizes == [14_865_506, 14_789_153]
    assert UnivNetConfig.c32().hop == 256
    assert UnivNetConfig.c32().slope == 0.2 and UnivNetConfig.c32().dilations == (1, 3, 9, 27)  # no weight tells them


def test_even_kernels_have_no_middle():
    with pytest.raises(ConfigError, match="odd"):
        UnivNetConfig(kernel_size=4)


@pytest.mark.parametrize("config", [UnivNetConfig(channels=4, predictor_channels=8), UnivNetConfig(
    channels=3, predictor_channels=6, strides=(3, 4), dilations=(1, 5), kernel_size=5, predictor_blocks=1
)])  # fmt: skip
@torch.inference_mode()
def test_pieces_are_the_whole(config: UnivNetConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    vocoder = UnivNet(config).eval().double()
    for parameter in vocoder.parameters():
        parameter.mul_(3.0)  # so that far frames are heard
    mel, noise = torch.randn(2, 100, 150).double(), torch.randn(2, 64, 150).double()
    whole = vocoder(mel, noise)
    assert whole.std() > 0.05
    for frames in (1000, 40, 7):
        monkeypatch.setattr("chelys.tortoise.univnet_pieces.PIECE_FRAMES", frames)
        torch.testing.assert_close(UnivNetPieces(vocoder)(mel, noise), whole, rtol=0, atol=1e-7)
    monkeypatch.setattr(StagePieces, "reach", 0)
    assert (UnivNetPieces(vocoder)(mel, noise) - whole).abs().max() > 1e-4, "the test can fail"
