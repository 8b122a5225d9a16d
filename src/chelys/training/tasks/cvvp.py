"""Training of CVVP: which codes are in the voice of which clip, both ways round (TorToise v2; Radford et al. 2021).

The other clip of the speaker has another text, so that voice is all that the two have in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from chelys.data.dataset import Clip
from chelys.data.pairs import Batch, Pairs
from chelys.tortoise.cvvp import CVVP, CVVPConfig
from chelys.training.config import PairedRun, published_sizes
from chelys.training.losses import accuracy, info_nce
from chelys.training.task import PairedData, Task


@dataclass(frozen=True)
class CVVPTaskConfig:
    """Weight of the loss, and crops."""

    RENAMED: ClassVar[dict[str, str | None]] = {"contrast": "info_nce"}

    info_nce: float = 1.0  # weight of the contrastive loss
    crop: int = 156  # longest crop of a clip, in codes; 156 are the published 160,000 samples
    #: Codes of other clips of the speaker are no negatives. The original had so many speakers that two clips of one
    #: seldom met in a batch; a small corpus has not.
    spare_speaker: bool = True
    test_clips: int = 128  # held-out clips in an evaluation


@dataclass(frozen=True, kw_only=True)
class CVVPRun(PairedRun):
    """Run of CVVP's stage."""

    network: Annotated[CVVPConfig, published_sizes(CVVPConfig.tortoise_v2)] = field(default_factory=CVVPConfig)
    stage: CVVPTaskConfig = field(default_factory=CVVPTaskConfig)

    def build(self) -> Task:
        return CVVPTask(CVVP(self.network), CVVPData(self.load_pairs(), self.stage))


class CVVPBatch(NamedTuple):
    """Mel of another clip of the speaker ``(b, f, r)``, codes of one length ``(b, m)``, and speaker number ``(b,)``."""

    reference: Tensor
    codes: Tensor
    speaker: Tensor


class CVVPData(PairedData):
    """Crops of codes, with a reference clip."""

    def __init__(self, pairs: Pairs, config: CVVPTaskConfig) -> None:
        super().__init__(pairs)
        self.config = config
        names = sorted({clip.speaker for clip in (*pairs.train, *pairs.test)})
        self._speakers = {name: number for number, name in enumerate(names)}

    def load(self, step: int, rows: range) -> CVVPBatch:
        length = self._length(self.pairs.clips(step))
        clips, rngs = self.chosen(step, rows, 6)
        return self._crop(clips, super().load(step, rows), rngs, length)

    def _length(self, clips: Sequence[Clip]) -> int:
        """Codes of a crop: CVVP averages over all positions, so that no row may be padded."""
        return min(self.config.crop, min(clip.codes for clip in clips))

    def _crop(self, clips: Sequence[Clip], batch: Batch, rngs: list[np.random.Generator], length: int) -> CVVPBatch:
        first = [int(rng.integers(clip.codes - length + 1)) for clip, rng in zip(clips, rngs, strict=True)]
        at = torch.tensor(first)[:, None] + torch.arange(length)
        speaker = torch.tensor([self._speakers[clip.speaker] for clip in clips])
        return CVVPBatch(batch.reference, batch.codes.gather(1, at), speaker)

    def held_out(self) -> CVVPBatch | None:
        """One batch of held-out clips, the same every time."""
        clips = self.pairs.test[: self.config.test_clips]
        if not clips:
            return None
        rng = np.random.default_rng(7)
        return self._crop(clips, self.pairs.collate(clips, rng), [rng] * len(clips), self._length(clips))


class CVVPTask(Task):
    """Pairs in, named losses out. Every clip is compared with all codes, those of other processes too."""

    name = "cvvp"
    supports_grad_accum = False

    def __init__(self, network: CVVP, data: CVVPData) -> None:
        self.modules = {"cvvp": network}
        self.cvvp, self.config = network, data.config
        self.data: CVVPData = data

    def training_step(self, module: str, batch: CVVPBatch, generator: torch.Generator) -> Mapping[str, Tensor]:
        return {"info_nce": self.config.info_nce * info_nce(self._scores(batch))}

    def _scores(self, batch: CVVPBatch) -> Tensor:
        clips = self.context.all_gather(self.cvvp.encode_clip(batch.reference).float())
        speech = self.context.all_gather(self.cvvp.encode_speech(batch.codes).float())
        scores = self.cvvp.similarity(clips, speech)
        if not self.config.spare_speaker:
            return scores
        speaker = self.context.all_gather(batch.speaker)
        others = ~torch.eye(len(speaker), dtype=torch.bool, device=speaker.device)
        return scores.masked_fill((speaker[:, None] == speaker) & others, float("-inf"))

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracy of picking the right clip for held-out codes, out of all of them at once."""
        batch = self.data.held_out()
        if batch is None:
            return {}
        scores = self._scores(self.to_device(batch))
        return {"info_nce": float(info_nce(scores)), "accuracy": float(accuracy(scores))}
