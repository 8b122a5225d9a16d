"""How the cost of speech grows: with the text, the candidates, the batch, the threads, and the length of an utterance.

    python benchmarks/growth.py growth.json [--only text,candidates] [--plot docs/images/growth.svg]

CPU seconds of one thread (of "threads" wall seconds), each point after a first sentence; small sizes come first, and
what the file has already is not measured again, so it can be stopped. "utterance" is one guided step, and the vocoder,
at TorToise v2's size with invented weights; all else is nano. ``--plot`` draws what the file has; it needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import chelys
from chelys.inference.bench import TEXT, parts_of

Points = Iterator[tuple[str, float, float]]  # curve, size, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="JSON with all points, read and written")
    parser.add_argument("--only", default=",".join(AXES), help=f"of {', '.join(AXES)}; none with ''")
    parser.add_argument("--plot", type=Path, help="picture to draw")
    args = parser.parse_args()
    torch.set_num_threads(1)
    points: dict[str, dict[str, dict[str, float]]] = json.loads(args.file.read_text()) if args.file.exists() else {}
    for axis in filter(None, args.only.split(",")):
        if axis != "utterance":
            nano()
        for curve, size, work in AXES[axis]():
            known = points.setdefault(axis, {}).setdefault(curve, {})
            if f"{size:g}" not in known:
                known[f"{size:g}"] = work()
                print(f"{axis}  {curve}  {size:g}  {known[f'{size:g}']:.3f}", flush=True)
                args.file.write_text(json.dumps(points, indent=1) + "\n")
    if args.plot:
        draw(points, args.plot)


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of a piece of work."""
    before = time.process_time()
    work()
    return time.process_time() - before


def wall(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


_loaded: list[chelys.Synthesizer] = []


def nano() -> chelys.Synthesizer:
    """The model, after a first sentence."""
    if not _loaded:
        _loaded.append(chelys.load(device="cpu"))
        _loaded[0].speak("Hello.", seed=1)
    return _loaded[0]


# ---- what grows: curve, size, and what measures it ------------------------------------------------------------------


def of_text() -> Any:
    """Characters of the text."""
    for size in (10, 30, 100, 300, 1000, 3000, 10_000):
        text = " ".join([TEXT] * (size // len(TEXT) + 1))[:size].rsplit(" ", 1)[0] + "."
        for preset in ("ultra_fast", "fast"):
            if preset == "ultra_fast" or size <= 3000:
                yield (
                    preset,
                    size,
                    lambda text=text, preset=preset: cpu(lambda: nano().speak(text, preset=preset, seed=1)),
                )


def of_candidates() -> Any:
    """Candidates of a sentence of three seconds."""
    text = TEXT.split(". ")[0] + "."
    for size in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        yield "fast", size, lambda size=size: cpu(lambda: nano().speak(text, candidates=size, seed=1))


def of_batch() -> Any:
    """Candidates that are sampled at a time, for eight sentences with eight each."""
    text = " ".join([TEXT] * 4)
    for size in (8, 16, 32, 64):
        options = {"batch": size}
        yield (
            "fast",
            size,
            lambda options=options: cpu(lambda: nano().speak(text, options=nano().options("fast", **options), seed=1)),
        )


def of_threads() -> Any:
    """Threads, wall seconds."""

    def work(threads: int, preset: str) -> float:
        torch.set_num_threads(threads)
        try:
            return wall(lambda: nano().speak(TEXT, preset=preset, seed=1))
        finally:
            torch.set_num_threads(1)

    for threads in (1, 2):
        for preset in ("ultra_fast", "fast"):
            yield preset, threads, lambda threads=threads, preset=preset: work(threads, preset)


def of_utterance() -> Any:
    """Seconds of an utterance at the published size."""
    from chelys.models.diffusion import Diffusion, DiffusionConfig
    from chelys.tortoise.univnet import UnivNet, UnivNetConfig

    for name, make in (
        ("vocoder", lambda: UnivNet(UnivNetConfig.c32())),
        ("guided step", lambda: Diffusion(DiffusionConfig.tortoise_v2())),
    ):
        with torch.random.fork_rng(devices=[]):
            network = make().eval().requires_grad_(False)
        for seconds in (1, 3, 10, 20, 30):
            networks = (network, None) if name == "guided step" else (None, network)
            codes = round(seconds * 24_000 / 1024)
            part = list(parts_of(None, None, *networks, codes=codes, sentences=1, candidates=1))[0]
            yield name, seconds, lambda part=part: cpu(torch.inference_mode()(part.fast))


AXES = {
    "text": of_text, "candidates": of_candidates, "batch": of_batch, "threads": of_threads, "utterance": of_utterance
}  # fmt: skip


def draw(points: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    """One panel for each axis, both scales logarithmic: a cost that grows in proportion is a line at 45 degrees."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "growth"
    figure, panels = pyplot.subplots(1, len(points), figsize=(3.2 * len(points), 3.2), layout="constrained")
    for panel, (axis, curves) in zip(panels.flat if len(points) > 1 else [panels], points.items(), strict=True):
        for curve, found in curves.items():
            sizes = sorted(map(float, found))
            panel.plot(sizes, [found[f"{size:g}"] for size in sizes], marker="o", label=curve)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("")
        panel.yaxis.set_minor_formatter("")
        seconds = [second for found in curves.values() for second in found.values()]
        panel.set_ylim(min(0.1, min(seconds) / 2), max(10, 2 * max(seconds)))
        panel.set_xlabel((AXES[axis].__doc__ or axis).split(",")[0].rstrip("."), fontsize=7)
        panel.set_ylabel("wall s" if axis == "threads" else "CPU s", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.grid(visible=True, alpha=0.3)
        panel.legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
