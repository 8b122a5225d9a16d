"""How held-out loss falls with parameters, data and operations: docs/research/scaling.md, by five commands.

    python tools/scaling.py data corpus/train.jsonl --out runs/scaling
    python tools/scaling.py run --out runs/scaling [--hours 8]      # a leg, one for each core: the next one goes on
    python tools/scaling.py collect runs/scaling
    python tools/scaling.py predict                                 # before --larger runs are there; commit the file
    python tools/scaling.py run --out runs/scaling --larger         # the two points that were predicted; then collect
    python tools/scaling.py write

``data`` cuts the corpus into nested amounts with the same held-out clips, and codes it with nano's VQ-VAE. ``run``
trains each network at five sizes on four amounts, cheapest runs first, at a constant learning rate: the moving average
of the weights that is evaluated stands for a run whose rate had fallen (Hägele et al. 2024), so one run gives its whole
curve. Operations are counted by ``tools/memory_planner``. ``collect`` keeps the curves under ``docs/results/scaling/``;
``predict`` and ``write`` need nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from kept import log_of
from scaling_laws import FORMS, Law, bounds, drawn, fit, frontier

from chelys import configs as chelys_configs
from chelys.errors import BusyError
from chelys.files import file_lock

HERE = Path(__file__).parent
CONFIGS = chelys_configs.CONFIGS / "nano"
RESULTS = HERE.parent / "docs" / "results" / "scaling"
PAGE = HERE.parent / "docs" / "research" / "scaling.md"
#: Width, layers and heads of what laws are fitted to, from 0.3 to 5 million parameters.
SIZES = {
    "autoregressive": ((64, 2, 1), (96, 4, 1), (128, 6, 2), (192, 5, 3), (256, 4, 4)),
    "diffusion": ((48, 2, 1), (64, 3, 1), (96, 4, 1), (128, 6, 2), (192, 5, 3)),
}
#: Of the two that are predicted, 7 to 10 million, on all the data.
LARGER = {"autoregressive": ((320, 4, 5), (320, 6, 5)), "diffusion": ((256, 4, 4), (256, 6, 4))}
#: Codes, or positions of the diffusion decoder, in a batch: nano's batches would leave few steps to so little data.
BATCH = 500
#: Held-out figure that is the loss, and what it is.
LOSS = {
    "autoregressive": ("held_out/code_nll", "nats a code, given text and voice"),
    "diffusion": ("held_out/mse", "weighted squared error of the clean mel, given codes and voice"),
}
#: Share of the corpus in each amount of data, the last is all of it; and how often a run hears it.
AMOUNTS = ((0.02, 8.0), (0.072, 4.0), (0.27, 1.5), (1.0, 1.0))
EVALUATIONS = 24
CLIP_SECONDS = 3.6  # of a usual clip, at which a step is counted
PUBLISHED = {"autoregressive": (421.5e6, 49_000.0), "diffusion": (292.3e6, 49_000.0)}


@dataclass(frozen=True)
class Cell:
    """A network of a size on an amount of data."""

    stage: str
    size: tuple[int, int, int]
    amount: int  # place in AMOUNTS

    @property
    def name(self) -> str:
        return f"{self.stage}/{self.size[0]}x{self.size[1]}-{self.amount}"


def grid(larger: bool) -> list[Cell]:
    """The cells of the fit; or those that are predicted."""
    if larger:
        return [Cell(stage, size, len(AMOUNTS) - 1) for stage, sizes in LARGER.items() for size in sizes]
    return [
        Cell(stage, size, amount) for stage, sizes in SIZES.items() for size in sizes for amount in range(len(AMOUNTS))
    ]


# ---- data -----------------------------------------------------------------------------------------------------------


def data(arguments: argparse.Namespace) -> None:
    """Features and codes of each amount."""
    from chelys.data.dataset import Features
    from chelys.data.features import encode, extract
    from chelys.data.loader import is_held_out
    from chelys.data.manifest import read_manifest, write_manifest
    from chelys.data.prepare.encode import load_encoder

    utterances = [u for manifest in arguments.manifests for u in read_manifest(manifest)]
    kept_out = [u for u in utterances if is_held_out(u.id)]
    others = [u for u in utterances if not is_held_out(u.id)]
    np.random.default_rng(1).shuffle(others)  # type: ignore[arg-type]
    encoder, hours = load_encoder("nano"), []
    for amount, (share, _) in enumerate(AMOUNTS):
        chosen = others[: round(share * len(others))]
        hours.append(sum(u.seconds for u in chosen) / 3600)
        folder = arguments.out / "data" / str(amount)
        folder.mkdir(parents=True, exist_ok=True)
        write_manifest(folder / "manifest.jsonl", [*kept_out, *chosen])
        if not (folder / "codes.npy").is_file():
            extract([folder / "manifest.jsonl"], folder / "features", workers=arguments.workers)
            features = Features(folder / "features")
            encode(features, encoder.network, encoder.mel_range, folder / "codes.npy", workers=arguments.workers)
        print(f"{hours[-1]:.2f} h in {folder}", flush=True)
    _write(arguments.out / "hours.json", {"hours": hours, "held_out": len(kept_out)})


# ---- run ------------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> None:
    """Train what is not trained yet, for some hours. Several of these at once share the work."""
    end = time.monotonic() + 3600 * arguments.hours
    hours = json.loads((arguments.out / "hours.json").read_text(encoding="utf8"))["hours"]
    cells = [cell for cell in grid(arguments.larger) if arguments.stage in (None, cell.stage)]
    plans = [(cell, planned(arguments.out, cell, hours[cell.amount])) for cell in cells]
    for cell, plan in sorted(plans, key=lambda pair: pair[1]["operations"]):
        folder = arguments.out / cell.name
        left = end - time.monotonic()
        if (folder / f"{cell.stage}.safetensors").is_file():
            continue
        if left <= 0:
            print("the leg is over; the same command goes on")
            return
        try:
            with file_lock(folder / "leg.lock", f"{cell.name} is trained by another leg"):
                tera = plan["operations"] / 1e12
                print(f"{cell.name}: {plan['steps']} steps, {tera:.1f} tera-operations", flush=True)
                train(cell.stage, plan["overrides"], left)
        except BusyError as error:
            print(error, flush=True)


def planned(out: Path, cell: Cell, hours: float) -> dict[str, Any]:
    """Settings, cost and steps of a cell: ``plan.json`` in its folder, made at first."""
    path = out / cell.name / "plan.json"
    if path.is_file():
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
        return plan
    cost = counted(cell.stage, cell.size)
    steps = max(EVALUATIONS, round(3600 * AMOUNTS[cell.amount][1] * hours / cost["audio"]))
    plan = {
        "stage": cell.stage, "size": cell.size, "hours": hours, "steps": steps, **cost,
        "operations": steps * cost["flops"], "overrides": overrides(out, cell, steps),
    }  # fmt: skip
    _write(path, plan)
    return plan


def overrides(out: Path, cell: Cell, steps: int) -> list[str]:
    """What differs from nano's configuration of the stage: sizes, places, no weighting of voices, no regularisation."""
    dim, layers, heads = cell.size
    folder = (out / "data" / str(cell.amount)).absolute()
    every = max(1, steps // EVALUATIONS)
    text = Path(str(chelys_configs.__file__)).parents[1] / "assets" / "nano"
    return [
        f"run={(out / cell.name).absolute()}", f"features={folder / 'features'}", f"codes={folder / 'codes.npy'}",
        f"text={text}", f"network.dim={dim}", f"network.layers={layers}", f"network.heads={heads}",
        *(["network.dropout=0.0", "stage.code_corruption=0.0"] if cell.stage == "autoregressive" else []),
        "pairs.voices={}", f"pairs.budget={BATCH}", f"loop.steps={steps}",
        f"loop.learning_rate={2e-3 * (64 / dim) ** 0.5:.2e}", f"loop.warmup={min(200, steps // 4)}",
        "loop.schedule=constant", "loop.weight_decay=0.05",
        f"loop.ema_decay={1 - 1 / max(10, min(1000, steps // 20)):.5f}", f"loop.evaluate_every={every}",
        f"loop.checkpoint_every={every}", "loop.pictures=false", "loop.tensorboard=false", "loop.threads=1",
        "loop.device=cpu", "loop.precision=float32",
    ]  # fmt: skip


@cache
def counted(stage: str, size: tuple[int, int, int]) -> dict[str, Any]:
    """Operations of a step, seconds of speech in it and parameters, as the planner counts them."""
    sys.path.insert(0, str(HERE / "memory_planner"))
    from rehearsal import rehearse

    from chelys.config import from_mapping
    from chelys.configs import read_config_file
    from chelys.training.tasks import RUNS

    changes = overrides(Path("runs/scaling"), Cell(stage, size, 0), 100)
    values = read_config_file(CONFIGS / f"{stage}.yaml", changes)
    cost = rehearse(from_mapping(RUNS[stage], values, where=stage), CLIP_SECONDS)
    return {"flops": cost.flops, "audio": cost.audio, "parameters": sum(cost.parameters.values())}


def train(stage: str, changes: list[str], seconds: float) -> None:
    """A run in a process of its own, which is interrupted at the end of the leg and goes on in the next."""
    command = [sys.executable, "-m", "chelys", "train", stage, "--config", str(CONFIGS / f"{stage}.yaml"), *changes]
    try:
        code = subprocess.run(
            command, check=False, timeout=seconds, env=os.environ | {"OMP_NUM_THREADS": "1"}
        ).returncode
    except subprocess.TimeoutExpired:
        return
    if code:
        raise SystemExit(f"chelys train {stage} ended with status {code}; the same command goes on where it stopped")


# ---- collect --------------------------------------------------------------------------------------------------------


def collect(arguments: argparse.Namespace) -> None:
    """Keep the curves of finished runs, beside what was kept of others before."""
    file = RESULTS / "runs.json"
    runs = {run["name"]: run for run in _read(file, [])}
    for cell in [*grid(False), *grid(True)]:
        folder = arguments.runs / cell.name
        if not (folder / f"{cell.stage}.safetensors").is_file():
            continue
        plan = json.loads((folder / "plan.json").read_text(encoding="utf8"))
        key = LOSS[cell.stage][0]
        curve = [[line["step"], line[key]] for line in log_of(folder).held_out if key in line]
        runs[cell.name] = {"name": cell.name, "curve": curve} | {
            key: plan[key] for key in ("stage", "size", "hours", "steps", "flops", "audio", "parameters")
        }
    _write(file, list(runs.values()))
    print(f"{len(runs)} runs in {file}")


# ---- predict and write ----------------------------------------------------------------------------------------------


def cells_of(runs: list[dict[str, Any]], stage: str, *, larger: bool) -> list[dict[str, Any]]:
    """Runs of a stage that laws are fitted to, or that they predict, each with its lowest held-out loss."""
    sizes = [list(size) for size in (LARGER if larger else SIZES)[stage]]
    own = [run for run in runs if run["stage"] == stage and run["size"] in sizes]
    best = [(run, min(run["curve"], key=lambda point: point[1])) for run in own if run["curve"]]
    return [run | {"at": step, "loss": loss} for run, (step, loss) in best]


def fitted(cells: list[dict[str, Any]], name: str) -> tuple[Law, list[Law]]:
    """A law of N (millions) and D (hours), and those of redrawn cells."""
    x = [np.array([cell["parameters"] / 1e6 for cell in cells]), np.array([cell["hours"] for cell in cells])]
    loss = np.array([cell["loss"] for cell in cells])
    return fit(name, x, loss), drawn(name, x, loss)


def predict(arguments: argparse.Namespace) -> None:
    """What the larger runs will have. Refuses once one of them is there: a prediction comes before."""
    runs = _read(RESULTS / "runs.json", [])
    if known := [run["name"] for stage in SIZES for run in cells_of(runs, stage, larger=True)]:
        raise SystemExit(f"{known[0]} is measured already: what was not written before it is no prediction")
    points = []
    for stage in SIZES:
        cells = cells_of(runs, stage, larger=False)
        if len(cells) < 8:
            print(f"{stage}: {len(cells)} runs are too few to predict from")
            continue
        hours = max(cell["hours"] for cell in cells)
        laws = {name: fitted(cells, name) for name in ("chinchilla", "kaplan")}
        for size in LARGER[stage]:
            cell = Cell(stage, size, len(AMOUNTS) - 1)
            parameters = counted(stage, size)["parameters"]
            said = {}
            for name, (law, others) in laws.items():
                low, high = bounds([float(other(parameters / 1e6, hours)) for other in others])
                said[name] = {"loss": float(law(parameters / 1e6, hours)), "low": low, "high": high}
            points.append({"name": cell.name, "stage": stage, "parameters": parameters, "hours": hours, "laws": said,
                           "fitted_to": len(cells)})  # fmt: skip
    if points:
        _write(RESULTS / "prediction.json", points)
        print(RESULTS / "prediction.json")


def write(arguments: argparse.Namespace) -> None:
    """The page."""
    runs = _read(RESULTS / "runs.json", [])
    page = [
        "# Scaling",
        "",
        "Written by `python tools/scaling.py write` from `docs/results/scaling/`; the runs are made by",
    ]
    page += ["`python tools/scaling.py run` and kept by `collect`.", ""]
    if (RESULTS / "notes.md").exists():
        page += [(RESULTS / "notes.md").read_text(encoding="utf8").strip(), ""]
    for stage in SIZES:
        page += section(stage, runs)
    PAGE.write_text("\n".join(page).rstrip() + "\n", encoding="utf8")
    print(PAGE)


def section(stage: str, runs: list[dict[str, Any]]) -> Iterator[str]:
    """A network: its runs, laws, frontier, and predictions against measurements."""
    cells = cells_of(runs, stage, larger=False)
    yield from (f"## The {stage} decoder", "", f"Loss: {LOSS[stage][1]}, lowest of the run, on held-out clips.", "")
    if not cells:
        yield from ("Not measured.", "")
        return
    yield from table(["parameters, million", "hours", "steps", "tera-operations", "loss", "at step"], [
        [f"{c['parameters'] / 1e6:.2f}", f"{c['hours']:.2f}", f"{c['steps']:,}",
         f"{c['steps'] * c['flops'] / 1e12:,.0f}", f"{c['loss']:.4f}", f"{c['at']:,}"]
        for c in sorted(cells, key=lambda c: (c["parameters"], c["hours"]))
    ])  # fmt: skip
    if len(cells) < 8:
        yield from (f"{len(cells)} runs of {len(grid(False)) // 2}: too few for a law.", "")
        return
    yield from laws(stage, cells)
    yield from compute(cells)
    yield from predictions(stage, runs)


def laws(stage: str, cells: list[dict[str, Any]]) -> Iterator[str]:
    """Both forms, and what they would say of the published sizes."""
    yield from ("N is in millions of parameters, D in hours. Brackets are 95 % of fits to redrawn runs.", "")
    rows = []
    for name in ("chinchilla", "kaplan"):
        law, others = fitted(cells, name)
        numbers = ", ".join(
            f"{key} {value:.3g} ({low:.3g} to {high:.3g})"
            for key, value in law.numbers.items()
            for low, high in [bounds([other.numbers[key] for other in others])]
        )
        n, d = PUBLISHED[stage]
        low, high = bounds([float(other(n / 1e6, d)) for other in others])
        rows.append([f"`{FORMS[name].said}`", numbers, f"{100 * law.error:.2f} %",
                     f"{float(law(n / 1e6, d)):.3f} ({low:.3f} to {high:.3f})"])  # fmt: skip
    yield from table(["form", "numbers", "error of the fit", "at the published size and hours"], rows)


def compute(cells: list[dict[str, Any]]) -> Iterator[str]:
    """The least loss for so many operations, on all the data, and the size that has it."""
    most = max(cell["hours"] for cell in cells)
    points = [
        (step * cell["flops"], loss, cell["parameters"])
        for cell in cells
        if cell["hours"] == most
        for step, loss in cell["curve"]
        if step
    ]
    if len({parameters for *_, parameters in points}) < 3:
        return
    operations, loss, parameters = (np.array(column, np.float64) for column in zip(*points, strict=True))
    rows = frontier(operations, loss)
    yield from (f"On {most:.2f} h, least loss for so many operations (C in tera-operations):", "")
    try:
        law, others = (of("compute", [operations[rows] / 1e12], loss[rows]) for of in (fit, drawn))
    except ValueError as error:
        yield from (f"No law: {error}.", "")
        return
    numbers = ", ".join(
        f"{key} {value:.3g} ({low:.3g} to {high:.3g})"
        for key, value in law.numbers.items()
        for low, high in [bounds([other.numbers[key] for other in others])]
    )
    slope = float(np.polyfit(np.log(operations[rows]), np.log(parameters[rows]), 1)[0])
    yield from (
        f"`{FORMS['compute'].said}`: {numbers}; error {100 * law.error:.2f} %. The best size grows as C^{slope:.2f}.",
        "",
    )


def predictions(stage: str, runs: list[dict[str, Any]]) -> Iterator[str]:
    """What was predicted, and what came."""
    said = [point for point in _read(RESULTS / "prediction.json", []) if point["stage"] == stage]
    if not said:
        yield from ("Larger points: not predicted yet.", "")
        return
    measured = {cell["name"]: cell["loss"] for cell in cells_of(runs, stage, larger=True)}
    yield from table(["parameters, million", "predicted, Chinchilla", "predicted, Kaplan", "measured"], [
        [f"{point['parameters'] / 1e6:.1f}",
         *(f"{law['loss']:.4f} ({law['low']:.4f} to {law['high']:.4f})"
           for law in (point["laws"]["chinchilla"], point["laws"]["kaplan"])),
         f"{measured[point['name']]:.4f}" if point["name"] in measured else "not yet"]
        for point in said
    ])  # fmt: skip


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of markdown, and an empty one."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def _read(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_text(encoding="utf8")) if path.is_file() else otherwise


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=0) + "\n", encoding="utf8")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("data", help="cut a corpus into amounts")
    verb.add_argument("manifests", nargs="+", type=Path)
    verb.add_argument("--out", type=Path, required=True)
    verb.add_argument("--workers", type=int, default=None)
    verb.set_defaults(run=data)
    verb = verbs.add_parser("run", help="train, for some hours")
    verb.add_argument("--out", type=Path, required=True)
    verb.add_argument("--hours", type=float, default=1e6)
    verb.add_argument("--larger", action="store_true", help="the points that were predicted")
    verb.add_argument("--stage", choices=list(SIZES), help="of this network alone")
    verb.set_defaults(run=run)
    verb = verbs.add_parser("collect", help="keep the curves")
    verb.add_argument("runs", type=Path)
    verb.set_defaults(run=collect)
    verbs.add_parser("predict", help="write docs/results/scaling/prediction.json").set_defaults(run=predict)
    verbs.add_parser("write", help="write docs/research/scaling.md").set_defaults(run=write)
    chosen = parser.parse_args(arguments)
    chosen.run(chosen)


if __name__ == "__main__":
    main()
