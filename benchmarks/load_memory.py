"""How much memory loading a model takes, against the size of its weights: the goal is at most 1.1 in float32.

    python benchmarks/load_memory.py [FOLDER] [--dtype float32] [--device cpu]

Without a folder, one with TorToise v2's sizes is invented first (about 4 GB on the disk, removed at the end). A fresh
process loads every network, the optional ones too, and then reads every number once, as speech would: only then are
mapped weights in memory. Printed are the peaks of its resident memory (Linux: VmHWM), what Python and torch took
before included, and what they are of the weights' size.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

MEASURE = """
import json, re, sys
from pathlib import Path
import torch
from chelys.weights.folder import load_model
from chelys.weights.placement import place

def memory():
    status = Path("/proc/self/status").read_text()
    return {key: 1024 * int(re.search(key + r":\\s+(\\d+)", status)[1]) for key in ("VmHWM", "VmRSS", "RssAnon")}

device, dtype = place(sys.argv[2], sys.argv[3])
before = memory()
model = load_model(Path(sys.argv[1]), device=device, dtype=dtype)
networks = [model.autoregressive, model.clvp, model.diffusion, model.vocoder]
networks += [model.extra(name) for name in model.config.EXTRAS if model.has(name)]
loaded = memory()
tensors = [tensor for network in networks for tensor in network.state_dict().values()]
size = sum(tensor.nbytes for tensor in tensors)
for tensor in tensors:
    tensor.view(-1)[:: 4096 // tensor.itemsize].sum().item()  # one number of each page
print(json.dumps({"size": size, "before": before, "loaded": loaded, "read": memory()}))
"""


def invent(folder: Path) -> None:
    """A model folder of the published sizes, with noise for weights."""
    import torch

    from chelys.tortoise.convert import file_of
    from chelys.tortoise.model import published_config, published_skeleton
    from chelys.tortoise.sizes import PUBLISHED
    from chelys.tortoise.tokenizer import make_tortoise_tokenizer
    from chelys.weights.folder import write_config
    from chelys.weights.tensor_file import write_tensors

    hashes = {}
    generator = torch.Generator().manual_seed(0)
    for network, sizes in PUBLISHED.items():
        if network == "dvae":
            continue
        shapes = published_skeleton(network, sizes).state_dict()
        noise = {name: torch.empty(like.shape).normal_(std=0.02, generator=generator) for name, like in shapes.items()}
        hashes[file_of(network)] = write_tensors(folder / file_of(network), noise, network=network, dtype=torch.float32)
    make_tortoise_tokenizer().save(folder)
    write_config(folder, published_config(dvae=None), hashes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = given.folder or Path(made)
        if given.folder is None:
            invent(folder)
        command = [sys.executable, "-c", MEASURE, str(folder), given.device, given.dtype]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    size = found["size"]
    print(f"weights in {given.dtype}: {size / 1e9:.3f} GB")
    for moment, what in (
        ("before", "torch and chelys imported"),
        ("loaded", "loaded"),
        ("read", "every page read once"),
    ):
        peak, own = found[moment]["VmHWM"], found[moment]["RssAnon"]
        print(f"{what:26} peak {peak / 1e9:6.3f} GB, {peak / size:5.3f} of the weights; not mapped {own / 1e9:6.3f} GB")


if __name__ == "__main__":
    main()
