"""Write TorToise v2's files with invented weights: the published names, shapes and layout, 4.6 GB, no speech in them.

    python benchmarks/invent_published.py OUT [--seed 0] [--optional] [--hub-layout]

Matrices are noise of standard deviation 0.02, gains are 1, biases 0, so that nothing explodes; what has to be no noise
(rotary angles, causal masks) is as it should be. ``vocoder.pth`` has entries besides the weights, as the published
one does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from chelys.tortoise.convert import OPTIONAL, REQUIRED
from chelys.tortoise.model import published_skeleton
from chelys.tortoise.sizes import PUBLISHED
from chelys.tortoise.state_dicts import TABLES, to_tortoise

MASK = 1012  # positions that the causal masks of older files cover


def invent(network: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights of one network under their published names."""
    normed = {"weight_norm": True} if TABLES[network].weight_norm else {}
    shapes = to_tortoise(network, published_skeleton(network, PUBLISHED[network], **normed).state_dict())
    constants = TABLES[network].constants()
    state = {}
    for name, like in shapes.items():
        if name in constants:
            state[name] = constants[name]
        elif name.endswith("weight_g"):
            state[name] = torch.full(like.shape, 0.5)
        elif name.endswith((".g", "temperature")) or (name.endswith("weight") and like.ndim == 1):
            state[name] = torch.ones(like.shape)
        elif name.endswith("bias") and like.ndim == 1:
            state[name] = torch.zeros(like.shape)
        else:
            state[name] = torch.empty(like.shape).normal_(std=0.02, generator=generator)
    if network == "autoregressive":
        for layer in range(PUBLISHED[network].layers):
            state[f"gpt.h.{layer}.attn.bias"] = torch.ones(1, 1, MASK, MASK, dtype=torch.bool).tril()
            state[f"gpt.h.{layer}.attn.masked_bias"] = torch.tensor(-10_000.0)
    return state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--optional", action="store_true", help="the optional networks as well")
    parser.add_argument("--hub-layout", action="store_true", help="files in .models/, as in the first repository")
    given = parser.parse_args()
    folder = given.out / ".models" if given.hub_layout else given.out
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(given.seed)
    for network in (*REQUIRED, *(OPTIONAL if given.optional else ())):
        state = invent(network, generator)
        table = TABLES[network]
        more = {"step": 1, "hp_str": "invented", "model_d": {"weight": torch.zeros(8)}}
        torch.save({table.entry: state, **more} if table.entry else state, folder / table.file)
        print(f"{folder / table.file}  {sum(tensor.numel() for tensor in state.values()):,} numbers", flush=True)


if __name__ == "__main__":
    main()
