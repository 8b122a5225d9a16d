"""Speak a list of sentences, one file each, with a list for the judge.

    python benchmarks/speak_sentences.py --out eval/heart [--voice heart] [--preset fast] [--model nano] [--speed 1.25]

Sentence i is spoken with seed i, counted from 1. ``OUT/list.jsonl`` names each clip and its text for ``judge.py``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from judge import RATE

import chelys
from chelys.audio.io import read
from chelys.inference.synthesizer import Synthesizer
from chelys.inference.voice import Voice

HERE = Path(__file__).parent


def spoken(synthesizer: Synthesizer, voice: Voice | str, texts: list[str], out: Path, name: str) -> list[np.ndarray]:
    """What a voice makes of each text at preset ``fast``, text i with seed i counted from 1, as a judge hears it.

    Returns:
        Waves ``(n,)`` at 16 kHz, read back from ``OUT/NAME-i.wav``.
    """
    clips = []
    for seed, text in enumerate(texts, 1):
        path = out / f"{name}-{seed}.wav"
        synthesizer.speak(text, voice=voice, preset="fast", seed=seed).save(path)
        clips.append(read(path, RATE))
    return clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sentences", type=Path, default=HERE / "sentences.txt")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--voice", default=None)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--speed", type=float, help="pace, 0.5 to 2")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    synthesizer = chelys.load(arguments.model)
    seconds = elapsed = 0.0
    with (arguments.out / "list.jsonl").open("w", encoding="utf8") as lines:
        for seed, text in enumerate(arguments.sentences.read_text(encoding="utf8").splitlines(), 1):
            speech = synthesizer.speak(
                text, voice=arguments.voice, preset=arguments.preset, seed=seed, speed=arguments.speed
            )
            speech.save(arguments.out / f"{seed:03d}.wav")
            lines.write(json.dumps({"audio": f"{seed:03d}.wav", "text": text}) + "\n")
            seconds += speech.seconds
            elapsed += speech.receipt["synthesis_seconds"]
    print(f"{seconds:.1f} s of speech in {elapsed:.1f} s: real-time factor {elapsed / seconds:.3f}")


if __name__ == "__main__":
    main()
