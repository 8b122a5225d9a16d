"""Low-rank adapters: nothing at first, the same after merging, and nothing but them learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
from chelys.nn.lora import LowRank, add_adapters, merge_adapters


class Small(nn.Module):
    """A linear map, two convolutions in a list, an embedding and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(5, 6), nn.LayerNorm(6)
        self.linear = nn.Linear(6, 8)
        self.convolutions = nn.ModuleList((nn.Conv1d(8, 4, 3, stride=2, padding=1), nn.Conv1d(4, 7, 1, bias=False)))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.linear(self.norm(self.embedding(ids))).transpose(1, 2)
        for convolution in self.convolutions:
            x = convolution(x)
        return x


@pytest.fixture
def network() -> Small:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Small().double()


IDS = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3]])


def adapt(network: nn.Module, rank: int = 2) -> list[str]:
    return add_adapters(network, rank, torch.Generator().manual_seed(1))


def learn(network: nn.Module) -> None:
    """Give every trainable weight some value."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


def test_fresh_adapters_change_nothing(network: Small) -> None:
    before = network(IDS)
    assert adapt(network) == ["linear", "convolutions.0", "convolutions.1"]
    assert torch.equal(network(IDS), before)


def test_only_adapters_learn(network: Small) -> None:
    adapt(network)
    trained = {name.rpartition(".")[0].rpartition(".")[2] for name, p in network.named_parameters() if p.requires_grad}
    assert trained == {"up", "down"}
    network(IDS).square().sum().backward()
    assert all(layer.up.weight.grad.abs().sum() > 0 for layer in network.modules() if isinstance(layer, LowRank))


def test_merged_is_what_it_was_beside_the_layer(network: Small) -> None:
    plain, names = network(IDS), list(network.state_dict())
    adapt(network)
    learn(network)
    adapted = network(IDS)
    assert (adapted - plain).abs().max() > 0.1
    merge_adapters(network)
    assert list(network.state_dict()) == names and not any(isinstance(m, LowRank) for m in network.modules())
    assert (network(IDS) - adapted).abs().max() < 1e-12


def test_layers_can_be_left_out(network: Small) -> None:
    generator = torch.Generator().manual_seed(1)
    found = add_adapters(network, 2, generator, wanted=lambda name: name.startswith("convolutions"))
    assert found == ["convolutions.0", "convolutions.1"]
    assert not any(p.requires_grad for p in network.linear.parameters())


def test_the_generator_alone_decides_how_they_begin(network: Small) -> None:
    torch.rand(3)  # wherever the global one stands
    adapt(network)
    down = network.linear.down.weight.clone()
    other = Small().double()
    adapt(other)
    assert torch.equal(other.linear.down.weight, down)


def test_a_decoder_speaks_the_same_when_merged() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = Autoregressive(AutoregressiveConfig(text_tokens=9, codes=12, dim=32, layers=2, heads=2)).double()
    adapt(decoder, rank=4)
    learn(decoder)
    voice, text, codes = torch.ones(1, 32).double(), torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6, 7]])
    beside = decoder.latents(voice, text, codes)
    merge_adapters(decoder)
    assert (decoder.latents(voice, text, codes) - beside).abs().max() < 1e-9
