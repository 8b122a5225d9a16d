"""Cloned voices: how similar they are to their speakers, and whether they are identified among several.

    python benchmarks/cloning.py --out eval/cloning s01=clips/s01.flac s03=clips/s03.flac ... [--model nano]
    python benchmarks/cloning.py --out eval/shares --speaker-blend 0,0.5,1 s01=clips/s01.flac s03=clips/s03.flac ...

Clips may be in any format that ``chelys data prepare`` reads. The first six seconds of each make a voice, which
speaks eight sentences at preset ``fast``, sentence i with seed i counted from 1. Similarity is the cosine of speaker
embeddings between speech and clip. Speech is identified if the clip that it was cloned from is more similar than those
of all other speakers of the command. ``--speaker-blend`` makes each voice once for every share of the default voice.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import soxr
from judge import RATE, Judge, Words, error_rate
from speak_sentences import spoken

import chelys
from chelys.audio.rates import OUTPUT_RATE
from chelys.audio.stream import open_audio
from chelys.inference.synthesizer import Synthesizer

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
    with open_audio(path) as stream:
        for block in stream.blocks():
            pieces.append(block)
            if sum(map(len, pieces)) >= SECONDS * stream.sample_rate:
                break
        audio = soxr.resample(np.concatenate(pieces), stream.sample_rate, OUTPUT_RATE)
    return audio[: int(SECONDS * OUTPUT_RATE)]


def clone(
    synthesizer: Synthesizer, judge: Judge, speakers: dict[str, np.ndarray], sentences: list[str], out: Path,
    speaker_blend: float | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Let each speaker's voice speak; a row for each, and one for all.

    Args:
        synthesizer: Loaded.
        judge: Of words and voices.
        speakers: Name to six seconds, ``(n,)`` at 24 kHz.
        sentences: What they say.
        out: Folder for the clips.
        speaker_blend: Share of the default voice in their sampling latent; None leaves it to the model.
    """
    embeddings = np.stack([judge.voice(soxr.resample(audio, OUTPUT_RATE, RATE)) for audio in speakers.values()])
    heard: list[Words] = []
    rows: list[dict[str, Any]] = []
    for place, (name, audio) in enumerate(speakers.items()):
        sf.write(out / f"{name}.wav", audio, OUTPUT_RATE)
        voice = synthesizer.voice([out / f"{name}.wav"], speaker_blend=speaker_blend)
        clips = spoken(synthesizer, voice, sentences, out, name)
        heard += [judge.words(clip, text) for clip, text in zip(clips, sentences, strict=True)]
        likeness = np.stack([judge.voice(clip) for clip in clips]) @ embeddings.T  # (sentences, speakers)
        rows.append({
            "speaker": name, "likeness": float(likeness[:, place].mean()),
            "known": int((likeness.argmax(1) == place).sum()), "wer": error_rate(heard[-len(sentences) :]),
        })  # fmt: skip
    rows.append({
        "speaker": "all", "likeness": float(np.mean([row["likeness"] for row in rows])),
        "known": sum(row["known"] for row in rows), "wer": error_rate(heard),
    })  # fmt: skip
    return rows if speaker_blend is None else [{"speaker_blend": speaker_blend, **row} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=named, metavar="NAME=CLIP")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--sentences", type=Path, default=HERE / "sentences.txt", help="the first eight are spoken")
    parser.add_argument("--speaker-blend", default="", metavar="SHARE,...", help="default: what the model says")
    arguments = parser.parse_args()
    shares = [float(share) for share in arguments.speaker_blend.split(",") if share] or [None]
    arguments.out.mkdir(parents=True, exist_ok=True)
    synthesizer, judge = chelys.load(arguments.model), Judge()
    sentences = arguments.sentences.read_text(encoding="utf8").splitlines()[:SENTENCES]
    speakers = {name: beginning(path) for name, path in arguments.clips}
    rows = []
    for share in shares:
        made = clone(synthesizer, judge, speakers, sentences, arguments.out, share)
        for row in made:
            print(json.dumps(row), flush=True)
        rows += made
    (arguments.out / "cloning.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
