"""How many threads speaking should have: CPU and wall seconds a second of speech, alone and beside busy loops.

    python benchmarks/threads.py [--repeats 3] [--text "..."] [--out threads.json]

Each way is a process of its own that speaks the text twice once it is warm; ways take turns, medians are printed.
``chelys`` is what ``chelys speak`` chooses; the others are fixed numbers of threads that sleep while they wait for each
other, that spin before (libgomp, some 20 ns each time), or as OpenMP has it by default, which is run once, since it
takes so long beside others. The last column is a way's wall time over that of the best one. Five minutes on two cores.
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
CORES = os.cpu_count() or 1
DEFAULT = "all cores, as OpenMP"
WAYS: dict[str, tuple[int | None, dict[str, str]]] = {
    "chelys": (None, {}),
    **{f"{number} sleeping": (number, {"OMP_WAIT_POLICY": "PASSIVE"}) for number in (1, 2, 4, 8) if number <= CORES},
    **{f"all cores, spin {count}": (CORES, {"GOMP_SPINCOUNT": str(count)}) for count in (1000, 10_000, 100_000)},
    DEFAULT: (CORES, {"KMP_BLOCKTIME": "200"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--busy", type=int, default=2, help="Busy loops of the second half.")
    parser.add_argument("--ways", default=":".join(WAYS), help="Separated by colons.")
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
            runs: dict[str, list[dict[str, float]]] = {way: [] for way in args.ways.split(":")}
            for repeat in range(args.repeats):
                for way, results in runs.items():
                    if way != DEFAULT or not repeat:
                        results += measure(way, args.text)
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


def measure(way: str, text: str) -> list[dict[str, float]]:
    """One process that loads and speaks."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "CHELYS_THREADS", "KMP_BLOCKTIME")
    environment = {key: value for key, value in os.environ.items() if key not in names}
    command = [sys.executable, __file__, "--one", way, "--text", text]
    out = subprocess.run(command, env=environment | WAYS[way][1], capture_output=True, text=True, check=True)
    found: list[dict[str, float]] = json.loads(out.stdout.splitlines()[-1])
    return found


def speak(text: str, threads: int | None) -> list[dict[str, float]]:
    """Seconds a second of speech once the model is warm, twice, and the CPU seconds until then."""
    from chelys import machine

    machine.wait_passively()  # leaves alone what the environment says
    time.sleep(0.2)  # imports of the command take that long
    machine.spin_if_idle()
    number = machine.set_threads(threads)
    import chelys

    tts = chelys.load(device="cpu")
    tts.speak("Hello.", seed=1)
    start, found = time.process_time(), []
    for _ in range(2):
        cpu, wall = time.process_time(), time.perf_counter()
        speech = tts.speak(text, seed=3)
        seconds = len(speech.audio) / speech.sample_rate
        spent = (time.process_time() - cpu) / seconds, (time.perf_counter() - wall) / seconds
        found.append({"threads": number, "cpu": spent[0], "wall": spent[1], "start": start})
    return found


if __name__ == "__main__":
    main()
