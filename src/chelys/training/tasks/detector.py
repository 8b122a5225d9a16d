"""Training of the detector: is a waveform synthetic or real? Cross-entropy of the two (TorToise v2's classifier).

How the original was trained is not public beyond what it tells apart. It learns whatever differs between the two
corpora, so they should differ in nothing else: the same texts, rates, formats and silences at the ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from chelys.audio.rates import HOP, OUTPUT_RATE
from chelys.data.dataset import Clip, read_waveform
from chelys.data.loader import held_out
from chelys.data.manifest import read_manifest
from chelys.errors import ConfigError, ManifestError
from chelys.tortoise.detector import MOST_SAMPLES, SYNTHETIC, Detector, DetectorConfig
from chelys.training.config import Run, published_sizes
from chelys.training.task import Task, TaskData

REAL = 1 - SYNTHETIC


@dataclass(frozen=True)
class DetectorTaskConfig:
    """Batches and the weight of the loss."""

    RENAMED: ClassVar[dict[str, str | None]] = {"origin": "cross_entropy"}

    rows: int = 16  # clips in a batch, half of them of each kind
    samples: int = 48_128  # of a crop, at 24 kHz; silence follows a shorter clip
    gain: float = 6.0  # clips are made louder or softer by up to so many decibels, so that loudness gives nothing away
    cross_entropy: float = 1.0  # weight of the loss
    test_clips: int = 64  # held-out clips of each kind in an evaluation

    def __post_init__(self) -> None:
        if self.rows < 2 or self.rows % 2:
            raise ConfigError(f"stage.rows is {self.rows}; it must be even, for half of them are of each kind")
        if self.samples % HOP or not 0 < self.samples <= MOST_SAMPLES:
            raise ConfigError(
                f"stage.samples is {self.samples}; it must be a multiple of {HOP}, {MOST_SAMPLES} at most"
            )


@dataclass(frozen=True, kw_only=True)
class DetectorRun(Run):
    RENAMED: ClassVar[dict[str, str | None]] = {"made": "synthetic"}

    real: list[Path]  # manifests of recordings of people
    synthetic: list[Path]  # manifests of synthetic speech
    network: Annotated[DetectorConfig, published_sizes(DetectorConfig.tortoise_v2)] = field(
        default_factory=DetectorConfig
    )
    stage: DetectorTaskConfig = field(default_factory=DetectorTaskConfig)

    def build(self) -> Task:
        data = DetectorData(self.real, self.synthetic, self.stage, self.loop.seed)
        return DetectorTask(Detector(self.network), data)


class DetectorBatch(NamedTuple):
    """Waveforms ``(b, n)`` and their kind, ``(b,)``: SYNTHETIC or REAL."""

    waveform: Tensor
    kind: Tensor


class DetectorData(TaskData):
    """Crops of both kinds, in turn."""

    def __init__(self, real: list[Path], synthetic: list[Path], config: DetectorTaskConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        clips = {SYNTHETIC: _clips(synthetic), REAL: _clips(real)}
        self.train_clips: dict[int, list[Clip]] = {}
        self.test_clips: dict[int, list[Clip]] = {}
        for kind, some in clips.items():
            held = held_out(clip.id for clip in some)
            self.train_clips[kind] = [c for c, kept in zip(some, held, strict=True) if not kept]
            self.test_clips[kind] = [c for c, kept in zip(some, held, strict=True) if kept][: config.test_clips]
        for kind, name in ((REAL, "real"), (SYNTHETIC, "synthetic")):
            if not self.train_clips[kind]:
                raise ManifestError(f"{name}: no clip to train on; name a manifest with more clips")

    def rows(self, step: int) -> int:
        return self.config.rows

    def load(self, step: int, rows: range) -> DetectorBatch:
        drawn = self._draw(step)
        rngs = [np.random.default_rng([self.seed, step, row]) for row in rows]
        waveforms = [self._crop(drawn[row][0], rng) for row, rng in zip(rows, rngs, strict=True)]
        return DetectorBatch(torch.stack(waveforms), torch.tensor([drawn[row][1] for row in rows]))

    def clip_ids(self, step: int) -> list[str]:
        return [clip.id for clip, _ in self._draw(step)]

    def _draw(self, step: int) -> list[tuple[Clip, int]]:
        rng = np.random.default_rng([self.seed, step])
        kinds = [SYNTHETIC, REAL] * (self.config.rows // 2)
        return [(self.train_clips[kind][int(rng.integers(len(self.train_clips[kind])))], kind) for kind in kinds]

    def _crop(self, clip: Clip, rng: np.random.Generator) -> Tensor:
        frames = self.config.samples // HOP
        start = int(rng.integers(max(0, clip.frames - frames) + 1))
        gain = 10 ** (float(rng.uniform(-self.config.gain, self.config.gain)) / 20)
        return (read_waveform(clip, start, frames) * gain).clamp(-1, 1)


class DetectorTask(Task):
    name = "detector"

    def __init__(self, network: Detector, data: DetectorData) -> None:
        self.modules = {"detector": network}
        self.detector, self.config = network, data.config
        self.data: DetectorData = data

    def training_step(self, module: str, batch: DetectorBatch, generator: torch.Generator) -> Mapping[str, Tensor]:
        loss = F.cross_entropy(self.detector(batch.waveform).float(), batch.kind)
        return {"cross_entropy": self.config.cross_entropy * loss}

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracy on held-out clips, as much of each as a crop holds."""
        loss, right = [], []
        for kind, clips in self.data.test_clips.items():
            for clip in clips:
                waveform = read_waveform(clip, 0, self.config.samples // HOP)[None].to(self.device)
                logits = self.detector(waveform).float()
                loss.append(float(F.cross_entropy(logits, torch.tensor([kind], device=self.device))))
                right.append(float(logits.argmax(1) == kind))
        return {"cross_entropy": float(np.mean(loss)), "accuracy": float(np.mean(right))} if loss else {}


def _clips(manifests: list[Path]) -> list[Clip]:
    """Utterances of manifests as clips, with their length in mel frames."""
    return [
        Clip(u.id, u.audio, u.text, u.speaker, 0, max(1, int(u.seconds * OUTPUT_RATE) // HOP), u.start)
        for manifest in manifests
        for u in read_manifest(manifest)
    ]
