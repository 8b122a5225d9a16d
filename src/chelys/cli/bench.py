"""``chelys bench``: how fast this machine speaks, part by part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chelys.cli.console import DeviceOption, DtypeOption, ModelOption, ThreadsOption, echo, load_model
from chelys.files import write_text
from chelys.machine import set_threads

if TYPE_CHECKING:
    import torch

    from chelys.inference.bench import Workload

HELP = "Measure how fast this machine speaks: each part beside its floor and a naive twin, and each preset."
EXAMPLE = "Example: chelys bench, or chelys bench --published --json bench.json"


def bench(
    model: ModelOption = "nano",
    published: Annotated[
        bool, typer.Option("--published", help="Networks of TorToise v2's sizes with invented weights, no presets.")
    ] = False,
    preset: Annotated[list[str] | None, typer.Option("-p", "--preset", help="May be repeated. Default: fast.")] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Runs whose median is told.")] = 3,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    threads: ThreadsOption = None,
    file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures as JSON.")] = None,
) -> None:
    """Load, measure, print a table."""
    set_threads(threads)
    import torch

    from chelys.inference import bench as measuring
    from chelys.weights.checks import place

    where, kind = place(device, dtype)
    if published:
        found = measuring.measure(published_parts(torch.device(where), kind), torch.device(where), kind, repeats, _note)
    else:
        tts = load_model(model, where, dtype=dtype, threads=threads)
        networks = tts.model
        parts = measuring.parts_of(
            networks.autoregressive, networks.clvp, networks.diffusion, networks.vocoder, codes=90, sentences=4,
            candidates=8,
        )  # fmt: skip
        found = measuring.measure(parts, torch.device(where), kind, repeats, _note)
        found["presets"] = list(measuring.presets(tts, preset or ["fast"]))
    _print(found)
    if file is not None:
        write_text(file, json.dumps(found, indent=1) + "\n")


def published_parts(device: torch.device, dtype: torch.dtype) -> Iterator[Workload]:
    """Parts of the published sizes, one network in memory at a time."""
    import torch

    from chelys.inference.bench import parts_of
    from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig
    from chelys.models.clvp import CLVP, CLVPConfig
    from chelys.models.diffusion import Diffusion, DiffusionConfig
    from chelys.tortoise.univnet import UnivNet, UnivNetConfig

    makers: list[Any] = [
        lambda: Autoregressive(AutoregressiveConfig.tortoise_v2()), lambda: CLVP(CLVPConfig.tortoise_v2()),
        lambda: Diffusion(DiffusionConfig.tortoise_v2()), lambda: UnivNet(UnivNetConfig.c32()),
    ]  # fmt: skip
    for place_of, make in enumerate(makers):
        with torch.random.fork_rng(devices=[]):
            network = make().eval().requires_grad_(False)
            for weight in network.parameters():  # what begins at zero would hide everything before it
                if weight.ndim > 1 and not weight.any():
                    weight.normal_(std=0.02)
            network.to(device, dtype)
        networks = [None] * place_of + [network] + [None] * (3 - place_of)
        yield from parts_of(*networks, codes=216, sentences=1, candidates=16)  # 216 codes are ten seconds


def _note(name: str) -> None:
    echo(f"measuring {name}", error=True)


def _print(found: dict[str, Any]) -> None:
    echo(
        f"{found['device']}, {found['machine']}, {found['threads']} threads, {found['dtype']}, torch {found['torch']}:"
        f" {found['operations_per_second'] / 1e9:.0f} GFLOP/s, {found['bytes_per_second'] / 1e9:.1f} GB/s,"
        f" {(found['peak_memory_bytes'] or 0) / 1e6:.0f} MB at most"
    )
    key, naive = ("naive_cpu_seconds", "naive CPU ms") if found["clock"] == "cpu" else ("naive_seconds", "naive ms")
    echo(f"{'':36} {'ms':>9} {'CPU ms':>9} {'GFLOP':>8} {'x floor':>8} {naive:>12} {'gain':>6} {'off by':>8}")
    for row in found["parts"]:
        echo(
            f"{row['part']:36} {1e3 * row['seconds']:9.1f} {1e3 * row['cpu_seconds']:9.1f}"
            f" {row['operations'] / 1e9:8.2f} {row['of_floor']:8.1f} {1e3 * row[key]:12.1f}"
            f" {row['of_naive']:6.2f} {'' if row['difference'] is None else format(row['difference'], '8.0e')}"
        )
    for row in found.get("presets", []):
        echo(
            f"{row['preset']:36} {row['cpu']:.3f} CPU s and {row['real_time_factor']:.3f} s for a second of speech,"
            f" first chunk after {row['first_chunk']:.2f} s"
            + (f", early after {row['first_early_chunk']:.2f} s" if "first_early_chunk" in row else "")
        )
