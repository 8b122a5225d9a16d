"""What nano's speech costs beside that of hibari, Kokoro (int8) and espeak-ng, in one run.

    OMP_NUM_THREADS=1 python benchmarks/beside.py [--sentences 20] [--repeats 3]

Each speaks the same sentences one by one, on one thread, in a process of its own: CPU seconds of its start (imports,
loading, a first sentence), CPU seconds for a second of speech after that, medians over the repeats, and peak memory.
hibari makes Kokoro's phonemes; that is not counted
in the seconds, but in the memory. Needs ``chelys[corpus]`` and the command ``espeak-ng``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable
from pathlib import Path

SENTENCES = Path(__file__).parents[1] / "src/chelys/assets/evaluation/harvard.txt"
FIRST = "Hello."
SYSTEMS = ("nano ultra_fast", "nano fast", "hibari", "kokoro int8", "espeak-ng")

#: Speaks a text and returns the CPU seconds that it took and its own seconds.
Speak = Callable[[str], tuple[float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", choices=SYSTEMS, help=argparse.SUPPRESS)  # a process of the measurement
    args = parser.parse_args()
    texts = [line for line in SENTENCES.read_text(encoding="utf8").splitlines() if line.strip()][: args.sentences]
    if args.one:
        print(json.dumps(measure(args.one, texts)))
        return
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in SYSTEMS}
    for _ in range(args.repeats):  # in turn, so that a change of the machine's pace meets all
        for name in SYSTEMS:
            words = [sys.executable, __file__, "--one", name, "--sentences", str(args.sentences)]
            done = subprocess.run(words, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, check=True)
            runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    print("| | CPU s for a second of speech | of nano fast | start, CPU s | peak memory, MB | seconds of speech |")
    print("|---|---|---|---|---|---|")
    found = {name: {key: statistics.median(run[key] for run in of) for key in of[0]} for name, of in runs.items()}
    for name, row in found.items():
        share = row["cost"] / found["nano fast"]["cost"]
        print(
            f"| {name} | {row['cost']:.4f} | {share:.3f} | {row['start']:.2f} | {row['memory']:.0f}"
            f" | {row['seconds']:.1f} |",
            flush=True,
        )


def measure(name: str, texts: list[str]) -> dict[str, float]:
    """Start, cost of a second of speech, and memory of this process and those that it began."""
    speak = {
        "hibari": hibari, "kokoro int8": kokoro, "espeak-ng": espeak,
        "nano fast": lambda: nano("fast"), "nano ultra_fast": lambda: nano("ultra_fast"),
    }[name]()  # fmt: skip
    speak(FIRST)
    start = spent()
    spoken = [speak(text) for text in texts]
    seconds = sum(length for _, length in spoken)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    if name == "espeak-ng":  # the process that is measured is another
        start, peak = speak(FIRST)[0], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"cost": sum(cpu for cpu, _ in spoken) / seconds, "start": start, "memory": peak / 1024, "seconds": seconds}


def spent() -> float:
    """CPU seconds of this process and those that it began."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def timed(seconds_of: Callable[[str], float]) -> Speak:
    def speak(text: str) -> tuple[float, float]:
        before = spent()
        length = seconds_of(text)
        return spent() - before, length

    return speak


def nano(preset: str) -> Speak:
    import torch

    import chelys

    torch.set_num_threads(1)
    tts = chelys.load(device="cpu")
    return timed(lambda text: tts.speak(text, preset=preset, seed=1).seconds)


def hibari() -> Speak:
    from hibari import Hibari

    tts = Hibari(threads=1)
    return timed(lambda text: len(tts(text, seed=1)) / tts.sample_rate)


def kokoro() -> Speak:
    import numpy as np
    from hibari import Hibari

    from chelys.data.recipes.synthetic import KokoroTeacher

    phonemes, teacher = Hibari(threads=1).phonemize, KokoroTeacher()

    def speak(text: str) -> tuple[float, float]:
        symbols = " ".join(phonemes(text))
        before = spent()
        length = len(teacher("s00", symbols, np.random.default_rng(1))) / 24_000
        return spent() - before, length

    return speak


def espeak() -> Speak:
    with tempfile.NamedTemporaryFile(suffix=".wav", delete=False) as file:
        path = file.name

    def seconds(text: str) -> float:
        subprocess.run(["espeak-ng", "-w", path, text], check=True)
        with wave.open(path) as sound:
            return sound.getnframes() / sound.getframerate()

    return timed(seconds)


if __name__ == "__main__":
    main()
