"""The figures of ``chelys bench`` on docs/performance.md, and their roofline, by one command.

    python tools/performance.py measure [nano] [published-1] [published-2]   # minutes on a quiet machine
    python tools/performance.py write                                        # needs matplotlib

``measure`` runs ``chelys bench`` and keeps what it says under ``docs/results/performance/``, with the machine's name.
``write`` renews what stands between ``<!-- bench: NAME -->`` and ``<!-- /bench -->`` on the page, and draws
``docs/images/roofline.svg``. All else on the page is written by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parent / "docs" / "results" / "performance"
PAGE = HERE.parent / "docs" / "performance.md"
PLOT = HERE.parent / "docs" / "images" / "roofline.svg"
#: Name of a measurement to the options of ``chelys bench``.
RUNS = {
    "nano": "--device cpu --threads 1 --repeats 5 -p ultra_fast -p fast -p standard -p high_quality",
    "published-1": "--published --device cpu --threads 1 --repeats 3",
    "published-2": "--published --device cpu --threads 2 --repeats 3",
}
BLOCK = re.compile(r"(<!-- bench: ([\w-]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def measure(names: list[str]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in names or RUNS:
        file = RESULTS / f"{name}.json"
        command = [sys.executable, "-m", "chelys", "bench", *RUNS[name].split(), "--json", str(file)]
        subprocess.run(command, check=True)


def number(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(name: str, found: dict[str, Any]) -> str:
    """What a measurement found, in Markdown."""
    cpu = found["clock"] == "cpu"
    seconds, naive = ("cpu_seconds", "naive_cpu_seconds") if cpu else ("seconds", "naive_seconds")
    peak, memory = found["operations_per_second"] / 1e9, found["peak_memory_bytes"] / 1e6
    lines = [
        f"`chelys bench {RUNS[name]}`, {found['machine']}, {found['dtype']}, torch {found['torch']}:",
        f"{'CPU' if cpu else 'wall'} milliseconds, medians of {found['repeats']}. Floors are at {peak:.0f} GFLOP/s and",
        f"{found['bytes_per_second'] / 1e9:.1f} GB/s, as measured in the same run; {memory:.0f} MB at most.",
        "",
        "| part | ms | GFLOP | MB read | x floor | naive ms | gain | differs by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["parts"]:
        differs = "" if row["difference"] is None else f"{row['difference']:.0e}"
        figures = (1e3 * row[seconds], row["operations"] / 1e9, row["read"] / 1e6)
        lines.append(
            f"| {row['part']} | {' | '.join(map(number, figures))} | {row['of_floor']:.1f} "
            f"| {number(1e3 * row[naive])} | {row['of_naive']:.2f} | {differs} |"
        )
    if presets := found.get("presets"):
        early = "first_early_chunk"
        lines += ["", "| preset | CPU s for a second of speech | first chunk, s | with `early` |", "|---|---|---|---|"]
        lines += [
            f"| `{row['preset']}` | {row['cpu']:.3f} | {row['first_chunk']:.2f} | {row[early]:.2f} |" for row in presets
        ]
    return "\n".join(lines) + "\n"


def renewed(page: str, results: dict[str, dict[str, Any]]) -> str:
    """The page with its blocks as the results have them."""
    return BLOCK.sub(lambda block: f"{block[1]}{table(block[2], results[block[2]])}{block[3]}", page)


def read_results() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text(encoding="utf8")) for path in sorted(RESULTS.glob("*.json"))}


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Operations a second over operations a byte: what is reached, beneath the roof of what the machine can."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "chelys"
    figure, axes = plt.subplots(1, len(results), figsize=(5 * len(results), 4.4), sharey=True, squeeze=False)
    for plot, (name, found) in zip(axes[0], results.items(), strict=True):
        rate, bandwidth = found["operations_per_second"] / 1e9, found["bytes_per_second"] / 1e9
        ends = [0.5, rate / bandwidth, 20_000]
        plot.loglog(ends, [min(rate, bandwidth * x) for x in ends], color="black", linewidth=1)
        seconds = "cpu_seconds" if found["clock"] == "cpu" else "seconds"
        for number, row in enumerate(found["parts"]):
            x = row["operations"] / max(row["read"], 1)
            points = [row["operations"] / row[f"{naive}{seconds}"] / 1e9 for naive in ("naive_", "")]
            plot.plot([x, x], points, color=f"C{number}", linewidth=1)
            plot.plot(x, points[0], "o", color=f"C{number}", fillstyle="none")
            plot.plot(x, points[1], "o", color=f"C{number}", label=row["part"])
        plot.set_title(f"{name}: {rate:.0f} GFLOP/s, {bandwidth:.1f} GB/s")
        plot.set_xlabel("operations for a byte of weights and cache")
        plot.legend(fontsize="small", loc="lower right")
    axes[0][0].set_ylabel("GFLOP/s; hollow: naive")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("measure", "write"))
    parser.add_argument("names", nargs="*", choices=[*RUNS, []], help="of the measurements; default: all")
    asked = parser.parse_args()
    if asked.what == "measure":
        measure(asked.names)
    results = read_results()
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf8"), results), encoding="utf8")
    draw(results, PLOT)


if __name__ == "__main__":
    main()
