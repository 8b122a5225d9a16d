"""How fast nano speaks, and in how much memory: one process, each preset in turn.

    python benchmarks/speed.py [--threads 2]

The real-time factor is seconds of work for each second of speech, without loading; the best of three runs.
"""

from __future__ import annotations

import argparse
import resource
import time

TEXT = (
    "The tortoise crossed the road without hurry, while the hare, who had been up all night, slept beneath a tree. "
    "When he woke, the race was over."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    started = time.perf_counter()
    import torch

    with_torch = time.perf_counter()
    import chelys

    with_chelys = time.perf_counter()
    torch.set_num_threads(threads)
    synthesizer = chelys.load()
    loaded = time.perf_counter()
    print(f"import torch {with_torch - started:.2f} s, then chelys {with_chelys - with_torch:.3f} s")
    print(f"load nano {loaded - with_chelys:.2f} s")
    for preset in ("ultra_fast", "fast", "standard", "high_quality"):
        runs = [synthesizer.speak(TEXT, preset=preset, seed=1) for _ in range(3)]
        best = min(run.receipt["real_time_factor"] for run in runs)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{preset:13} {runs[0].seconds:5.1f} s of speech, real-time factor {best:.3f}, peak so far {peak:.0f} MB")


if __name__ == "__main__":
    main()
