"""Reads sampled codes for the autoregressive decoder, of several groups of rows at once: the numbers of
``Autoregressive.read_code``, in less time.

A group is the candidates of one text: rows of one length, with keys and values of their own. What costs most, the
linear layers, reads the rows of all groups as one matrix; attention looks at one group at a time. So nothing is padded,
groups join and leave between two steps without moving the others, and no row sees another group.

A step of a few rows is so little work that operators count: queries, keys and values are turned and stored together,
sums go onto what is there, and weights lie as products read them.

A row is the same to the bit whatever its company, as long as a row of a matrix product is. The kernels that torch has
for processors sum each row in one order if there are ``LEAST_ROWS`` of them, however many more; fewer are filled up.

The weights of a large decoder are more than the caches hold, and reading them is most of a step. On a processor that is
faster with them in half precision they are kept so, with activations and sums in float32: logits differ by less than a
thousandth of their size.

b rows of all groups, d width, h heads, c channels of a head.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.errors import UserError
from chelys.machine import measure_once
from chelys.models.autoregressive import Autoregressive, Block
from chelys.nn.attention import KVCache, attend
from chelys.nn.matrices import MOST_LAID, HalfLinear, faster_in_halves, lay_out, matrix

#: Rows that a matrix product has at least.
LEAST_ROWS = 4
#: What products multiply with; activations and sums are float32, or the decoder's own precision.
Weights = Literal["float32", "float16"]
#: What is measured to choose: layers of as many blocks, 64 MB at the published size, and rows.
MEASURED_LAYERS, MEASURED_ROWS = 4, 16


class CodeReader:
    """A decoder in evaluation mode, ready to read codes.

    ``weights``: what it multiplies with; those in float16 lie beside the decoder's own, which are in float32 then.
    Raises UserError if there are no such weights; RuntimeError where torch has no kernel for them.
    """

    def __init__(self, decoder: Autoregressive, weights: Weights = "float32") -> None:
        self.decoder, self.weights = decoder, weights
        self.room = sys.maxsize  # bytes that keys and values may take together
        self.most_rows = sys.maxsize  # rows that there is memory for, as far as is known
        self._rotary: tuple[Tensor, Tensor] | None = None  # a row for each position, grown as needed
        if weights not in get_args(Weights):
            raise UserError(f"weights are {weights!r}: choose {' or '.join(get_args(Weights))}")
        layers = linear_layers(decoder)
        self._halves: dict[nn.Module, HalfLinear] = {}
        if weights == "float32":
            lay_out(layers)
        else:
            self._halves = {layer: HalfLinear(layer) for layer in layers}

    @torch.inference_mode()
    def read(self, codes: Tensor, groups: Sequence[tuple[int, int, KVCache]]) -> Tensor:
        """Read one more code a row.

        ``codes``: ``(b,)``, group after group. ``groups``: of each its rows, the number of its code, of which the first
        sampled one is 1, and its cache, which grows by a column. Returns latents of the next codes ``(b, d)``, for
        ``logits``.
        """
        decoder, b, counts = self.decoder, len(codes), [rows for rows, _, _ in groups]
        x = decoder.code_embedding(codes)
        positions = _rows([number for _, number, _ in groups], groups, codes.device)
        if decoder.config.positions == "learned":
            x = x + decoder.code_position(positions)
        x = _filled(x)
        positions = F.pad(positions, (0, len(x) - b))
        stored = [cache.next_column() for _, _, cache in groups]
        rotary = self._angles(positions, max(number for _, number, _ in groups))
        for layer, block in enumerate(cast(list[Block], decoder.blocks)):
            qkv = self._product(block.qkv, block.attention_norm(x)).unflatten(1, (3, decoder.config.heads, -1))
            if rotary is not None:
                cosines, sines = rotary
                first, second = qkv.chunk(2, dim=-1)
                qkv = torch.cat((second, first), dim=-1).mul_(sines).addcmul_(qkv, cosines)
            queries = qkv[:b, 0].unsqueeze(2).split(counts)
            columns = qkv[:b, 1:].transpose(0, 1).split(counts, dim=1)
            seen = []
            for query, column, layers in zip(queries, columns, stored, strict=True):
                place, keys, values = layers[layer]
                place.copy_(column)
                seen.append(attend(query, keys, values))
            attended = (seen[0] if len(seen) == 1 else torch.cat(seen)).flatten(1)
            x = self._product(block.out, _filled(attended), onto=x)
            x = self._product(block.down, _gelu(self._product(block.up, block.mlp_norm(x))), onto=x)
        for _, _, cache in groups:
            cache.length += 1
        latents: Tensor = decoder.final_norm(decoder.block_norm(x))
        return latents[:b]

    def logits(self, latents: Tensor) -> Tensor:
        """Logits ``(b, ids)`` of latents ``(b, d)``, float32."""
        return self._product(self.decoder.code_head, _filled(latents))[: len(latents)].float()

    def _product(self, module: nn.Linear, x: Tensor, *, onto: Tensor | None = None) -> Tensor:
        """A linear layer of rows ``(b, i)``: ``(b, o)``, added to another."""
        if self._halves:
            product = self._halves[module](x)
            return product if onto is None else product.add_(onto)
        if onto is None:
            return torch.addmm(module.bias, x, matrix(module))
        return torch.addmm(onto, x, matrix(module)).add_(module.bias)

    def _angles(self, positions: Tensor, largest: int) -> tuple[Tensor, Tensor] | None:
        """Cosines, and sines with their signs, for queries, keys and values, ``(b, 3, 1, c)``; values do not turn."""
        if self.decoder.config.positions == "learned":
            return None
        rotary = self._rotary  # once, since several threads may let it grow
        if rotary is None or len(rotary[0]) <= largest:
            tables = self.decoder._rotary(torch.arange(2 * largest + 64, device=positions.device))
            assert tables is not None
            cosines, sines = (table.to(self.decoder.code_head.weight.dtype) for table in tables)
            cosines, sines = torch.cat((cosines, cosines), dim=-1), torch.cat((-sines, sines), dim=-1)
            still = torch.ones_like(cosines), torch.zeros_like(sines)
            rotary = self._rotary = (
                torch.stack((cosines, cosines, still[0]), dim=1).unsqueeze(2),
                torch.stack((sines, sines, still[1]), dim=1).unsqueeze(2),
            )
        return rotary[0][positions], rotary[1][positions]


def row_bytes(decoder: Autoregressive, columns: int) -> int:
    """What keys and values of one row of so many columns take."""
    config = decoder.config
    return 2 * config.layers * config.dim * columns * decoder.code_head.weight.element_size()


def best_weights(decoder: Autoregressive) -> Weights:
    """What this machine reads codes fastest with, of what is exact to a thousandth.

    It is measured once on each machine, for a number of threads, a version of torch and a shape of the layers, so that
    all processes choose alike. Small decoders, whose weights stay in the caches, keep float32.
    """
    layers = linear_layers(decoder)
    weight = layers[0].weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return "float32"
    if sum(layer.weight.nbytes for layer in layers) <= MOST_LAID:
        return "float32"
    widest = [block.up for block in cast(list[Block], list(decoder.blocks))[:MEASURED_LAYERS]]

    def measure() -> Weights:
        with torch.inference_mode():
            return "float16" if faster_in_halves(widest, MEASURED_ROWS) else "float32"

    shape = " x ".join(map(str, (MEASURED_ROWS, *reversed(widest[0].weight.shape))))
    capability = torch.backends.cpu.get_cpu_capability()
    what = f"{capability}, {torch.get_num_threads()} threads, torch {torch.__version__}: weights for {shape}"
    return cast(Weights, measure_once(what, get_args(Weights), measure))


def linear_layers(decoder: Autoregressive) -> list[nn.Linear]:
    """Those that a code passes, the head last."""
    return [*(module for module in decoder.blocks.modules() if isinstance(module, nn.Linear)), decoder.code_head]


def _gelu(x: Tensor) -> Tensor:
    """The tanh form of GELU, written with a sigmoid: torch's own takes two to three times as long on processors."""
    if x.device.type != "cpu":
        return F.gelu(x, approximate="tanh")
    inner = x.square().mul_(0.07135481627).add_(1.59576912161).mul_(x)  # 2 sqrt(2 / pi) (x + 0.044715 x^3)
    return inner.sigmoid_().mul_(x)


def _filled(x: Tensor) -> Tensor:
    """Rows ``(b, d)``, filled up with zeros to ``LEAST_ROWS``."""
    return x if len(x) >= LEAST_ROWS else F.pad(x, (0, 0, 0, LEAST_ROWS - len(x)))


def _rows(numbers: Sequence[int], groups: Sequence[tuple[int, int, KVCache]], device: torch.device) -> Tensor:
    """A number for each group as one for each of its rows."""
    each = [number for number, (rows, _, _) in zip(numbers, groups, strict=True) for _ in range(rows)]
    return torch.tensor(each, device=device)
