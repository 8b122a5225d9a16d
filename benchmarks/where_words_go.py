"""Where words and voices are lost on the way from a recording to speech: what Whisper and Resemblyzer hear after each
network.

    python benchmarks/where_words_go.py corpus/train.jsonl [--model nano] [--clips 30] [--speakers s05,s06] [--log FILE]
    python benchmarks/where_words_go.py corpus/train.jsonl --dvae runs/dvae    # another VQ-VAE: the first three steps

The same clips (spread evenly over the manifest, 25 letters or more) are heard five times: as recorded; their mel
through the vocoder alone; their codes through the VQ-VAE's own decoder; their codes as latents through the diffusion
decoder; and spoken from their text. The voice of the last two is another clip of the speaker, similarity is to a third
one. Each line names how much worse words and voice got, so that the next hour of training goes to the network that
loses them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch

import chelys
from chelys.audio.io import read, resample
from chelys.audio.mel import log_mel
from chelys.audio.rates import FRAMES_PER_CODE, MEL_24K, OUTPUT_RATE
from chelys.audio.recognition import RATE
from chelys.data.manifest import Utterance, read_manifest
from chelys.evaluation.listening import Naturalness, SpeakerEncoder, load_recogniser
from chelys.evaluation.words import WordComparison, error_rate, listen
from chelys.inference.synthesizer import Synthesizer, candidate_generator
from chelys.models.dvae import DVAE
from chelys.training.tasks.dvae import trained_dvae
from chelys.weights.folder import build
from chelys.weights.tensor_file import load_network

STEPS = ("recording", "vocoder", "codes", "codes, rendered", "spoken")


@torch.inference_mode()
def waves(speaker: Synthesizer, dvae: DVAE, clip: Utterance, other: Utterance, seed: int) -> Iterator[np.ndarray]:
    """The clip after each of STEPS, ``(n,)`` at 24 kHz."""
    model, options = speaker.model, speaker.options("fast")
    recording = read(Path(clip.audio), OUTPUT_RATE)
    yield recording
    mel = log_mel(torch.from_numpy(recording)[None], MEL_24K)
    mel = model.config.mel_range.normalize(mel[..., : mel.shape[-1] // FRAMES_PER_CODE * FRAMES_PER_CODE])
    generator = candidate_generator(seed, 0, 0)

    def vocode(network_mel: torch.Tensor) -> np.ndarray:
        return model.vocoder.vocode(model.config.mel_range.denormalize(network_mel), generator).flatten().numpy()

    yield vocode(mel)
    codes = dvae.encode(mel)
    yield vocode(dvae.decode(codes, mel.mean(2) if dvae.config.clip_mean else None))
    voice = speaker.voice([other.audio])
    ids = speaker.text_ids(model.tokenizer.analyse(clip.text).ids)
    yield speaker.render(ids, codes[0], voice, generator, options, None)
    yield speaker.speak(clip.text, voice=voice, seed=seed).audio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--clips", type=int, default=30)
    parser.add_argument("--speakers", default="", help="only these, with commas between")
    parser.add_argument("--dvae", type=Path, help="run of a VQ-VAE to hear in place of the model's")
    parser.add_argument("--called", default="", help="name of the model in the table")
    parser.add_argument("--log", type=Path, help="append the table to this file, a line of JSON a step")
    arguments = parser.parse_args()
    wanted = set(filter(None, arguments.speakers.split(",")))
    clips = [u for u in read_manifest(arguments.manifest) if len(u.text) >= 25 and (not wanted or u.speaker in wanted)]
    chosen = clips[:: max(1, len(clips) // arguments.clips)][: arguments.clips]
    speaker, recogniser, rate, encode = (
        chelys.load(arguments.model), load_recogniser(), Naturalness(), SpeakerEncoder(),
    )  # fmt: skip
    steps: tuple[str, ...]
    if arguments.dvae:
        dvae, steps = trained_dvae(arguments.dvae)[0], STEPS[:3]
    else:
        dvae, steps = cast(DVAE, build(speaker.model.config, "dvae")), STEPS
        load_network(speaker.model.folder / "dvae.safetensors", dvae)
    dvae.eval()
    heard: dict[str, list[WordComparison]] = {step: [] for step in steps}
    ratings: dict[str, list[float]] = {step: [] for step in steps}
    likeness: dict[str, list[float]] = {step: [] for step in steps}
    for seed, clip in enumerate(chosen, 1):
        others = [u for u in clips if u.speaker == clip.speaker and u.id != clip.id]
        other, third = others[0], encode(read(others[-1].audio, RATE))
        for step, wave in zip(steps, waves(speaker, dvae, clip, other, seed), strict=False):
            audio = resample(wave, OUTPUT_RATE, RATE)
            heard[step].append(listen(recogniser, audio, clip.text))
            ratings[step].append(rate(audio))
            likeness[step].append(float(encode(audio) @ third))
    for step in steps:
        row = {
            "model": arguments.called or arguments.model,
            "of": arguments.speakers or arguments.manifest.parent.name,
            "step": step,
            "clips": len(chosen),
            "wer": round(error_rate(heard[step]), 4),
            "mos": round(float(np.mean(ratings[step])), 3),
            "similarity": round(float(np.mean(likeness[step])), 3),
        }
        print(json.dumps(row), flush=True)
        if arguments.log:
            with arguments.log.open("a", encoding="utf8") as lines:
                lines.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
