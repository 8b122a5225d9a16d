"""Voice priors: a seed is a voice."""

from __future__ import annotations

import pytest
import torch

from chelys.errors import ConfigError
from chelys.tortoise.voice_prior import VoicePrior, VoicePriorConfig


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VoicePrior(VoicePriorConfig(dim=12)).eval()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_seed_is_a_voice(model):
    voice = model.draw(seeded(1))
    assert voice.shape == (12,)
    assert torch.equal(voice, model.draw(seeded(1)))
    assert not torch.allclose(voice, model.draw(seeded(2)))


def test_drawing_takes_the_numbers_that_the_original_takes(model):
    """One standard normal row, so that the second prior of a seed is right, too."""
    ours, theirs = seeded(1), seeded(1)
    for _ in range(2):
        torch.testing.assert_close(model.draw(ours), model(torch.randn(1, 12, generator=theirs))[0])


def test_drawing_leaves_global_random_state_alone(model):
    before = torch.get_rng_state()
    model.draw(seeded(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_one_layer_by_hand():
    model = VoicePrior(VoicePriorConfig(dim=1, hidden_layers=1))
    with torch.no_grad():
        for layer, (weight, bias) in zip(model.layers, ((2.0, 3.0), (5.0, 7.0)), strict=True):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
    rising, falling = model(torch.tensor([[10.0], [-10.0]])).flatten().tolist()
    assert rising == pytest.approx(5 * 2**0.5 * (10 * 2 * 0.1 + 3 * 0.1) + 7)
    assert falling == pytest.approx(5 * 2**0.5 * 0.2 * (-10 * 2 * 0.1 + 3 * 0.1) + 7)


@pytest.mark.parametrize(("dim", "parameters"), [(1024, 6_297_600), (2048, 25_178_112)])
def test_published_sizes(dim, parameters):
    with torch.device("meta"):
        model = VoicePrior(VoicePriorConfig.tortoise_v2(dim))
    assert sum(weight.numel() for weight in model.parameters()) == parameters


def test_impossible_size():
    with pytest.raises(ConfigError, match="dim is 0"):
        VoicePriorConfig(dim=0)
