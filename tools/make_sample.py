"""The sample on the first screen of the README: a short clip of nano and its spectrogram.

python tools/make_sample.py     # docs/audio/tortoise.mp3, docs/images/tortoise.png; needs matplotlib
"""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image

import chelys
from chelys.audio.mel import log_mel
from chelys.audio.rates import MEL_24K

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

DOCS = Path(__file__).parents[1] / "docs"
TEXT = "Slow and steady, said the tortoise, and began to sing."
VOICE, PRESET, SEED = "heart", "high_quality", 7


def main() -> None:
    speech = chelys.load().speak(TEXT, voice=VOICE, preset=PRESET, seed=SEED)
    speech.save(DOCS / "audio" / "tortoise.mp3")
    mel = log_mel(torch.from_numpy(speech.audio)[None], MEL_24K)[0].numpy()
    seconds = len(speech.audio) / speech.sample_rate
    figure, axes = plt.subplots(figsize=(7.5, 2.2), dpi=100, layout="constrained")
    axes.imshow(mel, origin="lower", aspect="auto", extent=(0, seconds, 0, len(mel)), cmap="magma", vmin=-9)
    axes.set(xlabel="seconds", ylabel="mel band", title=f"“{TEXT}”")
    axes.set_xticks(np.arange(0, seconds, 0.5))
    picture = io.BytesIO()
    figure.savefig(picture)
    Image.open(picture).convert("RGB").quantize(48).save(DOCS / "images" / "tortoise.png", optimize=True)


if __name__ == "__main__":
    main()
