"""Picture of nano's speech beside a clip of the corpus: log-mels of both.

python benchmarks/spectrogram.py CLIP TEXT --out spectrogram.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import torch

import chelys
from chelys.audio.io import read
from chelys.audio.mel import log_mel
from chelys.audio.rates import MEL_24K

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("text")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    speech = chelys.load().speak(arguments.text, preset="standard", seed=arguments.seed)
    waves = {"the corpus": read(arguments.clip, MEL_24K.sample_rate), "nano": speech.audio}
    figure, axes = plt.subplots(2, 1, figsize=(9, 5), sharex=True, layout="constrained")
    for axis, (name, wave) in zip(axes, waves.items(), strict=True):
        mel = log_mel(torch.from_numpy(wave)[None], MEL_24K)[0]
        seconds = mel.shape[1] / MEL_24K.frames_per_second
        extent = (0, seconds, 0, MEL_24K.bands)
        axis.imshow(mel, origin="lower", aspect="auto", vmin=-11, vmax=1, extent=extent, cmap="magma")
        axis.set(title=f"{name}: {arguments.text}", ylabel="mel band")
    axes[-1].set_xlabel("seconds")
    axes[-1].set_xlim(0, max(len(wave) for wave in waves.values()) / MEL_24K.sample_rate)
    figure.savefig(arguments.out, dpi=70)


if __name__ == "__main__":
    main()
