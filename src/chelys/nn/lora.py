"""Low-rank adapters: a layer keeps its weights and learns a small difference to them (Hu et al. 2021, section 4.1).

A map W of r_out x r_in gets two narrow ones behind one another, ``up down`` of rank r. ``up`` begins at zero, so that
a fresh adapter changes nothing; merged, the difference is added to W and the network is what it was in shape and speed.

b batch, d width, s positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

#: Layers that can be adapted.
Adaptable = nn.Linear | nn.Conv1d


class LowRank(nn.Module):
    """A layer with an adapter beside it: ``base`` is the layer itself, frozen.

    ``down`` leads to ``rank`` channels, with the layer's own kernel where it is a convolution; ``up`` from there to the
    layer's outputs.
    """

    def __init__(self, base: Adaptable, rank: int, generator: torch.Generator) -> None:
        """Put an adapter beside a layer; the generator draws ``down``."""
        super().__init__()
        self.base = base.requires_grad_(False)
        if isinstance(base, nn.Conv1d):
            if base.groups != 1 or base.padding_mode != "zeros" or isinstance(base.padding, str):
                raise ValueError(f"{base} is not a plain convolution")
            kernel, stride, padding, dilation = base.kernel_size, base.stride, base.padding, base.dilation
            self.down: Adaptable = nn.Conv1d(
                base.in_channels, rank, kernel[0], stride[0], padding[0], dilation[0], bias=False
            )
            self.up: Adaptable = nn.Conv1d(rank, base.out_channels, 1, bias=False)
        else:
            self.down = nn.Linear(base.in_features, rank, bias=False)
            self.up = nn.Linear(rank, base.out_features, bias=False)
        with torch.no_grad():
            width = self.down.weight[0].numel() ** -0.5
            drawn = torch.rand(self.down.weight.shape, generator=generator)
            self.down.weight.copy_((2 * drawn - 1) * width)
            self.up.weight.zero_()
        self.to(base.weight.device, base.weight.dtype)

    @property
    def weight(self) -> Tensor:
        """The layer's own weights, for code that asks for their dtype or device."""
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        """As the layer's own: ``(b, s, d)`` of a linear map, ``(b, d, s)`` of a convolution."""
        return self.base(x) + self.up(self.down(x))

    @torch.no_grad()
    def merged(self) -> Adaptable:
        """The layer with what was learned added to its weights; it computes the same."""
        up, down, weight = (layer.weight.cpu().double() for layer in (self.up, self.down, self.base))  # not on MPS
        self.base.weight.copy_(weight + (up.flatten(1) @ down.flatten(1)).view_as(weight))
        return self.base


def add_adapters(
    network: nn.Module, rank: int, generator: torch.Generator, *, wanted: Callable[[str], bool] = lambda name: True
) -> list[str]:
    """Freeze a network and put an adapter beside each of its wanted linear maps and convolutions; names these.

    The network is changed in place. Layers that are no wider than ``rank`` get an adapter of that rank all the same.
    """
    network.requires_grad_(False)
    found = [(name, layer) for name, layer in _layers(network) if wanted(name)]
    for name, layer in found:
        _put(network, name, LowRank(layer, rank, generator))
    return [name for name, _ in found]


def adapter_state(network: nn.Module) -> dict[str, Tensor]:
    """The weights of all adapters, which share memory with them, by their names within the network."""
    adapted = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, LowRank)]
    maps = {f"{name}.{part}": getattr(layer, part) for name, layer in adapted for part in ("down", "up")}
    return {f"{name}.weight": layer.weight.detach() for name, layer in maps.items()}


def merge_adapters(network: nn.Module) -> None:
    """Add what all adapters learned to the weights and take them away; the network is frozen still."""
    adapted = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, LowRank)]
    for name, layer in adapted:
        _put(network, name, layer.merged())


def _layers(network: nn.Module) -> Iterator[tuple[str, Adaptable]]:
    for name, layer in list(network.named_modules()):
        if isinstance(layer, Adaptable) and name:
            yield name, layer


def _put(network: nn.Module, name: str, layer: nn.Module) -> None:
    outer, _, own = name.rpartition(".")
    network.get_submodule(outer).register_module(own, layer)  # lists and sequences know their items by number, too
