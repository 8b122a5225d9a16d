"""The detector's stage: did a system make this wave, or people? Cross-entropy of the two (TorToise v2's classifier).

How the original was trained is not public beyond what it tells apart. It learns whatever differs between the two
corpora, so they should differ in nothing else: the same texts, rates, formats and silences at the ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.audio.rates import HOP, OUTPUT_RATE
from chelys.data.dataset import Clip, read_waveform
from chelys.data.manifest import read_manifest
from chelys.data.sampler import held_out
from chelys.errors import ConfigError, ManifestError
from chelys.tortoise.detector import MOST_SAMPLES, SYNTHETIC, Detector
from chelys.training.stage import Stage

PEOPLE = 1 - SYNTHETIC


@dataclass(frozen=True)
class DetectorStageConfig:
    """Batches and weights of the stage.

    Attributes:
        rows: Clips in a batch, half of them of each kind.
        samples: Of a crop, at 24 kHz; silence follows a shorter clip.
        gain: Clips are made louder or softer by up to so many decibels, so that loudness tells nothing.
        origin: Weight of the cross-entropy.
        test_clips: Held-out clips of each kind in an evaluation.
    """

    rows: int = 16
    samples: int = 48_128
    gain: float = 6.0
    origin: float = 1.0
    test_clips: int = 64

    def __post_init__(self) -> None:
        if self.rows < 2 or self.rows % 2:
            raise ConfigError(f"stage.rows is {self.rows}; it must be even, for half of them are of each kind")
        if self.samples % HOP or not 0 < self.samples <= MOST_SAMPLES:
            raise ConfigError(
                f"stage.samples is {self.samples}; it must be a multiple of {HOP}, {MOST_SAMPLES} at most"
            )


class DetectorBatch(NamedTuple):
    """Waves ``(b, n)`` and who made them, ``(b,)``: SYNTHETIC or PEOPLE."""

    wave: Tensor
    origin: Tensor


class DetectorStage(Stage):
    """Two corpora in, one question answered."""

    name = "detector"

    def __init__(
        self, network: Detector, real: list[Path], made: list[Path], config: DetectorStageConfig, seed: int
    ) -> None:
        self.players: dict[str, nn.Module] = {"detector": network}
        self.detector, self.config, self.seed = network, config, seed
        self.kinds = {SYNTHETIC: _clips(made), PEOPLE: _clips(real)}
        held = {kind: held_out(clip.id for clip in clips) for kind, clips in self.kinds.items()}
        self.train_clips = {
            kind: [c for c, kept in zip(clips, held[kind], strict=True) if not kept]
            for kind, clips in self.kinds.items()
        }
        self.test_clips = {
            kind: [c for c, kept in zip(clips, held[kind], strict=True) if kept][: config.test_clips]
            for kind, clips in self.kinds.items()
        }
        for kind, name in ((PEOPLE, "real"), (SYNTHETIC, "made")):
            if not self.train_clips[kind]:
                raise ManifestError(f"{name}: no clip to train on; name a manifest with more clips")

    def rows(self, step: int) -> int:
        return self.config.rows

    def batch(self, step: int) -> DetectorBatch:
        return self.part(step, slice(None))

    def clips(self, step: int) -> list[str]:
        return [clip.id for clip, _ in self._drawn(step)]

    def part(self, step: int, rows: slice) -> DetectorBatch:
        drawn = self._drawn(step)
        rngs = [np.random.default_rng([self.seed, step, row]) for row in range(len(drawn))[rows]]
        waves = [self._wave(clip, rng) for (clip, _), rng in zip(drawn[rows], rngs, strict=True)]
        return DetectorBatch(torch.stack(waves), torch.tensor([kind for _, kind in drawn[rows]]))

    def _drawn(self, step: int) -> list[tuple[Clip, int]]:
        rng = np.random.default_rng([self.seed, step])
        kinds = [SYNTHETIC, PEOPLE] * (self.config.rows // 2)
        return [(self.train_clips[kind][int(rng.integers(len(self.train_clips[kind])))], kind) for kind in kinds]

    def _wave(self, clip: Clip, rng: np.random.Generator) -> Tensor:
        frames = self.config.samples // HOP
        start = int(rng.integers(max(0, clip.frames - frames) + 1))
        gain = 10 ** (float(rng.uniform(-self.config.gain, self.config.gain)) / 20)
        return (read_waveform(clip, start, frames) * gain).clamp(-1, 1)

    def losses(self, player: str, batch: DetectorBatch, generator: torch.Generator) -> Mapping[str, Tensor]:
        return {"origin": self.config.origin * F.cross_entropy(self.detector(batch.wave).float(), batch.origin)}

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracy on held-out clips, as much of each as a crop holds."""
        device = next(self.detector.parameters()).device
        loss, right = [], []
        for kind, clips in self.test_clips.items():
            for clip in clips:
                wave = read_waveform(clip, 0, self.config.samples // HOP)[None].to(device)
                logits = self.detector(wave).float()
                loss.append(float(F.cross_entropy(logits, torch.tensor([kind], device=device))))
                right.append(float(logits.argmax(1) == kind))
        return {"origin": float(np.mean(loss)), "accuracy": float(np.mean(right))} if loss else {}


def _clips(manifests: list[Path]) -> list[Clip]:
    """Utterances of manifests as clips, which know their length in mel frames."""
    return [
        Clip(u.id, u.audio, u.text, u.speaker, 0, max(1, int(u.seconds * OUTPUT_RATE) // HOP), u.start)
        for manifest in manifests
        for u in read_manifest(manifest)
    ]
