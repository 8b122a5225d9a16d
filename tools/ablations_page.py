"""docs/research/ablations.md and its plots, from what `ablations.py collect` kept and from notes written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

HEAD = """# What the paper wished for, put to the test

Written by `python tools/ablations.py write` from `docs/results/ablations/`; the runs are made by
`python tools/ablations.py run` and kept by `collect`.

The paper ends with a list of what its author would do next. [nano](nano.md) is made so; here each wish is weighed by
itself, in short runs at nano's sizes: what wins here wins early and small. Arms of one section share seed and data
and, unless the section says otherwise, operations, as the planner counts them: the cheaper arm takes more steps.
Figures are of held-out clips, mean and standard error; in brackets the difference from the first arm, clip by clip,
with its own standard error, which is far smaller than those of the means where clips differ more than arms.
"""


def page(ablations: list[dict[str, Any]], results: Path, images: Path) -> str:
    """The whole page; plots are written to ``images``.

    Args:
        ablations: What was asked, in order: ``name``, ``title``, ``question``, ``curve``, ``comparable``.
        results: ``NAME.json`` of each that is finished, ``notes.md``.
        images: Folder of the plots, beside the page.
    """
    notes = notes_of(results / "notes.md")
    parts = [HEAD.strip(), *([notes[""]] if notes.get("") else [])]
    for ablation in ablations:
        parts += [f"## {ablation['title']}", ablation["question"]]
        path = results / f"{ablation['name']}.json"
        if not path.is_file():
            parts.append("Not measured yet.")
        else:
            arms = json.loads(path.read_text(encoding="utf8"))["arms"]
            parts.append("\n".join(table(arms, compared=ablation["comparable"])))
            image = f"ablation_{ablation['name']}.png"
            draw(arms, ablation["curve"], images / image)
            parts.append(f"![{ablation['title']}]({images.name}/{image})")
        if ablation["name"] in notes:
            parts.append(notes[ablation["name"]])
    return "\n\n".join(parts) + "\n"


def notes_of(path: Path) -> dict[str, str]:
    """Notes by the name of their ablation, which heads each as ``## NAME``; what stands before the first, by ""."""
    notes: dict[str, list[str]] = {"": []}
    name = ""
    for line in path.read_text(encoding="utf8").splitlines() if path.is_file() else []:
        if line.startswith("## "):
            name = line.removeprefix("## ").strip()
        else:
            notes.setdefault(name, []).append(line)
    return {name: "\n".join(lines).strip() for name, lines in notes.items()}


# ---- table ----------------------------------------------------------------------------------------------------------


def table(arms: list[dict[str, Any]], *, compared: bool) -> list[str]:
    """A line an arm: what it cost and what came of it, with differences from the first where they mean anything."""
    first = arms[0]["measured"]
    heads = ["arm", "parameters", "steps", "Giga-operations a step", "Tera-operations", "seconds a step"]
    heads += [f"{name} ({len(clips)} clips)" for name, clips in first["each"].items()] + list(first["whole"])
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for arm in arms:
        measured, seconds = arm["measured"], arm["seconds_a_step"]
        cells = [
            arm["said"], f"{arm['parameters'] / 1e6:.2f} M", f"{arm['steps']:,}", f"{arm['flops'] / 1e9:.1f}",
            f"{arm['steps'] * arm['flops'] / 1e12:.1f}", "" if seconds is None else f"{seconds:.2f}",
        ]  # fmt: skip
        others = first["each"] if compared and arm is not arms[0] else {}
        cells += [told(clips, others.get(name, {})) for name, clips in measured["each"].items()]
        cells += [f"{value:,.0f}" for value in measured["whole"].values()]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def told(clips: dict[str, float], others: dict[str, float]) -> str:
    """Mean and standard error over clips, and of the differences from the first arm's on the clips of both."""
    said = "{:.4f} ± {:.4f}".format(*mean_and_error(list(clips.values())))
    both = [clips[clip] - others[clip] for clip in clips if clip in others]
    if both:
        said += " ({:+.4f} ± {:.4f})".format(*mean_and_error(both))
    return said


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """Mean and its standard error; 0 of a single value."""
    if not values:
        return float("nan"), float("nan")
    return float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


# ---- plot -----------------------------------------------------------------------------------------------------------


def draw(arms: list[dict[str, Any]], curve: str, path: Path) -> None:
    """How the arms came along in training, where that can be compared, and the profile of each when it was done."""
    from matplotlib.figure import Figure

    panels = 2 if curve else 1
    figure = Figure(figsize=(5.2 * panels, 3.4), layout="constrained")
    if curve:
        axes = figure.add_subplot(1, panels, 1)
        for number, arm in enumerate(arms):
            points = [(x["step"] * arm["flops"] / 1e12, x[curve]) for x in arm["held_out"] if curve in x]
            axes.plot(*zip(*points, strict=True), color=f"C{number}", marker=".", lw=1, label=arm["name"])
        axes.set(xlabel="Tera-operations", ylabel=f"{curve.replace('held_out/', 'held out, ')}", yscale="log")
        axes.legend(fontsize="small")
    axes = figure.add_subplot(1, panels, panels)
    styles = ("-", "--", ":")
    for number, arm in enumerate(arms):
        profile = arm["measured"]["profile"]
        for style, (label, (xs, ys)) in zip(styles, profile["lines"].items(), strict=False):
            name = f"{arm['name']}, {label}" if label else arm["name"]
            axes.plot(xs, ys, style, color=f"C{number}", marker="." if len(xs) < 20 else "", lw=1, label=name)
        axes.set(xlabel=profile["x"], ylabel=profile["y"])
    axes.legend(fontsize="small" if panels == 1 or len(axes.lines) < 5 else "xx-small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
