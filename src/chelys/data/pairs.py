"""Text, codes and a reference clip of the same speaker: batches of all stages but the VQ-VAE's and the vocoder's.

A batch is a ``Batch``; b rows, t text ids, m codes, f bands, s mel frames, r frames of the reference clip.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from chelys.audio.mel import MelRange
from chelys.audio.rates import MEL_24K
from chelys.data.batching import Buckets, is_held_out
from chelys.data.codes import Codes
from chelys.data.features import Clip, Features
from chelys.text.tokenizer import Tokenizer


class Batch(NamedTuple):
    """One batch of pairs.

    Attributes:
        text: Ids ``(b, t)``, zero beyond each row's length.
        text_lengths: ``(b,)``.
        codes: ``(b, m)``, zero beyond each row's length.
        code_lengths: ``(b,)``.
        mel: ``(b, f, 4m)`` in network units, zero beyond each row's length.
        reference: Mel of another clip of the speaker, ``(b, f, r)`` in network units.
    """

    text: Tensor
    text_lengths: Tensor
    codes: Tensor
    code_lengths: Tensor
    mel: Tensor
    reference: Tensor


@dataclass(frozen=True)
class PairConfig:
    """What makes a batch.

    Attributes:
        budget: Codes in a batch, padding included.
        reference_frames: Mel frames r of the reference clip; shorter clips are repeated.
        spelled: Share of words spelled though the lexicon knows them, so that unknown words can be read.
        longest: Codes of the longest clip used.
        voices: How often clips of a speaker come, against once: ``{"heart": 0.5}``; ``other`` stands for the rest.
    """

    budget: int = 2000
    reference_frames: int = 256
    spelled: float = 0.08
    longest: int = 400
    voices: dict[str, float] | None = None


class Pairs:
    """Batches of a corpus, each a function of the seed and the step; without ``mels``, ``Batch.mel`` has no frames."""

    def __init__(
        self,
        features: Features,
        codes: Codes,
        tokenizer: Tokenizer,
        mel_range: MelRange,
        config: PairConfig,
        seed: int,
        *,
        mels: bool = True,
    ) -> None:
        self.mels = mels
        self.features, self.codes, self.tokenizer = features, codes, tokenizer
        self.mel_range, self.config, self.seed = mel_range, config, seed
        usable = [c for c in features.clips if c.codes <= config.longest]
        self.train = [c for c in usable if not is_held_out(c)]
        self.test = [c for c in usable if is_held_out(c)]
        shares = config.voices or {}
        weights = [shares.get(c.speaker, shares.get("other", 1.0)) for c in self.train]
        self.buckets = Buckets([c.codes for c in self.train], config.budget, seed, weights)
        self.by_speaker: dict[str, list[Clip]] = defaultdict(list)
        for clip in self.train:
            self.by_speaker[clip.speaker].append(clip)

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        rng = np.random.default_rng([self.seed, step])
        clips = [self.train[i] for i in self.buckets.at(step)]
        return self.collate(clips, rng, spelled=self.config.spelled)

    def collate(self, clips: list[Clip], rng: np.random.Generator, *, spelled: float = 0.0) -> Batch:
        """Batch of the given clips; ``rng`` draws reference clips and spelled words."""
        texts = [
            self.tokenizer.encode(c.text, spelled=(lambda _: bool(rng.random() < spelled)) if spelled else None)
            for c in clips
        ]
        codes = [self.codes.of(c) for c in clips]
        return Batch(
            text=_pad([torch.tensor(t) for t in texts]),
            text_lengths=torch.tensor([len(t) for t in texts]),
            codes=_pad(codes),
            code_lengths=torch.tensor([len(c) for c in codes]),
            mel=self._mel(clips),
            reference=torch.stack([self.reference(c, rng) for c in clips]),
        )

    def _mel(self, clips: list[Clip]) -> Tensor:
        """Mels of clips side by side, ``(b, f, s)``; most stages read codes alone and are spared them."""
        longest = max(c.frames for c in clips) if self.mels else 0
        mel = torch.zeros(len(clips), MEL_24K.bands, longest)
        for row, clip in zip(mel, clips if self.mels else [], strict=False):
            row[:, : clip.frames] = self.mel_range.normalize(self.features.mel(clip))
        return mel

    def reference(self, clip: Clip, rng: np.random.Generator) -> Tensor:
        """A crop ``(f, r)`` of another clip of the speaker, in network units."""
        wanted = self.config.reference_frames
        others = self.by_speaker.get(clip.speaker) or [clip]  # a held-out clip may be its speaker's only one
        other = others[int(rng.integers(len(others)))]
        if other.id == clip.id and len(others) > 1:
            other = others[int(rng.integers(len(others)))]
        start = int(rng.integers(max(0, other.frames - wanted) + 1))
        mel = self.features.mel(other, start, min(wanted, other.frames))
        return self.mel_range.normalize(repeat_to(mel, wanted))


def repeat_to(mel: Tensor, frames: int) -> Tensor:
    """Repeat a mel ``(f, s)`` until it has ``frames`` frames, and cut it there."""
    return mel.repeat(1, -(-frames // mel.shape[1]))[:, :frames]


def _pad(rows: list[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def load_pairs(
    features: Path, codes: Path, text: Path, mel_range: MelRange, config: PairConfig, seed: int, *, mels: bool = True
) -> Pairs:
    """Pairs from their files: a feature folder, ``codes.npy`` and a folder with the tokenizer."""
    return Pairs(Features(features), Codes(codes), Tokenizer.load(text), mel_range, config, seed, mels=mels)
