"""How like unseen speakers a model speaks in voices made of one clip each.

    python benchmarks/cloned_readers.py manifest.jsonl --speakers ls6345,ls1993 --out eval/readers [--model nano] \\
        [--texts runs/sentences.txt] [--set steps=10] [--match]

The first clip of 5 to 12 seconds of a speaker makes the voice; the last one is what the speech is compared with.
Similarity is the cosine of Resemblyzer's speaker embeddings; *identified* is the share of clips that are nearest to
their own speaker's. Beside it: the ceiling (two true clips of a speaker) and the floor (of two speakers), the word
error rate and Distill-MOS. ``--match`` gives what is spoken the mean spectrum of the voice's clip afterwards. Clips
that are in the folder are kept. Needs ``chelys[eval]``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

import chelys
from chelys.audio.io import read
from chelys.audio.mel import log_mel
from chelys.audio.rates import MEL_24K, OUTPUT_RATE
from chelys.audio.recognition import RATE
from chelys.data.manifest import Utterance, read_manifest
from chelys.data.recipes.synthetic import read_sentences
from chelys.evaluation.listening import Naturalness, SpeakerEncoder, load_recogniser
from chelys.evaluation.words import error_rate, listen
from chelys.inference.options import parse_options
from chelys.inference.synthesizer import Synthesizer
from chelys.models.diffusion import clip_spectrum

SHORTEST, LONGEST = 5.0, 12.0


def speak(
    model: str, clips: dict[str, Utterance], texts: list[str], changes: dict[str, object], out: Path, match: bool
) -> None:
    """Speak what is not there yet."""
    tts = chelys.load(model)
    options = tts.options("fast", **changes)
    for speaker, clip in clips.items():
        voice, recording = tts.voice([clip.audio], name=speaker), read(clip.audio, OUTPUT_RATE)
        for number, text in enumerate(texts):
            path = out / f"{speaker}-{number}.wav"
            if not path.exists():
                audio = tts.speak(text, voice=voice, options=options, seed=number + 1).audio
                sf.write(path, matched(tts, audio, recording) if match else audio, OUTPUT_RATE)


@torch.inference_mode()
def matched(tts: Synthesizer, spoken: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """Spoken audio ``(n,)`` once more through the vocoder, with the mean spectrum of a clip."""
    scale = tts.model.config.mel_range
    mel, target = (scale.normalize(log_mel(torch.from_numpy(audio)[None], MEL_24K)) for audio in (spoken, clip))
    given = scale.denormalize((mel + clip_spectrum(target, clip_spectrum(mel)[0])[..., None]).clamp(*scale.bounds))
    return tts.model.vocoder.vocode(given, torch.Generator().manual_seed(1)).flatten().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--speakers", required=True, help="with commas between")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--texts", type=Path, default=Path(__file__).parents[1] / "runs" / "sentences.txt")
    parser.add_argument("--count", type=int, default=8, help="of the texts that are spoken")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="of preset fast")
    parser.add_argument("--match", action="store_true", help="the mean spectrum afterwards")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    texts = read_sentences(asked.texts)[: asked.count]
    names = asked.speakers.split(",")
    fit = [u for u in read_manifest(asked.manifest) if u.speaker in names and SHORTEST <= u.seconds <= LONGEST]
    own = {name: [u for u in fit if u.speaker == name] for name in names}
    if few := [name for name in names if len(own[name]) < 2]:
        parser.error(f"fewer than two clips of {SHORTEST:g} to {LONGEST:g} s: {', '.join(few)}")
    speak(asked.model, {name: own[name][0] for name in names}, texts, parse_options(asked.set), asked.out, asked.match)

    encode, recogniser, rate = SpeakerEncoder(), load_recogniser(), Naturalness()
    voices = np.stack([encode(read(own[name][0].audio, RATE)) for name in names])
    others = np.stack([encode(read(own[name][-1].audio, RATE)) for name in names])
    likeness, heard, ratings = [], [], []
    for place, name in enumerate(names):
        for number, text in enumerate(texts):
            audio = read(asked.out / f"{name}-{number}.wav", RATE)
            likeness.append((place, others @ encode(audio)))
            heard.append(listen(recogniser, audio, text))
            ratings.append(rate(audio))
    true = others @ voices.T
    apart = ~np.eye(len(names), dtype=bool)
    print(json.dumps({
        "model": asked.model, "speakers": len(names), "clips": len(likeness),
        "similarity": round(float(np.mean([found[place] for place, found in likeness])), 3),
        "identified": round(float(np.mean([found.argmax() == place for place, found in likeness])), 3),
        "ceiling": round(float(np.diag(true).mean()), 3), "floor": round(float(true[apart].mean()), 3),
        "wer": round(error_rate(heard), 4), "mos": round(float(np.mean(ratings)), 3),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
