"""Where the time to the first sound of ``chelys speak`` goes: imports, loading, work.

    python benchmarks/first_sound.py [--source src] [--repeats 3] [--text "Hello."]

CPU and wall seconds of a fresh process, medians. ``--source`` names the package's folder, of another checkout for
example. The whole command is timed as well, with its start and its file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PARTS = """
import json, os, sys, time
def now(): return time.process_time(), time.perf_counter()
marks = [("start of Python", now())]
import torch
marks.append(("import of torch", now()))
import chelys.inference.synthesizer
marks.append(("import of chelys", now()))
import chelys
tts = chelys.load()
marks.append(("loading", now()))
for chunk in tts.stream(sys.argv[1], seed=1):
    break
marks.append(("first chunk", now()))
for chunk in tts.stream(sys.argv[1], seed=1):
    break
marks.append(("the same once more", now()))
print(json.dumps([[name, *at] for name, at in marks] + [["modules", len(sys.modules), 0]]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path(__file__).parents[1] / "src")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--text", default="Hello.")
    args = parser.parse_args()
    environment = os.environ | {"PYTHONPATH": str(args.source), "OMP_NUM_THREADS": "1"}
    runs, whole = [], []
    for _ in range(args.repeats):
        out = subprocess.run(
            [sys.executable, "-c", PARTS, args.text], env=environment, capture_output=True, text=True, check=True
        )
        runs.append(json.loads(out.stdout.splitlines()[-1]))
        whole.append(command(args.text, environment))
    print(f"{'':20} CPU s  wall s")
    for index, (name, *_) in enumerate(runs[0]):
        if name == "modules":
            print(f"{'modules imported':20} {statistics.median(run[index][1] for run in runs):5.0f}")
            continue
        spent = [[run[index][i] - (run[index - 1][i] if index else 0) for run in runs] for i in (1, 2)]
        wall = f"{statistics.median(spent[1]):7.2f}" if index else ""
        print(f"{name:20} {statistics.median(spent[0]):5.2f} {wall}")
    cpu, wall_s = (statistics.median(figures) for figures in zip(*whole, strict=True))
    print(f"{'chelys speak':20} {cpu:5.2f} {wall_s:7.2f}")


def command(text: str, environment: dict[str, str]) -> tuple[float, float]:
    """CPU and wall seconds of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        begun, before = time.perf_counter(), os.times()
        words = [sys.executable, "-m", "chelys", "speak", text, "--seed", "1", "-q", "-o", f"{folder}/a.wav"]
        subprocess.run(words, env=environment, check=True)
        after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spent, time.perf_counter() - begun


if __name__ == "__main__":
    main()
