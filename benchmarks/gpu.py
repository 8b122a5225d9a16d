"""An accelerator checked against the CPU, and timed: nano, and the published sizes with invented weights.

    python benchmarks/gpu.py [--device cuda] [--out gpu.json]

One run of a few minutes. The same sentence is spoken by nano on both devices in float32 and must have the same codes
and nearly the same samples; then every part is measured, in float32 and in the device's own precision, as
`chelys bench` does. The JSON names the card.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import chelys
from chelys.cli.bench import published_parts
from chelys.inference import bench
from chelys.weights.checks import best_device, best_dtype, place

TEXT = "The old boat drifted past the mill, and nobody could say why."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    args = parser.parse_args()
    device = torch.device(best_device() if args.device == "auto" else args.device)
    found: dict[str, Any] = {"nano": {}, "published": {}, "equality": equality(str(device))}
    for name in dict.fromkeys(("float32", best_dtype(device))):
        dtype = place(str(device), name)[1]
        tts = chelys.load(device=str(device), dtype=name)
        model = tts.model
        networks = model.autoregressive, model.clvp, model.diffusion, model.vocoder
        parts = bench.parts_of(*networks, codes=90, sentences=4, candidates=8)
        found["nano"][name] = bench.measure(parts, device, dtype, args.repeats, print)
        found["nano"][name]["presets"] = list(bench.presets(tts, list(tts.family.presets)))
        found["published"][name] = bench.measure(published_parts(device, dtype), device, dtype, args.repeats, print)
        args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["equality"]), args.out)


def equality(device: str) -> dict[str, Any]:
    """How far the device's samples are from the CPU's."""
    ours, theirs = (
        chelys.load(device=where, dtype="float32").speak(TEXT, seed=5, preset="ultra_fast") for where in ("cpu", device)
    )
    same = ours.candidates[0].codes == theirs.candidates[0].codes
    apart = float(np.abs(ours.audio - theirs.audio).max()) if len(ours.audio) == len(theirs.audio) else None
    return {"same_codes": same, "largest_difference": apart}


if __name__ == "__main__":
    main()
