"""Products of few rows with the weights of a large decoder: ways to keep the weights, CPU ms each and what they err by.

    python benchmarks/products.py [--rows 4,16,32,96]

Eight layers of 1024 x 4096 in turn, 128 MB in float32, so that no cache holds them; one thread, ways in turn, the
best of eight rounds. int8 has activations of 7 bits, scaled for each row, and weights scaled for each output, as
processors without VNNI need.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from chelys.nn.matrices import HalfLinear

LAYERS, INPUTS, OUTPUTS, ROUNDS = 8, 1024, 4096, 8
Way = Callable[[Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="4,16,32,96")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = [nn.Linear(INPUTS, OUTPUTS) for _ in range(LAYERS)]
    with torch.inference_mode():
        for rows in map(int, parser.parse_args().rows.split(",")):
            x = torch.randn(rows, INPUTS)
            ways: dict[str, list[Way]] = {
                "plain": [*layers],
                "laid from input to output": [_laid(layer) for layer in layers],
                "packed by oneDNN": [_packed(layer, rows) for layer in layers],
                "float16": [HalfLinear(layer) for layer in layers],
                "int8": [_int8(layer) for layer in layers],
            }
            rounds = [{name: _seconds(way, x) for name, way in ways.items()} for _ in range(ROUNDS)]
            exact = layers[0].double()(x.double()).float()
            layers[0].float()
            for name, way in ways.items():
                error = float((way[0](x) - exact).norm() / exact.norm())
                print(
                    f"{rows:4} rows  {name:26} {1e3 * min(one[name] for one in rounds) / LAYERS:7.2f} ms  {error:.0e}",
                    flush=True,
                )


def _seconds(way: list[Way], x: Tensor) -> float:
    started = time.process_time()
    for product in way:
        product(x)
    return time.process_time() - started


def _laid(layer: nn.Linear) -> Way:
    weight = layer.weight.t().contiguous()
    return lambda x: torch.addmm(layer.bias, x, weight)


def _packed(layer: nn.Linear, rows: int) -> Way:
    weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().clone(), rows)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, weight, layer.bias, "none", [], "")


def _int8(layer: nn.Linear) -> Way:
    scales = layer.weight.abs().amax(1).div(127).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to drop such tensors
        zeros = torch.zeros_like(scales, dtype=torch.long)
        whole = torch.quantize_per_channel(layer.weight, scales, zeros, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(whole, None)

    def product(x: Tensor) -> Tensor:
        size = x.abs().amax(1, keepdim=True)
        of_units = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(x / size, 1 / 63, 64, packed)
        return of_units.mul_(size).add_(layer.bias)

    return product


if __name__ == "__main__":
    main()
