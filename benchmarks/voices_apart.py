"""Can a listener tell the built-in voices apart? Who is heard in each clip, of all voices of the model.

    python benchmarks/voices_apart.py --out eval/voices [--model nano] [--voices heart,elm,...] [--sentences 4]

Each voice speaks the same sentences at preset ``fast``. A clip is told right where it is more like the other clips of
its own voice (mean speaker embedding, the clip itself left out) than those of any other; ``nearest`` is the voice that
it is most easily taken for, with that likeness and the voice's own. Pitch is the median of the voiced frames; words and
naturalness are of the same few clips, so rougher than those of ``chelys eval``.
``OUT/voices.json`` keeps the rows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import chelys
from chelys.audio.recognition import RATE
from chelys.evaluation.listening import Naturalness, SpeakerEncoder, load_recogniser
from chelys.evaluation.sets import read_texts
from chelys.evaluation.speaking import speak_texts
from chelys.evaluation.words import error_rate, listen


def pitch(audio: np.ndarray) -> float:
    """Median fundamental frequency (Hz) of the frames ``(n,)`` that are loud enough to be voiced."""
    import librosa

    track = librosa.yin(audio, fmin=60, fmax=400, sr=RATE, frame_length=1024)
    loud = librosa.feature.rms(y=audio, frame_length=1024, hop_length=256)[0][: len(track)]
    return float(np.median(track[: len(loud)][loud > 0.3 * loud.max()]))


def told(embeddings: np.ndarray) -> np.ndarray:
    """Likeness ``(voices, sentences, voices)`` of each clip to each voice, the clip itself left out of its own.

    Args:
        embeddings: ``(voices, sentences, d)`` of length 1.
    """
    voices, sentences, _ = embeddings.shape
    sums = embeddings.sum(1)
    found = np.empty((voices, sentences, voices))
    for voice in range(voices):
        for sentence in range(sentences):
            others = np.array(sums)
            others[voice] -= embeddings[voice, sentence]
            others /= np.linalg.norm(others, axis=1, keepdims=True)
            found[voice, sentence] = others @ embeddings[voice, sentence]
    return found


def rows(names: list[str], embeddings: np.ndarray, pitches: list[float]) -> list[dict[str, Any]]:
    """A row for each voice."""
    likeness = told(embeddings)
    table = []
    for place, name in enumerate(names):
        own = likeness[place]  # (sentences, voices)
        average = own.mean(0)
        nearest = max((i for i in range(len(names)) if i != place), key=lambda i: average[i])
        table.append({
            "voice": name, "clips": len(own), "told": int((own.argmax(1) == place).sum()),
            "likeness": round(float(average[place]), 3), "nearest": names[nearest],
            "nearest_likeness": round(float(average[nearest]), 3), "pitch_hz": round(pitches[place]),
        })  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--voices", default="", help="names with commas between; default: all built-in ones")
    parser.add_argument("--sentences", type=int, default=4)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    synthesizer, recogniser = chelys.load(arguments.model), load_recogniser()
    rate, embed = Naturalness(), SpeakerEncoder()
    names = [name for name in arguments.voices.split(",") if name] or synthesizer.voice_names
    texts = read_texts("harvard")[: arguments.sentences]
    embeddings, pitches, quality = [], [], []
    for name in names:
        clips = [clip.samples(RATE) for clip in speak_texts(synthesizer, texts, [name], arguments.out / name)]
        heard = [listen(recogniser, clip, text.text) for clip, text in zip(clips, texts, strict=True)]
        mos = float(np.mean([rate(clip) for clip in clips]))
        quality.append({"wer": round(error_rate(heard), 4), "mos": round(mos, 3)})
        embeddings.append(np.stack([embed(clip) for clip in clips]))
        pitches.append(float(np.median([pitch(clip) for clip in clips])))
    told_apart = rows(names, np.stack(embeddings), pitches)
    found = [row | figures for row, figures in zip(told_apart, quality, strict=True)]
    for row in found:
        print(json.dumps(row))
    (arguments.out / "voices.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
