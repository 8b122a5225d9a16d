"""How many threads speaking should have: CPU and wall seconds a second of speech, alone and beside busy loops.

    python benchmarks/threads.py [--repeats 3] [--text "..."] [--out threads.json]

Each way is a process of its own, ways take turns, medians are printed. ``chelys`` is what ``chelys speak`` chooses;
the others are fixed numbers of threads that wait passively (as chelys does), that spin for a moment, or as long as
OpenMP's default has it. The last column is a way's wall time over that of the best one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

TEXT = "The old boat drifted past the mill, and nobody could say why it had come so far up the river."
WAYS = {
    "chelys": (None, {}),
    "1 thread": (1, {"OMP_WAIT_POLICY": "PASSIVE"}),
    "all cores passive": (os.cpu_count(), {"OMP_WAIT_POLICY": "PASSIVE"}),
    "all cores spin 1000": (os.cpu_count(), {"GOMP_SPINCOUNT": "1000"}),
    "all cores default": (os.cpu_count(), {"KMP_BLOCKTIME": "200"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--busy", type=int, default=2, help="Busy loops of the second half.")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(speak(args.text, WAYS[args.one][0])))
        return
    found: dict[str, dict[str, dict[str, float]]] = {}
    for loops in (0, args.busy):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
        try:
            runs: dict[str, list[dict[str, float]]] = {way: [] for way in args.ways.split(",")}
            for _ in range(args.repeats):
                for way, results in runs.items():
                    results.append(measure(way, args.text))
        finally:
            for process in busy:
                process.kill()
                process.wait()
        medians = {
            way: {key: statistics.median(run[key] for run in results) for key in results[0]}
            for way, results in runs.items()
        }
        best = min(median["wall"] for median in medians.values())
        print(f"{loops} busy loops, load {os.getloadavg()[0]:.1f}")
        print(f"  {'':22} threads   CPU s / s   wall s / s   start CPU s   wall / best")
        for way, median in medians.items():
            print(
                f"  {way:22} {median['threads']:7.0f} {median['cpu']:11.2f} {median['wall']:12.2f} "
                f"{median['start']:13.2f} {median['wall'] / best:13.2f}"
            )
        found[f"{loops} busy loops"] = medians
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


def measure(way: str, text: str) -> dict[str, float]:
    """One process that loads and speaks."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "CHELYS_THREADS", "KMP_BLOCKTIME")
    environment = {key: value for key, value in os.environ.items() if key not in names}
    command = [sys.executable, __file__, "--one", way, "--text", text]
    out = subprocess.run(command, env=environment | WAYS[way][1], capture_output=True, text=True, check=True)
    return dict(json.loads(out.stdout.splitlines()[-1]))


def speak(text: str, threads: int | None) -> dict[str, float]:
    """Seconds a second of speech once the model is warm, and the CPU seconds until then."""
    from chelys import machine

    machine.wait_passively()  # leaves alone what the environment says
    number = machine.set_threads(threads)
    import chelys

    tts = chelys.load(device="cpu")
    tts.speak("Hello.", seed=1)
    start = time.process_time()
    cpu, wall = time.process_time(), time.perf_counter()
    speech = tts.speak(text, seed=3)
    seconds = len(speech.audio) / speech.sample_rate
    return {
        "threads": number, "cpu": (time.process_time() - cpu) / seconds,
        "wall": (time.perf_counter() - wall) / seconds, "start": start,
    }  # fmt: skip


if __name__ == "__main__":
    main()
