"""How fast is ``chelys data prepare`` without transcription, and does its memory stay the same for long recordings?

    pip install -e '.[prepare]'
    python benchmarks/prepare_throughput.py work --hours 1 10

For each length, one recording is made (44.1 kHz stereo FLAC: made-up speech with pauses) and prepared by one worker, up
to the shards. Printed, a line of JSON for each: hours of audio per hour of the clock and of a core (the same where the
machine does nothing else), and the most memory that the worker and the main process ever had (MB).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from chelys.config import from_mapping
from chelys.data.prepare.engine import Local
from chelys.data.prepare.pipeline import PrepareSettings, prepare

RATE = 44_100
STAGES = ("segment", "measure", "filter", "deduplicate", "similar", "pack")


def utterance(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A buzz in syllables with hisses, which the detector takes for speech, ``(n,)``."""
    t = np.arange(int(seconds * RATE)) / RATE
    pitch = rng.uniform(90, 230) * (1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.3, 0.8) * t + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voice = np.zeros(len(t))
    for formant in rng.uniform([300, 900, 2200], [800, 1800, 3000]):
        wander = formant * (1 + 0.25 * np.sin(2 * np.pi * rng.uniform(1.5, 3.5) * t + rng.uniform(0, 6)))
        for k in range(1, 24):
            voice += np.exp(-(((k * pitch - wander) / 250) ** 2)) * np.sin(k * phase)
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(1.5, 2.5) * t + rng.uniform(0, 6)) + 0.4, 0.02, 1)
    return (0.1 * voice * syllables + 0.0005 * rng.standard_normal(len(t))).astype(np.float32)


def make(path: Path, hours: float) -> None:
    """Write a recording, piece by piece: a few utterances, each time at another speed."""
    rng, written = np.random.default_rng(1), 0
    pool = [utterance(seconds, rng) for seconds in np.linspace(2, 12, 24)]
    with sf.SoundFile(path, "w", RATE, 2, "PCM_16", format="FLAC") as file:
        while written < hours * 3600 * RATE:
            pause = 1e-4 * rng.standard_normal(int(rng.uniform(0.6, 1.5) * RATE), dtype=np.float32)
            spoken = pool[int(rng.integers(len(pool)))]
            speed = rng.uniform(0.8, 1.2)
            said = np.interp(np.arange(0, len(spoken) - 1, speed), np.arange(len(spoken)), spoken).astype(np.float32)
            for part in (said, pause):
                file.write(np.stack([part, part], axis=1))
                written += len(part)


def run(raw: Path, out: Path, detector: str, answer: Any) -> None:
    """Prepare, in a process of its own whose memory nobody else has used."""
    rules = raw / "rules.yaml"
    rules.write_text("seconds: {min: 0.6, max: 20}\n")  # everything goes the whole way
    settings = from_mapping(PrepareSettings, {"segment": {"detector": detector}, "rules": str(rules)})
    started = time.perf_counter()
    with Local(1) as engine:
        summary = prepare(raw, out, settings, only=STAGES, engine=engine)
    seconds = time.perf_counter() - started
    main, worker = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = main.ru_utime + main.ru_stime + worker.ru_utime + worker.ru_stime
    answer.put(
        {
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu, 1),
            "clips": summary.clips,
            "kept": summary.kept,
            "main_mb": main.ru_maxrss // 1024,
            "worker_mb": worker.ru_maxrss // 1024,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder to work in")
    parser.add_argument("--hours", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument("--detector", default="silero")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for hours in arguments.hours:
        raw, out = arguments.work / f"raw-{hours:g}", arguments.work / f"out-{hours:g}"
        shutil.rmtree(out, ignore_errors=True)
        raw.mkdir(parents=True, exist_ok=True)
        if not (raw / "long.flac").exists():
            make(raw / "making.part", hours)
            (raw / "making.part").rename(raw / "long.flac")
        answer = context.Queue()
        process = context.Process(target=run, args=(raw, out, arguments.detector, answer))
        process.start()
        figures = answer.get()
        process.join()
        speeds = {
            "times_real": round(hours * 3600 / figures["seconds"], 1),
            "times_real_of_cpu": round(hours * 3600 / figures["cpu_seconds"], 1),
        }
        print(json.dumps({"hours": hours, **speeds, **figures}), flush=True)


if __name__ == "__main__":
    main()
