"""Voices that the model never heard: how like their speakers they sound, and whether they can be told apart.

    python benchmarks/cloning.py --out eval/cloning s01=clips/s01.flac s03=clips/s03.flac ... [--model nano]

Clips may be of any kind that ``chelys data prepare`` reads. The first six seconds of each make a voice, which speaks
eight sentences at preset ``fast``, sentence i with seed i counted from 1. Likeness is the cosine of speaker embeddings
between speech and clip; a clip of speech is *known* where the clip it was cloned from is more like it than those of all
other speakers of the command.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from judge import RATE, Judge, Words, error_rate

import chelys
from chelys.audio.io import read
from chelys.audio.rates import OUTPUT_RATE
from chelys.data.prepare.stream import open_stream

HERE = Path(__file__).parent
SECONDS, SENTENCES = 6.0, 8


def named(argument: str) -> tuple[str, Path]:
    """``s01=clip.flac``."""
    name, equals, path = argument.partition("=")
    if not equals or not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{argument!r} is not NAME=CLIP")
    return name, Path(path)


def beginning(path: Path) -> np.ndarray:
    """The first six seconds of a recording, ``(n,)`` at 24 kHz."""
    pieces: list[np.ndarray] = []
    with open_stream(path) as stream:
        for block in stream.blocks():
            pieces.append(block)
            if sum(map(len, pieces)) >= SECONDS * stream.rate:
                break
        audio = soxr.resample(np.concatenate(pieces), stream.rate, OUTPUT_RATE)
    return audio[: int(SECONDS * OUTPUT_RATE)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=named, metavar="NAME=CLIP")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    synthesizer, judge = chelys.load(arguments.model), Judge()
    sentences = (HERE / "sentences.txt").read_text(encoding="utf8").splitlines()[:SENTENCES]
    speakers = {name: beginning(path) for name, path in arguments.clips}
    embeddings = np.stack([judge.voice(soxr.resample(audio, OUTPUT_RATE, RATE)) for audio in speakers.values()])
    heard: dict[str, list[Words]] = {}
    likeness: dict[str, np.ndarray] = {}
    for name, audio in speakers.items():
        clip = arguments.out / f"{name}.wav"
        sf.write(clip, audio, OUTPUT_RATE)
        voice = synthesizer.voice([clip])
        heard[name], spoken = [], []
        for seed, text in enumerate(sentences, 1):
            path = arguments.out / f"{name}-{seed}.wav"
            synthesizer.speak(text, voice=voice, preset="fast", seed=seed).save(path)
            audio = read(path, RATE)
            heard[name].append(judge.words(audio, text))
            spoken.append(judge.voice(audio))
        likeness[name] = np.stack(spoken) @ embeddings.T  # (sentences, speakers)
    rows = []
    for place, name in enumerate(speakers):
        known = int((likeness[name].argmax(1) == place).sum())
        own = float(likeness[name][:, place].mean())
        rows.append({"speaker": name, "likeness": own, "known": known, "wer": error_rate(heard[name])})
    everything = [words for each in heard.values() for words in each]
    total = {"speaker": "all", "likeness": float(np.mean([row["likeness"] for row in rows])),
             "known": sum(row["known"] for row in rows), "wer": error_rate(everything)}  # fmt: skip
    for row in (rows := [*rows, total]):
        print(json.dumps(row))
    (arguments.out / "cloning.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
