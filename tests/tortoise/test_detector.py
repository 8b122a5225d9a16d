"""The detector: probabilities, any length, size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from chelys.errors import ConfigError
from chelys.tortoise.detector import SYNTHETIC, Detector, DetectorConfig

SMALL = DetectorConfig(channels=4, stages=2, blocks=1, kernel_size=3, dim=16, attention_blocks=1, heads=2)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Detector(SMALL).eval()
    torch.nn.init.normal_(model.attention[0].out.weight, std=0.3)  # it starts at zero, where nothing is seen of it
    return model


@pytest.fixture
def wave():
    return torch.randn(3, 200, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)


def test_probabilities(model, wave):
    logits, probability = model(wave), model.probability(wave)
    assert logits.shape == (3, 2) and probability.shape == (3,) and SYNTHETIC == 0
    torch.testing.assert_close(probability, torch.sigmoid(logits[:, 0] - logits[:, 1]))
    assert torch.equal(probability, model.probability(wave))
    assert len({round(p, 6) for p in probability.tolist()}) == 3


def test_rows_do_not_see_each_other(model, wave):
    torch.testing.assert_close(model(wave), torch.cat([model(row[None]) for row in wave]))


def test_one_sample_is_enough():
    model = Detector(replace(SMALL, channels=32)).eval()  # torch refuses to normalise groups of one number
    for samples in (1, 2, 15, 16, 17):
        probability = model.probability(torch.zeros(1, samples))
        assert probability.shape == (1,) and 0 < probability < 1


def test_all_of_time_is_heard(model, wave):
    """The first position decides, but attention brings the last to it."""
    changed = wave.clone()
    changed[:, -5:] += 0.5
    assert not torch.allclose(model(wave), model(changed), atol=1e-5)


def test_every_weight_learns(model, wave):
    with torch.enable_grad():
        model(wave).square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def test_published_size():
    with torch.device("meta"):
        model = Detector(DetectorConfig.tortoise_v2())
    assert sum(weight.numel() for weight in model.parameters()) == 15_224_002


@pytest.mark.parametrize(("change", "said"), [({"kernel_size": 4}, "kernel_size is 4"), ({"heads": 3}, "dim is 16")])
def test_impossible_sizes(change, said):
    with pytest.raises(ConfigError, match=said):
        replace(SMALL, **change)
