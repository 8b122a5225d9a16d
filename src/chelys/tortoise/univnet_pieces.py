"""UnivNet with channels last, stage by stage and piece by piece: the numbers of ``UnivNet.forward``, in less time.

With channels behind time every convolution is a matrix product for each tap, over samples that lie side by side, and
nothing is copied. What a piece of a stage needs around it is recomputed: the layers reach over less than a frame of
the last stages, where nearly all samples are. The predictor's last convolution gives its kernels in the order in which
those products read them, and twice as large where a hyperbolic tangent follows, since tanh(v) is 2 sigmoid(2 v) - 1.

c channels, d dilation, k taps, s mel frames, n samples of a stage.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from chelys.tortoise.univnet import Stage, UnivNet

#: Frames of a stage that are computed at a time: more, and what they give is not in the caches when it is read.
PIECE_FRAMES = 128


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

    def between_zeros(self, name: str, edge: int, rows: int, width: int) -> Tensor:
        """Rows with so many rows of zeros on either side ``(edge + rows + edge, width)``."""
        padded = self.room(name, rows + 2 * edge, width)
        padded[:edge] = 0
        padded[edge + rows :] = 0
        return padded


class UnivNetPieces:
    """A network in evaluation mode, its kernels without weight norm, ready to vocode."""

    def __init__(self, network: UnivNet) -> None:
        self.network = network
        self._stages = [StagePieces(stage) for stage in cast("list[Stage]", list(network.stages))]

    def __call__(self, mel: Tensor, noise: Tensor) -> Tensor:
        """Log-mels ``(b, bands, s)`` and noise ``(b, noise_dim, s)`` to samples ``(b, hop s)``."""
        rows, buffers = [], Buffers(mel)
        for row_mel, row_noise in zip(mel, noise, strict=True):
            x = self.network.input(row_noise[None])[0].t()  # (s, c)
            for stage in self._stages:
                x = stage(x, row_mel, buffers)
            rows.append(self._output(x))
        return torch.stack(rows)

    def _output(self, x: Tensor) -> Tensor:
        """``(n, c)``, which is written to, to the waveform ``(n,)``."""
        output, n = self.network.output, len(x)
        assert output.bias is not None
        taps = output.kernel_size[0]
        each = F.leaky_relu_(x, self.network.activation.negative_slope) @ output.weight[0]  # (n, k)
        each = F.pad(each.t()[None], (taps // 2, taps // 2), mode="reflect")[0]
        y = each[0, :n] + output.bias
        for tap in range(1, taps):
            y += each[tap, tap : tap + n]
        return y.tanh_()


class StagePieces:
    """One stage: ``(n, c)`` and the mel ``(bands, s)`` to ``(n stride, c)``."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.slope = stage, stage.activation.negative_slope
        self.convolutions = cast("list[nn.Conv1d]", list(stage.convolutions))
        self._rise = stage.upsample.weight.permute(0, 2, 1).flatten(1).contiguous()  # (c, 2 stride c)
        self._taps = [layer.weight.permute(2, 1, 0).contiguous() for layer in self.convolutions]  # (k, c, c)
        self._predictor = _predictor(stage)

    @property
    def reach(self) -> int:
        """Samples on either side that a sample depends on."""
        edge = self.stage.predictor.taps // 2
        return sum(layer.kernel_size[0] // 2 * layer.dilation[0] + edge for layer in self.convolutions)

    def __call__(self, x: Tensor, mel: Tensor, buffers: Buffers) -> Tensor:
        frames, rate = mel.shape[1], len(x) // mel.shape[1]
        hop = rate * self.stage.upsample.stride[0]
        halo = -(-self.reach // hop)
        seen = self._seen(mel)
        given = F.pad(F.leaky_relu(x, self.slope), (0, 0, 1, 1))
        result = x.new_empty(frames * hop, x.shape[1])
        for start in range(0, frames, PIECE_FRAMES):
            end = min(start + PIECE_FRAMES, frames)
            first, last = max(0, start - halo), min(frames, end + halo)
            y = self._raised(given[first * rate : last * rate + 2], buffers)
            self._transform(y, seen[first:last], buffers)
            result[start * hop : end * hop] = y[(start - first) * hop : (end - first) * hop]
        return result

    def _seen(self, mel: Tensor) -> Tensor:
        """What the predictor's last convolutions see of each frame, ``(s, k c')``."""
        predictor = self.stage.predictor
        x = predictor.activation(predictor.input(mel[None]))
        for block in predictor.blocks:
            x = x + block(x)
        taps = predictor.kernels.kernel_size[0]
        return F.pad(x[0], (taps // 2, taps // 2)).unfold(1, taps, 1).transpose(0, 1).flatten(1)

    def _raised(self, x: Tensor, buffers: Buffers) -> Tensor:
        """The transposed convolution of ``(n + 2, c)``, of which the outer two are seen alone: ``(n stride, c)``."""
        upsample, (rows, channels) = self.stage.upsample, x.shape
        stride, before = upsample.stride[0], cast(tuple[int, ...], upsample.padding)[0]
        assert upsample.bias is not None
        each = torch.mm(x, self._rise, out=buffers.room("each", rows, 2 * stride * channels)).unflatten(1, (2, -1))
        both = torch.add(each[1:, 0], each[:-1, 1], out=buffers.room("raised", rows - 1, stride * channels))
        return both.view(-1, channels)[before : before + (rows - 2) * stride].add_(upsample.bias)

    def _transform(self, x: Tensor, seen: Tensor, buffers: Buffers) -> None:
        """All layers, in the place of ``(n, c)``."""
        (n, channels), frames, predictor = x.shape, len(seen), self.stage.predictor
        kernels, biases = self._kernels(seen, buffers)
        edge = predictor.taps // 2
        inner = buffers.between_zeros("inner", edge, n, channels)
        y = buffers.room("y", frames, n // frames, 2 * channels)
        for layer, (convolution, taps) in enumerate(zip(self.convolutions, self._taps, strict=True)):
            dilation, middle = convolution.dilation[0], inner[edge : edge + n]
            reach = len(taps) // 2 * dilation
            outer = buffers.between_zeros("outer", reach, n, channels)
            self._activate(x, outer[reach : reach + n])
            assert convolution.bias is not None
            torch.addmm(convolution.bias, outer[:n], taps[0], out=middle)
            for tap in range(1, len(taps)):
                middle.addmm_(outer[tap * dilation : tap * dilation + n], taps[tap])
            self._activate(middle, middle)
            torch.baddbmm(biases[:, layer, None], inner[:n].view(frames, -1, channels), kernels[:, layer, 0], out=y)
            for tap in range(1, predictor.taps):
                y.baddbmm_(inner[tap : tap + n].view(frames, -1, channels), kernels[:, layer, tap])
            gate, value = y.sigmoid_().view(n, -1).chunk(2, dim=1)
            x.sub_(gate).addcmul_(gate, value, value=2)

    def _activate(self, x: Tensor, out: Tensor) -> None:
        torch.ops.aten.leaky_relu.out(x, self.slope, out=out)

    def _kernels(self, seen: Tensor, buffers: Buffers) -> tuple[Tensor, Tensor]:
        """Kernels ``(s, layers, k, c, 2 c)`` and biases ``(s, layers, 2 c)`` of each frame."""
        weight, bias, of_bias, bias_of_bias = self._predictor
        predictor = self.stage.predictor
        kernels = torch.addmm(bias, seen, weight, out=buffers.room("kernels", len(seen), len(bias)))
        biases = torch.addmm(bias_of_bias, seen, of_bias)
        shape = (predictor.layers, predictor.taps, predictor.channels, 2 * predictor.channels)
        return kernels.unflatten(1, shape), biases.unflatten(1, (predictor.layers, -1))


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
