"""The wishes of the paper tested at the scale of nano: docs/research/ablations.md, short runs on equal data and FLOPs.

    python tools/ablations.py run --features FEATURES --codes CODES.npy --text TEXT --out runs/ablations
    python tools/ablations.py collect runs/ablations
    python tools/ablations.py write

``run`` trains what `ablations_arms.py` lists and lets `ablations_measure.py` ask every arm the same; what is finished
is skipped, what was stopped goes on. ``--only NAME`` (again for more) trains one ablation and what it needs, ``--scale
0.005`` a few steps of each. ``collect`` keeps what the page needs under ``docs/results/ablations/``; ``write`` needs
nothing else but ``notes.md`` there, written by hand, a section to an ablation.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ablations_arms import ABLATIONS, Ablation, Arm, Places, find, overrides
from kept import log_of, settings_of

from chelys import configs as chelys_configs

HERE = Path(__file__).parent
CONFIGS = chelys_configs.CONFIGS / "nano"
DOCS = HERE.parent / "docs"


# ---- run ------------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> None:
    """Train and measure every arm."""
    names = [ablation.name for ablation in ABLATIONS]
    if unknown := set(arguments.only or ()) - set(names):
        raise SystemExit(f"no ablation {', '.join(sorted(unknown))}: choose from {', '.join(names)}")
    places = Places(
        *(path.absolute() for path in (arguments.features, arguments.codes, arguments.text, arguments.out)),
        decoder=arguments.decoder and arguments.decoder.absolute(), scale=arguments.scale,
    )  # fmt: skip
    for ablation in ABLATIONS:
        if not arguments.only or ablation.name in arguments.only:
            for arm in ablation.arms:
                settle(places, ablation, arm)


def settle(places: Places, ablation: Ablation, arm: Arm) -> None:
    """Train an arm, after what it needs, and measure it; what is there is left as it is."""
    if ablation.name == "decoder" and places.decoder:
        return  # another one was given
    for need in arm.needs:
        settle(places, *find(need))
    if arm.before is not None:
        arm.before(places)
    folder = places.arm(f"{ablation.name}/{arm.name}")
    plan = planned(places, ablation, arm)
    if not (folder / f"{ablation.stage}.safetensors").is_file():
        print(f"{ablation.name}/{arm.name}: {plan['steps']} steps, {_tera(plan):.2f} tera-operations", flush=True)
        train(ablation.stage, plan["overrides"])
    if ablation.shown and not (folder / "measured.json").is_file():
        from ablations_measure import MEASURES

        write_json(folder / "measured.json", MEASURES[ablation.measure](folder))


def planned(places: Places, ablation: Ablation, arm: Arm) -> dict[str, Any]:
    """Settings of an arm, steps for equal operations among them: ``arm.json`` in its folder, made at first.

    Raises:
        SystemExit: If the arm was begun with other settings.
    """
    path = places.arm(f"{ablation.name}/{arm.name}") / "arm.json"
    kept = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
    # counted anew only where it never was: it takes as long as some steps
    cost = kept.get("cost") or counted(places, ablation, arm)
    steps = max(2, round(places.scale * ablation.steps))
    if ablation.equal == "operations" and arm is not ablation.arms[0]:
        first = planned(places, ablation, ablation.arms[0])
        steps = max(2, round(first["steps"] * first["cost"]["flops"] / cost["flops"]))
    plan = {"steps": steps, "cost": cost, "overrides": overrides(places, ablation, arm, steps)}
    if kept and kept != plan:
        raise SystemExit(f"{path.parent} was begun with other settings: delete it, or choose another --out")
    write_json(path, plan)
    return plan


def counted(places: Places, ablation: Ablation, arm: Arm) -> dict[str, Any]:
    """What a step of an arm costs on clips of the usual length, as the planner counts it."""
    sys.path.insert(0, str(Path(__file__).parent / "memory_planner"))
    from rehearsal import rehearse

    from chelys.config import from_mapping
    from chelys.configs import read_config_file
    from chelys.training.tasks import RUNS

    values = read_config_file(config_of(ablation.stage), overrides(places, ablation, arm, 100))
    cost = rehearse(from_mapping(RUNS[ablation.stage], values, where=arm.name), ablation.seconds)
    return {"flops": cost.flops, "audio": cost.audio, "parameters": sum(cost.parameters.values())}


def train(stage: str, changes: list[str]) -> None:
    """A run of the stage in a process of its own."""
    command = [sys.executable, "-m", "chelys", "train", stage, "--config", str(config_of(stage)), *changes]
    if code := subprocess.run(command, check=False).returncode:
        raise SystemExit(f"chelys train {stage} ended with status {code}; begin again to go on where it stopped")


def config_of(stage: str) -> Path:
    """nano's configuration of a stage, which every arm changes a little."""
    return CONFIGS / f"{stage}.yaml"


