"""UnivNet with channels last, piece by piece: the numbers of ``UnivNet.forward``, in less time.

With channels behind time torch's convolutions copy nothing, and the samples that a kernel of a frame sees lie side by
side. The predictor's last convolution gives its kernels in the order in which those products read them, and
twice as large where a hyperbolic tangent follows, since tanh(v) is 2 sigmoid(2 v) - 1.

c channels, d dilation, s mel frames, n samples of a stage.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from chelys.tortoise.univnet import Stage, UnivNet

#: Frames that are vocoded at a time: in one piece, tens of megabytes for each layer are mapped and unmapped.
PIECE_FRAMES = 220


class Buffers:
    """Room for results that the next piece needs again; to map fresh memory takes longer than to compute."""

    def __init__(self, like: Tensor) -> None:
        self._like, self._flat = like, dict[str, Tensor]()

    def room(self, name: str, *shape: int) -> Tensor:
        """A contiguous tensor, whose content is what it happens to be."""
        size = math.prod(shape)
        if name not in self._flat or self._flat[name].numel() < size:
            self._flat[name] = self._like.new_empty(size)
        return self._flat[name][:size].view(shape)


class UnivNetPieces:
    """A network in evaluation mode, its kernels without weight norm, ready to vocode."""

    def __init__(self, network: UnivNet) -> None:
        self.network = network
        self._predictors = [_predictor(stage) for stage in network.stages]  # type: ignore[arg-type]

    def __call__(self, mel: Tensor, noise: Tensor) -> Tensor:
        """Log-mels ``(b, bands, s)`` and noise ``(b, noise_dim, s)`` to samples ``(b, hop s)``.

        Each piece is vocoded with as many frames around it as it depends on.
        """
        frames, hop, reach = mel.shape[-1], self.network.config.hop, self.network.config.reach
        rows, buffers = [], Buffers(mel)
        for row in range(len(mel)):
            pieces = []
            for start in range(0, frames, PIECE_FRAMES):
                end = min(start + PIECE_FRAMES, frames)
                first, last = max(0, start - reach), min(frames, end + reach)
                piece = self._piece(mel[row, :, first:last], noise[row, :, first:last], buffers)
                pieces.append(piece[(start - first) * hop : (end - first) * hop])
            rows.append(torch.cat(pieces))
        return torch.stack(rows)

    def _piece(self, mel: Tensor, noise: Tensor, buffers: Buffers) -> Tensor:
        network = self.network
        x = network.input(noise[None])[0].t().contiguous()  # (s, c)
        for stage, predictor in zip(network.stages, self._predictors, strict=True):
            x = self._stage(stage, predictor, x, mel, buffers)  # type: ignore[arg-type]
        taps, bias = network.output.kernel_size[0], network.output.bias
        edge = taps // 2
        assert bias is not None
        y = network.activation(F.pad(x.t(), (edge, edge), mode="reflect")).t()
        each = y @ network.output.weight[0]  # (n + taps - 1, taps)
        return torch.stack([each[tap : tap + len(x), tap] for tap in range(taps)]).sum(0).add_(bias).tanh_()

    def _stage(
        self, stage: Stage, predictor: tuple[Tensor, Tensor, Tensor, Tensor], x: Tensor, mel: Tensor, buffers: Buffers
    ) -> Tensor:
        """``(n, c)`` and ``(bands, s)`` to ``(n stride, c)``."""
        x = stage.upsample(stage.activation(x.t()[None]))[0].t().contiguous()
        n, channels = x.shape
        kernels, biases = _kernels(stage, predictor, mel, buffers)
        taps, frames = stage.predictor.taps, len(kernels)
        hop, width = n // frames, taps * channels
        seen, y = buffers.room("seen", frames, hop, width), buffers.room("y", frames, hop, 2 * channels)
        padded = F.pad(x, (0, 0, taps // 2, taps // 2))  # what is not between the edges stays zero
        windows = padded.as_strided((frames, hop, width), (hop * channels, channels, 1))
        for layer, convolution in enumerate(stage.convolutions):
            padded[taps // 2 : taps // 2 + n] = stage.activation(
                _convolve(convolution, stage.activation(x))  # type: ignore[arg-type]
            )
            torch.baddbmm(biases[:, layer, None], seen.copy_(windows), kernels[:, layer], out=y)
            gate, value = y.sigmoid_().view(n, -1).chunk(2, dim=1)
            x = x.sub_(gate).addcmul_(gate, value, value=2)
        return x


def _convolve(module: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution that keeps the length, of ``(n, i)``: ``(n, o)``."""
    assert not isinstance(module.padding, str)
    (dilation,), (padding,) = module.dilation, module.padding
    weight = module.weight[:, :, None].contiguous(memory_format=torch.channels_last)
    y = F.conv2d(x.t()[None, :, None], weight, module.bias, padding=(0, padding), dilation=(1, dilation))
    return y[0, :, 0].t()


def _predictor(stage: Stage) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights and biases of the convolutions that give kernels and biases, in the order of what reads those."""
    predictor = stage.predictor
    layers, channels, taps = predictor.layers, predictor.channels, predictor.taps
    twice = torch.ones(2 * channels, device=predictor.kernels.weight.device, dtype=predictor.kernels.weight.dtype)
    twice[channels:] = 2
    assert predictor.kernels.bias is not None and predictor.biases.bias is not None
    shape = (layers, channels, 2 * channels, taps)
    weight = predictor.kernels.weight.flatten(1).unflatten(0, shape).permute(4, 0, 3, 1, 2) * twice
    bias = predictor.kernels.bias.unflatten(0, shape).permute(0, 3, 1, 2) * twice
    of_bias = predictor.biases.weight.flatten(1).t().unflatten(1, (layers, -1)) * twice
    bias_of_bias = predictor.biases.bias.unflatten(0, (layers, -1)) * twice
    return weight.flatten(1).contiguous(), bias.flatten(), of_bias.flatten(1).contiguous(), bias_of_bias.flatten()


def _kernels(
    stage: Stage, weights: tuple[Tensor, Tensor, Tensor, Tensor], mel: Tensor, buffers: Buffers
) -> tuple[Tensor, Tensor]:
    """Kernels ``(s, layers, k c, 2 c)`` and biases ``(s, layers, 2 c)`` of each frame."""
    predictor = stage.predictor
    x = predictor.activation(predictor.input(mel[None]))
    for block in predictor.blocks:
        x = x + block(x)
    edge = predictor.kernels.padding[0]
    assert isinstance(edge, int)
    seen = F.pad(x[0], (edge, edge)).unfold(1, predictor.kernels.kernel_size[0], 1).transpose(0, 1).flatten(1)
    weight, bias, of_bias, bias_of_bias = weights
    kernels = torch.addmm(bias, seen, weight, out=buffers.room("kernels", len(seen), len(bias)))
    biases = torch.addmm(bias_of_bias, seen, of_bias)
    shape = (predictor.layers, predictor.taps * predictor.channels, 2 * predictor.channels)
    return kernels.unflatten(1, shape), biases.unflatten(1, (predictor.layers, -1))
