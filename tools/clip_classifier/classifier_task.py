"""The clip classifier's task: mixes whose faults are known, one yes or no to each fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mixes import MixConfig, Mixes, Speech
from torch import Tensor

from chelys.audio.rates import OUTPUT_RATE
from chelys.data.prepare.classifier import CLASSES, FAULTS, ClipClassifierNetwork, level_mel
from chelys.errors import ConfigError
from chelys.training.task import Task, TaskData

_LEAST_SECONDS = 0.5


class Batch(NamedTuple):
    """Mixes side by side.

    Attributes:
        mel: Log-mels of one length, ``(b, f, s)``.
        faults: 1 where a mix has a fault, ``(b, k)``.
    """

    mel: Tensor
    faults: Tensor


@dataclass(frozen=True)
class ClassifierTaskConfig:
    """Batches and what they are mixed from.

    Attributes:
        rows: Mixes in a batch.
        seconds: Shortest and longest window; those of a batch last equally long.
        blocks: Batches that differ in their mixes; then they come again, otherwise coloured and cropped. 0: none does.
        colour: Standard deviation of the random tilt and bend of a mel over its bands (nepers).
        shortened: Share of its frames that a window may lose at its ends.
        smooth: The wanted answers are this far from 0 and 1.
        clips_per_speaker: Of each speaker, the first so many clips; 0 takes all.
        held_out_speakers: Names of speakers for evaluation alone.
        test_mixes: Mixes in an evaluation, with one fault each or none.
    """

    rows: int = 24
    seconds: tuple[float, float] = (1.0, 4.0)
    blocks: int = 0
    colour: float = 0.3
    shortened: float = 0.2
    smooth: float = 0.02
    clips_per_speaker: int = 0
    held_out_speakers: tuple[str, ...] = ()
    test_mixes: int = 120

    def __post_init__(self) -> None:
        if not _LEAST_SECONDS <= self.seconds[0] <= self.seconds[1]:
            raise ConfigError(
                f"stage.seconds is {list(self.seconds)}; it must be a shortest window of {_LEAST_SECONDS} s or more, "
                "and a longest"
            )


class ClassifierData(TaskData):
    """Mixes of a step, with random timbre and crops."""

    def __init__(self, mixes: Mixes, config: ClassifierTaskConfig, seed: int) -> None:
        self.mixes, self.config, self.seed = mixes, config, seed
        self._kept: dict[tuple[int, int, int], Batch] = {}

    def rows(self, step: int) -> int:
        return self.config.rows

    def load(self, step: int, rows: range) -> Batch:
        block = step % self.config.blocks if self.config.blocks else step
        mel, faults = self._mix(block, rows)
        rng = np.random.default_rng([self.seed, step, 1])
        frames = mel.shape[-1]
        kept = int(frames * (1 - rng.uniform(0, self.config.shortened)))
        start = int(rng.integers(frames - kept + 1))
        at = np.linspace(-1, 1, mel.shape[1])
        some = slice(rows.start, rows.stop)
        tilt, bend, turn = rng.normal(0, self.config.colour, (3, self.config.rows, 1))[:, some]
        curve = torch.from_numpy(tilt * at + bend * np.cos(np.pi * at + turn)).float()
        return Batch(mel[:, :, start : start + kept].float() + curve[:, :, None], faults)

    def _mix(self, block: int, rows: range) -> Batch:
        """Some rows of a block as they were mixed; blocks that come again are kept."""
        key = (block, rows.start, rows.stop)
        if key in self._kept:
            return self._kept[key]
        rng = np.random.default_rng([self.seed, block, 2])
        n = int(rng.uniform(*self.config.seconds) * OUTPUT_RATE)
        made = mixed(self.mixes, [(block * self.config.rows + row, None) for row in rows], n)
        if self.config.blocks:
            self._kept[key] = made
        return made


class ClassifierTask(Task):
    """Mixes in, named losses out."""

    name = "classifier"

    def __init__(
        self,
        network: ClipClassifierNetwork,
        manifests: list[Path],
        mixes: MixConfig,
        config: ClassifierTaskConfig,
        seed: int,
    ) -> None:
        self.modules = {"classifier": network}
        self.classifier, self.config = network, config
        names = config.held_out_speakers
        speech = Speech(manifests, held_out_speakers=names, clips_per_speaker=config.clips_per_speaker)
        unheard = Speech(manifests, held_out=True, held_out_speakers=names, clips_per_speaker=config.clips_per_speaker)
        self.data = ClassifierData(Mixes(speech, mixes, seed), config, seed)
        self.test_mixes = Mixes(unheard, mixes, seed + 1)
        self._test: list[Batch] = []

    def training_step(self, module: str, batch: Batch, generator: torch.Generator) -> Mapping[str, Tensor]:
        wanted = batch.faults * (1 - 2 * self.config.smooth) + self.config.smooth
        return {"faults": F.binary_cross_entropy_with_logits(self.classifier(batch.mel).float(), wanted)}

    def evaluate(self) -> dict[str, float]:
        """Loss on mixes of unheard speakers, and the share of them that is put into the right class."""
        if not self._test:
            self._test = self._test_batches()
        device = next(self.classifier.parameters()).device
        logits = torch.cat([self.classifier(batch.mel.float().to(device)).float().cpu() for batch in self._test])
        faults = torch.cat([batch.faults for batch in self._test])
        right = (classes(torch.sigmoid(logits)) == classes(faults)).float()
        metrics = {
            "faults": float(F.binary_cross_entropy_with_logits(logits, faults)),
            "accuracy": float(right.mean()),
        }
        return metrics | {name: float(right[i :: len(CLASSES)].mean()) for i, name in enumerate(CLASSES)}

    def _test_batches(self) -> list[Batch]:
        n = int(sum(self.config.seconds) / 2 * OUTPUT_RATE)
        wanted = [frozenset(FAULTS[i : i + 1]) for i in range(-1, len(FAULTS))]
        wanted[0] = frozenset()
        plan = [(i, wanted[i % len(CLASSES)]) for i in range(max(len(CLASSES), self.config.test_mixes))]
        return [mixed(self.test_mixes, plan[i : i + 24], n) for i in range(0, len(plan), 24)]


def mixed(mixes: Mixes, plan: Sequence[tuple[int, frozenset[str] | None]], n: int) -> Batch:
    """The mixes of a plan, index and faults of each, as a batch of windows of n samples; mels in float16."""
    made = [mixes.mix(index, n, faults) for index, faults in plan]
    mel = level_mel(torch.from_numpy(np.stack([mix.wave for mix in made]))).half()
    return Batch(mel, torch.tensor([[float(fault in mix.faults) for fault in FAULTS] for mix in made]))


def classes(probabilities: Tensor) -> Tensor:
    """Index into CLASSES of the likeliest class, for faults ``(b, k)``: clean where no fault is likelier than not."""
    return torch.where(probabilities.amax(1) > 0.5, probabilities.argmax(1) + 1, 0)
