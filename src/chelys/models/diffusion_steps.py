"""The diffusion decoder, step after step over one conditioning: the numbers of ``Diffusion.forward``, in less time.

What no step changes is made once: kernels as matrices, the tables of relative positions, the rows without guidance.
Positions stand before channels, so that a convolution of width one is a matrix product, one of width three is three of
them, and queries, keys and values are what fused attention wants. The noisy mel, which both passes of guidance share,
is read once; the time of the step, which all rows share, becomes part of the weights of the norms.

A distilled decoder is the same network with low-rank adapters (`chelys.nn.lora`), which are applied as they are.

b rows of conditioning, n rows of the network (twice as many under guidance), d width, p positions, f bands, s frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.models.diffusion import (
    Diffusion,
    DiffusionFeedForward,
    DiffusionLayer,
    TimestepResidualBlock,
    fold,
    sinusoids,
    unfold,
)
from chelys.nn.attention import AttentionBlock, attend
from chelys.nn.matrices import lay_out, matrix
from chelys.nn.norms import GroupNorm

#: The two maps of an adapter, down and up, by the name of its layer in the network.
Adapters = Mapping[str, tuple[Tensor, Tensor]]


class DiffusionSteps:
    """Predictions for one conditioning ``(b, d, p)``, of the network in evaluation mode; no gradients.

    With ``guided`` the rows are followed by as many without conditioning. ``adapters``: of a distilled decoder.
    """

    def __init__(
        self, network: Diffusion, conditioning: Tensor, *, guided: bool, adapters: Adapters | None = None
    ) -> None:
        self.network, self.config, self.uncond_embedding = network, network.config, network.uncond_embedding
        if guided:
            free = network.uncond_embedding.expand_as(conditioning)
            conditioning = torch.cat((conditioning, free))
        self.conditioning = conditioning.transpose(1, 2).contiguous()  # (n, p, d)
        positions = conditioning.shape[2]
        # torch's norm of channels that it sees to be last is faster, but loses bits: too many for an estimate of noise,
        # which the clean mel multiplies
        self._unit = 3 if network.config.prediction == "epsilon" else 2
        self._kernels: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._positions: dict[nn.Module, Tensor] = {}
        used = (network.timestep_encoder, network.mel_in, network.join, network.layers, network.final, network.out)
        kernels = [module for part in used for module in part.modules() if isinstance(module, nn.Conv1d)]
        lay_out(kernels)
        for module in kernels:
            weight = matrix(module)
            if len(weight) > 1:  # a matrix of one tap is what products read as it is
                weight = weight.contiguous()
            self._kernels[module] = (weight, module.bias)  # type: ignore[assignment]
        self._adapters: dict[nn.Module, tuple[Tensor, Tensor]] = {}  # as products read them: (taps, i, r) and (r, o)
        for name, (down, up) in (adapters or {}).items():
            taps = down.permute(2, 1, 0) if down.ndim == 3 else down.t()[None]
            self._adapters[network.get_submodule(name)] = taps, up.flatten(1).t()
        self.adapted = False  # whether the adapters are to be heard
        for layer in (*network.timestep_encoder, *network.layers):
            block = layer.attention
            table = block.position.reversed(positions).to(conditioning.dtype)
            self._positions[block] = table if table.device.type == "cpu" else table.contiguous()

    def __call__(self, x: Tensor, timestep: int, *, guided: bool = True) -> Tensor:
        """Estimates for noisy mels ``(b, f, s)`` at a step of the trained schedule, as ``Diffusion.forward``.

        ``guided``: with the rows that have no conditioning, if they were asked for.
        """
        network, patch = self.network, self.network.config.patch
        time = sinusoids(torch.tensor([timestep], device=x.device), network.config.dim).to(x.dtype)
        time = F.silu(self._linear(network.time2, F.silu(self._linear(network.time1, time))))  # (1, d)
        conditioning = self.conditioning if guided else self.conditioning[: len(x)]
        for layer in cast(list[DiffusionLayer], network.timestep_encoder):
            conditioning = self._layer(layer, conditioning, time)
        mel = self._convolve(network.mel_in, fold(x, patch).transpose(1, 2))
        weight, bias = self._kernels[network.join]
        of_mel, of_conditioning = weight[0].chunk(2)
        joined = torch.matmul(mel, of_mel) + bias
        h = torch.matmul(conditioning, of_conditioning).view(-1, *mel.shape).add_(joined).flatten(0, 1)
        if adapter := self._adapter(network.join):
            both = torch.cat((mel.repeat(len(conditioning) // len(mel), 1, 1), conditioning), dim=2)
            h += both @ adapter[0][0] @ adapter[1]
        for layer in cast(list[DiffusionLayer], network.layers):
            h = self._layer(layer, h, time)
        for block in cast(list[TimestepResidualBlock], network.final):
            h = self._residual(block, h, time)
        h = self._convolve(network.out, F.silu(self._norm(network.out_norm, h)))
        return unfold(h.transpose(1, 2), patch)

    def _layer(self, layer: DiffusionLayer, x: Tensor, time: Tensor) -> Tensor:
        x = self._attention(layer.attention, self._residual(layer.residual, x, time))
        return x if layer.feed_forward is None else self._feed_forward(layer.feed_forward, x)

    def _residual(self, block: TimestepResidualBlock, x: Tensor, time: Tensor) -> Tensor:
        y = self._project(block.conv1, F.silu(self._norm(block.norm1, x), inplace=True))
        scale, shift = self._linear(block.time, time)[0].chunk(2)
        y = F.silu(self._norm(block.norm2, y, scale, shift), inplace=True)
        return self._convolve(block.conv2, y) + x

    def _attention(self, block: AttentionBlock, x: Tensor) -> Tensor:
        n, p, d = x.shape
        qkv = self._project(block.qkv, self._norm(block.norm, x)).view(n, p, block.heads, 3, -1)
        query, key, value = qkv.permute(3, 0, 2, 1, 4)  # each (n, h, p, d / h)
        # from the last query to the first, so that the table of positions is a strided view
        seen = attend(query.flip(2), key, value, self._positions[block]).transpose(1, 2).flip(1)
        return self._project(block.out, seen.reshape(n, p, d), onto=x)

    def _feed_forward(self, block: DiffusionFeedForward, x: Tensor) -> Tensor:
        return self._project(block.down, F.gelu(self._project(block.up, self._norm(block.norm, x))), onto=x)

    def _norm(self, norm: GroupNorm, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Group norm of ``(n, p, d)``, then ``y (1 + scale) + shift``."""
        weight, bias = norm.weight.float(), norm.bias.float()
        if scale is not None and shift is not None:
            scale = 1 + scale.float()
            weight, bias = weight * scale, bias * scale + shift.float()
        wide = x.float().transpose(1, 2).unsqueeze(self._unit)  # (n, d, 1, p) or (n, d, p, 1)
        y = F.group_norm(wide, norm.num_groups, weight, bias, norm.eps)
        return y.squeeze(self._unit).transpose(1, 2).to(x.dtype)

    def _adapter(self, layer: nn.Module) -> tuple[Tensor, Tensor] | None:
        """The adapter of a layer, if it has one that is to be heard."""
        return self._adapters.get(layer) if self.adapted else None

    def _linear(self, layer: nn.Linear, x: Tensor) -> Tensor:
        """A linear layer of ``(1, i)``: ``(1, o)``."""
        y: Tensor = layer(x)
        if adapter := self._adapter(layer):
            y = y + x @ adapter[0][0] @ adapter[1]
        return y

    def _project(self, conv: nn.Conv1d, x: Tensor, *, onto: Tensor | None = None) -> Tensor:
        """Convolution of width one: ``(n, p, i) -> (n, p, o)``, added to another."""
        weight, bias = self._kernels[conv]
        rows = x.flatten(0, 1)
        if onto is None:
            y = torch.addmm(bias, rows, weight[0])
        else:
            y = torch.addmm(onto.flatten(0, 1), rows, weight[0]).add_(bias)
        if adapter := self._adapter(conv):
            y.addmm_(rows @ adapter[0][0], adapter[1])
        return y.unflatten(0, x.shape[:2])

    def _convolve(self, conv: nn.Conv1d, x: Tensor) -> Tensor:
        """Convolution of width three: ``(n, p, i) -> (n, p, o)``."""
        n, p, _ = x.shape
        weight, bias = self._kernels[conv]
        padded = F.pad(x, (0, 0, 1, 1)).flatten(0, 1)  # (n (p + 2), i): rows that are two apart never meet
        taps = padded[:-2], padded[1:-1], padded[2:]
        y = torch.addmm(bias, taps[0], weight[0])
        y.addmm_(taps[1], weight[1]).addmm_(taps[2], weight[2])
        if adapter := self._adapter(conv):
            down, up = adapter
            y.addmm_((taps[0] @ down[0]).addmm_(taps[1], down[1]).addmm_(taps[2], down[2]), up)
        return y.as_strided((n, p, y.shape[1]), ((p + 2) * y.shape[1], y.shape[1], 1))
