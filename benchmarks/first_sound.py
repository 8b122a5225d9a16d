"""Where the time to the first sound of ``chelys speak`` goes: imports, loading, work.

    python benchmarks/first_sound.py [--source src] [--repeats 3] [--text "Hello."]

CPU and wall seconds of a fresh process, medians. ``--source`` names the package's folder, of another checkout for
example. Loading for the first time holds the model's files against their hashes, which later is remembered. The whole
command is timed as well, with its start and its file, and so is ``chelys voices list``.

``--busy 2`` times the whole command alone, on as many threads as it chooses itself: idle, and beside two processes that
compute all the time.
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
LOADING = 3  # place in it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path(__file__).parents[1] / "src")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--text", default="Hello.")
    parser.add_argument("--busy", type=int, help="processes beside it")
    args = parser.parse_args()
    if args.busy is not None:
        return beside(args)
    environment = os.environ | {"PYTHONPATH": str(args.source), "OMP_NUM_THREADS": "1"}
    runs, fresh, whole, listed = [], [], [], []
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            fresh.append(parts(args.text, environment | {"CHELYS_MODELS": folder}))
        runs.append(parts(args.text, environment))
        with tempfile.TemporaryDirectory() as folder:
            whole.append(command(speaking(args.text, folder), environment))
        listed.append(command(["voices", "list"], environment))
    print(f"{'':20} CPU s  wall s")
    for index, (name, *_) in enumerate(runs[0]):
        if name == "modules":
            print(f"{'modules imported':20} {statistics.median(run[index][1] for run in runs):5.0f}")
            continue
        spent = [[run[index][i] - (run[index - 1][i] if index else 0) for run in runs] for i in (1, 2)]
        wall = f"{statistics.median(spent[1]):7.2f}" if index else ""
        print(f"{name:20} {statistics.median(spent[0]):5.2f} {wall}")
    first = [tuple(run[LOADING][i] - run[LOADING - 1][i] for i in (1, 2)) for run in fresh]
    for name, figures in (("loading, first time", first), ("chelys speak", whole), ("chelys voices list", listed)):
        cpu, wall_s = (statistics.median(figure) for figure in zip(*figures, strict=True))
        print(f"{name:20} {cpu:5.2f} {wall_s:7.2f}")


def beside(args: argparse.Namespace) -> None:
    """The whole command, idle and beside busy processes."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment["PYTHONPATH"] = str(args.source)
    print(f"{'':20} CPU s  wall s")
    for count in (0, args.busy):
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        try:
            spent = []
            for _ in range(args.repeats):
                with tempfile.TemporaryDirectory() as folder:
                    spent.append(command(speaking(args.text, folder), environment))
        finally:
            for loop in loops:
                loop.kill()
        cpu, wall_s = (statistics.median(figure) for figure in zip(*spent, strict=True))
        print(f"{f'beside {count} processes':20} {cpu:5.2f} {wall_s:7.2f}", flush=True)


def speaking(text: str, folder: str) -> list[str]:
    """The command that is timed."""
    return ["speak", text, "--seed", "1", "-q", "-o", f"{folder}/a.wav"]


def parts(text: str, environment: dict[str, str]) -> list[list[float]]:
    """Name, CPU and wall seconds so far of each part."""
    command = [sys.executable, "-c", PARTS, text]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: list[list[float]] = json.loads(out.stdout.splitlines()[-1])
    return found


def command(words: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """CPU and wall seconds of the whole command."""
    begun, before = time.perf_counter(), os.times()
    run = [sys.executable, "-m", "chelys", *words]
    subprocess.run(run, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spent, time.perf_counter() - begun


if __name__ == "__main__":
    main()