def _tera(plan: dict[str, Any]) -> float:
    return plan["steps"] * plan["cost"]["flops"] / 1e12


# ---- collect --------------------------------------------------------------------------------------------------------


def collect(arguments: argparse.Namespace) -> None:
    """Keep what the page needs; an ablation with an arm missing is left out."""
    for ablation in (a for a in ABLATIONS if a.shown):
        folders = [arguments.runs / ablation.name / arm.name for arm in ablation.arms]
        missing = [folder.name for folder in folders if not (folder / "measured.json").is_file()]
        if missing:
            print(f"{ablation.name}: not finished ({', '.join(missing)})")
            continue
        arms = [kept_of(folder, arm) for folder, arm in zip(folders, ablation.arms, strict=True)]
        write_json(arguments.results / f"{ablation.name}.json", {"title": ablation.title, "arms": arms})
        print(arguments.results / f"{ablation.name}.json")


def kept_of(folder: Path, arm: Arm) -> dict[str, Any]:
    """An arm as the page needs it."""
    log = log_of(folder)
    plan = json.loads((folder / "arm.json").read_text(encoding="utf8"))
    return {
        "name": arm.name, "said": arm.said, "steps": plan["steps"], **plan["cost"],
        "seconds_a_step": log.seconds_a_step,
        "settings": settings_of(folder),
        "held_out": log.held_out,
        "measured": json.loads((folder / "measured.json").read_text(encoding="utf8")),
    }  # fmt: skip


# ---- write ----------------------------------------------------------------------------------------------------------


def write(arguments: argparse.Namespace) -> None:
    """The page."""
    from ablations_page import page

    text = page([asdict(a) for a in ABLATIONS if a.shown], arguments.results, arguments.page.parent / "images")
    arguments.page.parent.mkdir(parents=True, exist_ok=True)
    arguments.page.write_text(text, encoding="utf8")
    print(arguments.page)


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(value, indent=0) + "\n", encoding="utf8")
    partial.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("run", help="train and measure every arm")
    for name, what in (("features", "feature folder"), ("codes", "its codes"), ("text", "folder of the tokenizer")):
        verb.add_argument(f"--{name}", type=Path, required=True, help=what)
    verb.add_argument("--out", type=Path, default=Path("runs/ablations"), help="folder of the runs")
    verb.add_argument("--decoder", type=Path, help="weights of a decoder of nano's sizes for the trick's latents")
    verb.add_argument("--only", action="append", metavar="NAME", help="this ablation, and what it needs")
    verb.add_argument("--scale", type=float, default=1.0, help="multiplies the steps")
    verb.set_defaults(verb=run)
    verb = verbs.add_parser("collect", help="keep what the page needs of the runs")
    verb.add_argument("runs", type=Path)
    verb.add_argument("--results", type=Path, default=DOCS / "results" / "ablations")
    verb.set_defaults(verb=collect)
    verb = verbs.add_parser("write", help="write the page and its plots")
    verb.add_argument("--results", type=Path, default=DOCS / "results" / "ablations")
    verb.add_argument(
        "--page", type=Path, default=DOCS / "research" / "ablations.md", help="plots go to images/ beside it"
    )
    verb.set_defaults(verb=write)
    arguments = parser.parse_args()
    arguments.verb(arguments)


if __name__ == "__main__":
    main()
