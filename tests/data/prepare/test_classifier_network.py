"""The clip classifier's network: probabilities, any length, any level, its size."""

from __future__ import annotations

import pytest
import torch

from chelys.audio.mel import log_mel
from chelys.audio.rates import MEL_24K
from chelys.data.prepare.classifier import CLASSES, FAULTS, ClipClassifierConfig, ClipClassifierNetwork, level_mel
from chelys.errors import ConfigError

SMALL = ClipClassifierConfig(channels=(4, 8), dim=16, attention_blocks=1, heads=2)


@pytest.fixture
def network() -> ClipClassifierNetwork:
    torch.manual_seed(0)
    network = ClipClassifierNetwork(SMALL).eval()
    torch.nn.init.normal_(network.attention[0].out.weight, std=0.3)  # it starts at zero, where nothing is seen of it
    return network


@pytest.fixture
def wave() -> torch.Tensor:
    return 0.1 * torch.randn(3, 24_000, generator=torch.Generator().manual_seed(1))


def test_probabilities(network: ClipClassifierNetwork, wave: torch.Tensor) -> None:
    logits, probabilities = network(level_mel(wave)), network.probabilities(wave)
    assert logits.shape == (3, len(FAULTS)) and CLASSES == ("clean", *FAULTS)
    torch.testing.assert_close(probabilities, torch.sigmoid(logits))
    assert len({round(p, 6) for p in probabilities[:, 0].tolist()}) == 3


def test_rows_do_not_see_each_other(network: ClipClassifierNetwork, wave: torch.Tensor) -> None:
    alone = torch.cat([network.probabilities(row[None]) for row in wave])
    torch.testing.assert_close(network.probabilities(wave), alone)


@pytest.mark.parametrize("n", [513, 2_400, 31_337])
def test_any_length(network: ClipClassifierNetwork, n: int) -> None:
    assert torch.isfinite(network.probabilities(torch.randn(2, n))).all()


def test_loudness_is_no_fault(network: ClipClassifierNetwork, wave: torch.Tensor) -> None:
    torch.testing.assert_close(network.probabilities(0.01 * wave), network.probabilities(wave), rtol=1e-3, atol=1e-4)
    loud = wave / wave.square().mean(1, keepdim=True).sqrt() * 0.1
    torch.testing.assert_close(level_mel(wave), log_mel(loud, MEL_24K))
    assert torch.isfinite(network.probabilities(torch.zeros(1, 24_000))).all()  # silence


def test_gradients_reach_every_weight(network: ClipClassifierNetwork, wave: torch.Tensor) -> None:
    network.train()(level_mel(wave)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_size() -> None:
    network = ClipClassifierNetwork(ClipClassifierConfig())
    assert sum(p.numel() for p in network.parameters()) == 711_749


def test_bad_sizes() -> None:
    with pytest.raises(ConfigError, match="dim is 10; it must be a multiple of heads, 4"):
        ClipClassifierConfig(dim=10)
    with pytest.raises(ConfigError, match="channels is empty"):
        ClipClassifierConfig(channels=())
