"""Batches of each stage from a `DeviceCorpus`, and the held-out ones."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chelys.audio.rates import FRAMES_PER_CODE
from chelys.errors import ConfigError
from chelys.models.diffusion import clip_spectrum
from chelys.models.diffusion_schedule import TRAIN_STEPS
from chelys.training.accelerated.config import AcceleratedConfig
from chelys.training.accelerated.corpus import WIDTHS, DeviceCorpus, rows_of
from chelys.training.tasks.clvp import CLVPBatch, Corrupted
from chelys.training.tasks.diffusion import MEAN_CLIPS, DiffusionBatch
from chelys.training.tasks.dvae import ClipDVAEBatch
from chelys.training.tasks.vocoder import VocoderBatch

#: Held-out batches of an evaluation.
TEST_BATCHES = 8
#: Mel frames of a clip that the mean spectrum is taken of.
MEAN_FRAMES = 256


class Batches:
    """Batches of a stage from a corpus, and the held-out ones that it is evaluated on."""

    def __init__(self, stage: str, run: Any, config: AcceleratedConfig, corpus: DeviceCorpus) -> None:
        self.stage, self.run, self.config, self.corpus = stage, run, config, corpus
        self.plan = config.stages[stage]
        usable = corpus.frames <= self.plan.max_frames
        if stage in ("autoregressive", "clvp"):
            usable = usable & corpus.read
        if stage == "vocoder":
            usable = usable & ~corpus.resized & (corpus.frames >= run.stage.frames)
            if run.network.pitches:
                usable = usable & corpus.pitched
        self.chance = corpus.chances(config.sources, config.resized) * usable
        if not self.chance.any():
            raise ConfigError(f"{stage}: no clip to train on fits")
        self.test = np.flatnonzero(usable & corpus.held_out)

    def train(self, rng: np.random.Generator) -> Iterator[Any]:
        """Batches without end."""
        if self.stage == "vocoder":  # crops, of long clips more
            chance = self.chance * self.corpus.frames
            for step in count():
                yield self._batch(rng.choice(len(chance), self.run.stage.rows, p=chance / chance.sum()), 0, rng, step)
        drawn = self.corpus.batches(self.chance, self.plan.frames, self.plan.max_rows, rng)
        for step, (rows, width) in enumerate(drawn):
            yield self._batch(rows, width, rng, step)

    def held_out(self) -> Iterator[Any]:
        """A few batches of held-out clips, the same every time."""
        rng = np.random.default_rng(7)
        widths = self.corpus.width[self.test]
        for width in np.unique(widths)[:TEST_BATCHES]:
            rows = self.test[widths == width]
            yield self._batch(rows[: rows_of(int(width), self.plan.frames, 32)], int(width), rng, 0)

    def mean_spectrum(self) -> Tensor:
        """Mean over the spectra of training clips, evenly drawn, the start of each: ``(f,)``."""
        frames, drawn = self.corpus.frames, self.chance > 0
        width = min(int(np.median(frames[drawn])), MEAN_FRAMES)
        rows = np.flatnonzero(drawn & (frames >= width))
        mel, _ = self.corpus.mels(rows[:: -(-len(rows) // MEAN_CLIPS)], width)
        return clip_spectrum(mel.float()).mean(0)

    def _batch(self, rows: np.ndarray, width: int, rng: np.random.Generator, step: int) -> Any:
        corpus, config = self.corpus, self.config
        if self.stage == "dvae":
            mel, mask = corpus.mels(rows, width)
            text = corpus.texts(rows, width, np.zeros(len(rows)))
            at = torch.from_numpy(rows).to(corpus.device)
            read = torch.from_numpy(corpus.read[rows]).to(corpus.device)
            return ClipDVAEBatch(mel, mask, corpus.mean[at], *text, read)
        if self.stage == "vocoder":
            frames = self.run.stage.frames
            first = (rng.random(len(rows)) * (corpus.frames[rows] - frames + 1)).astype(int)
            mel, _ = corpus.mels(rows, frames, first)
            waveform, f0_hz = corpus.waveforms(rows, first, frames)
            noise = torch.randn((len(rows), self.run.network.noise_dim, frames), device=corpus.device)
            narrow = torch.zeros(0, device=corpus.device)  # none is: mels are of the waveforms themselves
            return VocoderBatch(config.mel_range.denormalize(mel), waveform, noise, f0_hz, narrow, step)
        pairs = corpus.pairs(
            rows,
            width,
            rng,
            frames=config.reference_frames,
            clips=config.reference_clips,
            grapheme_share=config.grapheme_share,
        )
        if self.stage == "autoregressive":
            return pairs
        if self.stage == "clvp":
            none = torch.zeros(len(rows), 0, 0, dtype=torch.long, device=corpus.device)
            return CLVPBatch(*pairs, Corrupted(none, none.flatten(1), none, none.flatten(1)))
        # a crop that every clip of the width has
        shortest = max((w for w in WIDTHS if w < width), default=32)
        length = min(self.run.stage.crop, shortest // FRAMES_PER_CODE)
        first = (rng.random(len(rows)) * (corpus.frames[rows] // FRAMES_PER_CODE - length + 1)).astype(int)
        mel, _ = corpus.mels(rows, length * FRAMES_PER_CODE, first * FRAMES_PER_CODE)
        at = torch.from_numpy(first).to(corpus.device)[:, None] + torch.arange(length, device=corpus.device)
        return DiffusionBatch(
            mel, at, *pairs, voice=pairs.reference, noise=torch.randn(mel.shape, device=corpus.device),
            timesteps=torch.randint(TRAIN_STEPS, (len(rows),), device=corpus.device),
            uncond_mask=torch.rand(len(rows), device=corpus.device) < self.run.stage.conditioning_dropout,
        )  # fmt: skip
