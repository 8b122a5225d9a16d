"""How soon speech that comes in pieces is heard, whether it keeps up, and whether one hears where pieces meet.

    python benchmarks/early_speech.py --out eval/early [--preset streaming] [--texts TEXTS] [--count 50]
    chelys eval eval/early -o eval/early/judged

The texts are the twenty of ``chelys eval`` and the thirty of ``runs/sentences.txt``, or another set or file. Sentence i
is spoken with seed i on one thread, after one that is not counted. Of each: wall seconds from the call to the first
piece; for how long a player that began with it would have waited for later ones; seconds of work for a second of
speech; and whether the largest step between two samples where pieces meet is larger than the largest within them.
``OUT`` gets the audio and ``list.jsonl`` for ``chelys eval``.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

import chelys
from chelys.audio.io import write
from chelys.audio.rates import OUTPUT_RATE
from chelys.evaluation.sets import read_texts
from chelys.inference.speech import Chunk
from chelys.inference.synthesizer import Synthesizer

SENTENCES = Path(__file__).parents[1] / "runs" / "sentences.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="streaming")
    parser.add_argument("--voice", help="default: the model's")
    parser.add_argument("--texts", help="a set of chelys eval, or a file")
    parser.add_argument("--count", type=int, default=50)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    tts = chelys.load("nano", device="cpu")
    sets = [arguments.texts] if arguments.texts else ["harvard", str(SENTENCES)]
    texts = [one.text for name in sets for one in read_texts(name)][: arguments.count]
    list(tts.stream(texts[0], preset=arguments.preset, voice=arguments.voice, seed=0, early=True))
    rows = []
    with (arguments.out / "list.jsonl").open("w", encoding="utf8") as lines:
        for number, text in enumerate(texts, 1):
            row, audio = spoken(tts, text, preset=arguments.preset, voice=arguments.voice, seed=number)
            rows.append(row)
            name = f"{number:03d}.wav"
            write(arguments.out / name, audio, OUTPUT_RATE)
            lines.write(json.dumps({"audio": name, "text": text, "voice": arguments.voice or "default", **row}) + "\n")
    first, waited = (np.array([row[key] for row in rows]) for key in ("first_s", "waited_s"))
    work, speech = sum(row["work_s"] for row in rows), sum(row["seconds"] for row in rows)
    print(f"{len(rows)} sentences, {arguments.preset}: first audio {1000 * np.percentile(first, 50):.0f} ms at 50 %, "
          f"{1000 * np.percentile(first, 95):.0f} at 95 %; real-time factor {work / speech:.3f}; a player waits in "
          f"{int((waited > 0).sum())}, {1000 * waited.max():.0f} ms at most; seams with larger steps than within: "
          f"{sum(row['at_seams'] > row['within'] for row in rows)}")  # fmt: skip


def spoken(tts: Synthesizer, text: str, **asked: Any) -> tuple[dict[str, float], np.ndarray]:
    """What is measured of a text, and its audio."""
    chunks: list[Chunk] = []
    arrived: list[float] = []
    began = time.perf_counter()
    for chunk in tts.stream(text, early=True, **asked):
        arrived.append(time.perf_counter() - began)
        chunks.append(chunk)
    audio = np.concatenate([chunk.audio for chunk in chunks])
    waited, until = 0.0, arrived[0]  # until when there is something to play
    for chunk, at in zip(chunks, arrived, strict=True):
        waited += max(0.0, at - until)
        until = max(until, at) + len(chunk.audio) / chunk.sample_rate
    steps = np.abs(np.diff(audio))
    seams = [end - 1 for end, _ in pairwise(np.cumsum([len(chunk.audio) for chunk in chunks]))]
    row = {
        "first_s": arrived[0], "waited_s": waited, "work_s": arrived[-1], "seconds": len(audio) / OUTPUT_RATE,
        "at_seams": float(steps[seams].max(initial=0.0)), "within": float(np.delete(steps, seams).max()),
    }  # fmt: skip
    return {key: round(value, 4) for key, value in row.items()}, audio


if __name__ == "__main__":
    main()
