"""What each setting of speaking is worth: docs/research/evaluation.md, by ``chelys eval`` at one setting after another.

    python tools/sweeps.py run --out runs/sweeps [--recordings LJSpeech-1.1/wavs] [--only steps] [--texts harvard]
    python tools/sweeps.py collect runs/sweeps
    python tools/sweeps.py write

``run`` speaks and judges the texts at the preset ``fast``, then with one option changed at a time, and compares each
with the first, text by text; what is there is not made again. ``collect`` keeps the summaries in
``docs/results/evaluation/sweeps.json``; ``write`` needs nothing else but ``notes.md`` there, written by hand.

Codes in place of latents are no setting: what reads codes in a shipped diffusion decoder is left from its first phase
of training, and all else went on to latents without it. A fair row needs the decoder as that phase left it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parent / "docs" / "results" / "evaluation"
PAGE = HERE.parent / "docs" / "research" / "evaluation.md"
BASE = "fast"
#: Name of a sweep to its title and to what is set, each a run of its own.
SWEEPS: dict[str, tuple[str, list[list[str]]]] = {
    "candidates": (
        "Candidates that CLVP chooses from; with one it does not choose",
        [[f"candidates={n}"] for n in (1, 2, 4, 16, 32, 64)],
    ),
    "guidance": ("Weight of classifier-free guidance", [[f"guidance={w:g}"] for w in (0, 0.5, 1, 2, 3.5, 5)]),
    "steps": ("Diffusion steps, DPM-Solver++", [[f"steps={n}"] for n in (5, 10, 20, 40, 100, 400)]),
    "sampler": (
        "Samplers",
        [[f"sampler={name}", f"steps={n}"] for name in ("ddim", "ddpm") for n in (10, 50, 200)],
    ),
    "temperature": ("Temperature of sampling codes", [[f"temperature={t:g}"] for t in (0.1, 0.5, 0.8, 1.0)]),
    "top_p": ("Nucleus of sampling codes", [[f"top_p={p:g}"] for p in (0.5, 0.7, 0.8, 1.0)]),
}
FIGURES = {
    "wer": "word error rate", "mos": "Distill-MOS", "clvp_likelihood": "CLVP, nats an id",
}  # fmt: skip


def name_of(settings: list[str]) -> str:
    """Folder and row of a run."""
    return ",".join(settings) or BASE


def run(arguments: argparse.Namespace) -> None:
    """Speak and judge what is missing; the preset itself comes first, for the others are compared with it."""
    if unknown := set(arguments.only or ()) - set(SWEEPS):
        raise SystemExit(f"no sweep {', '.join(sorted(unknown))}: choose from {', '.join(SWEEPS)}")
    settings = [one for name, (_, all_of) in SWEEPS.items() if name in (arguments.only or SWEEPS) for one in all_of]
    for one in [[], *settings]:
        folder = arguments.out / name_of(one)
        if (folder / "summary.json").is_file():
            continue
        print(name_of(one), flush=True)
        command = [
            sys.executable,
            "-m",
            "chelys",
            "eval",
            arguments.model,
            "-o",
            str(folder),
            "--texts",
            arguments.texts,
        ]
        command += [word for setting in one for word in ("--set", setting)]
        command += ["--against", str(arguments.out / BASE)] if one else []
        command += ["--recordings", str(arguments.recordings)] if arguments.recordings else []
        if code := subprocess.run([*command, "--quiet"], check=False).returncode:
            raise SystemExit(f"chelys eval ended with status {code}; the same command goes on")


def collect(arguments: argparse.Namespace) -> None:
    """Keep the summaries."""
    found = {}
    for one in [[], *(one for _, all_of in SWEEPS.values() for one in all_of)]:
        file = arguments.runs / name_of(one) / "summary.json"
        if file.is_file():
            summary = json.loads(file.read_text(encoding="utf8"))
            found[name_of(one)] = {key: summary.get(key) for key in ("clips", "figures", "against", "frechet")}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "sweeps.json").write_text(json.dumps(found, indent=0) + "\n", encoding="utf8")
    print(f"{len(found)} runs in {RESULTS / 'sweeps.json'}")


def write(arguments: argparse.Namespace) -> None:
    """The page."""
    runs = json.loads((RESULTS / "sweeps.json").read_text(encoding="utf8"))
    page = [
        "# What each setting is worth", "",
        "Written by `python tools/sweeps.py write` from `docs/results/evaluation/`; the runs are made by",
        "`python tools/sweeps.py run` and kept by `collect`. Brackets hold what [eval](../evaluation.md) says of the",
        f"difference from `{BASE}`, if it sees one.", "",
    ]  # fmt: skip
    if (RESULTS / "notes.md").is_file():
        page += [(RESULTS / "notes.md").read_text(encoding="utf8").strip(), ""]
    for title, settings in SWEEPS.values():
        there = [name for name in map(name_of, settings) if name in runs]
        if there:
            page += [f"## {title}", "", *table([BASE, *there], runs), ""]
    PAGE.write_text("\n".join(page).rstrip() + "\n", encoding="utf8")
    print(PAGE)


def table(names: list[str], runs: dict[str, Any]) -> list[str]:
    """A line a run."""
    heads = [key for key in FIGURES if any(key in runs[name]["figures"] for name in names)]
    frechet = any(runs[name]["frechet"] for name in names)
    titles = ["", *(FIGURES[key] for key in heads), *(["CLVP Fréchet distance"] if frechet else [])]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for name in names:
        found = runs[name]
        cells = [f"`{name}`", *(cell(key, found) for key in heads)]
        if frechet:
            cells.append(f"{found['frechet']['distance']:.3f}" if found["frechet"] else "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def cell(key: str, found: dict[str, Any]) -> str:
    """A figure, and the verdict where a difference is seen."""
    if key not in found["figures"]:
        return ""
    verdict = ((found["against"] or {}).get(key) or {}).get("verdict", "")
    seen = f" ({verdict})" if verdict and not verdict.startswith("no ") else ""
    return f"{found['figures'][key]['value']:.3f}{seen}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("run", help="speak and judge")
    verb.add_argument("--out", type=Path, required=True)
    verb.add_argument("--model", default="nano")
    verb.add_argument("--texts", default="harvard")
    verb.add_argument("--recordings", type=Path)
    verb.add_argument("--only", action="append", metavar="SWEEP")
    verb.set_defaults(run=run)
    verb = verbs.add_parser("collect", help="keep the summaries")
    verb.add_argument("runs", type=Path)
    verb.set_defaults(run=collect)
    verbs.add_parser("write", help="write docs/research/evaluation.md").set_defaults(run=write)
    chosen = parser.parse_args(arguments)
    chosen.run(chosen)


if __name__ == "__main__":
    main()
