"""CVVP's stage: which codes are in the voice of which clip, both ways round (TorToise v2; Radford et al. 2021).

The other clip of the speaker says something else, so that voice is all the two have in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from chelys.data.dataset import Clip
from chelys.data.pairs import Batch, Pairs
from chelys.tortoise.cvvp import CVVP
from chelys.training.losses import accuracy, contrast
from chelys.training.stage import Stage, map_tensors


@dataclass(frozen=True)
class CVVPStageConfig:
    """Weights of the stage.

    Attributes:
        contrast: Weight of the contrastive loss.
        crop: Longest piece of a clip, in codes; 156 are the published 160,000 samples.
        spare_speaker: Push no clip away from codes of its own speaker's other clips. The original had so many speakers
            that two of one seldom met in a batch; a small corpus has not.
        test_clips: Held-out clips in an evaluation.
    """

    contrast: float = 1.0
    crop: int = 156
    spare_speaker: bool = True
    test_clips: int = 128


class CVVPBatch(NamedTuple):
    """Mel of another clip of the speaker ``(b, f, r)``, codes of one length ``(b, m)``, who speaks ``(b,)``."""

    reference: Tensor
    codes: Tensor
    speaker: Tensor


class CVVPStage(Stage):
    """Pairs in, named losses out. Every clip is compared with all codes, those of other processes too."""

    name = "cvvp"
    splits = False

    def __init__(self, network: CVVP, pairs: Pairs, config: CVVPStageConfig) -> None:
        self.players: dict[str, nn.Module] = {"cvvp": network}
        self.cvvp, self.pairs, self.config = network, pairs, config
        names = sorted({clip.speaker for clip in (*pairs.train, *pairs.test)})
        self._speakers = {name: number for number, name in enumerate(names)}

    def rows(self, step: int) -> int:
        return len(self.pairs.clips(step))

    def batch(self, step: int) -> CVVPBatch:
        return self.part(step, slice(None))

    def clips(self, step: int) -> list[str]:
        return [clip.id for clip in self.pairs.clips(step)]

    def part(self, step: int, rows: slice) -> CVVPBatch:
        clips = self.pairs.clips(step)
        length = self._length(clips)
        rngs = [np.random.default_rng([self.pairs.seed, step, row, 6]) for row in range(len(clips))[rows]]
        return self._crop(clips[rows], self.pairs.batch(step, rows), rngs, length)

    def _length(self, clips: Sequence[Clip]) -> int:
        """Codes of a piece: CVVP averages over all positions, so that no row may be padded."""
        return min(self.config.crop, min(clip.codes for clip in clips))

    def _crop(self, clips: Sequence[Clip], batch: Batch, rngs: list[np.random.Generator], length: int) -> CVVPBatch:
        first = [int(rng.integers(clip.codes - length + 1)) for clip, rng in zip(clips, rngs, strict=True)]
        at = torch.tensor(first)[:, None] + torch.arange(length)
        speaker = torch.tensor([self._speakers[clip.speaker] for clip in clips])
        return CVVPBatch(batch.reference, batch.codes.gather(1, at), speaker)

    def losses(self, player: str, batch: CVVPBatch, generator: torch.Generator) -> Mapping[str, Tensor]:
        return {"contrast": self.config.contrast * contrast(self._scores(batch))}

    def _scores(self, batch: CVVPBatch) -> Tensor:
        heard = self.ranks.gather(self.cvvp.encode_clip(batch.reference).float())
        spoken = self.ranks.gather(self.cvvp.encode_speech(batch.codes).float())
        scores = self.cvvp.similarity(heard, spoken)
        if not self.config.spare_speaker:
            return scores
        speaker = self.ranks.gather(batch.speaker)
        others = ~torch.eye(len(speaker), dtype=torch.bool, device=speaker.device)
        return scores.masked_fill((speaker[:, None] == speaker) & others, float("-inf"))

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracy of picking the right clip for held-out codes, out of all of them at once."""
        clips = self.pairs.test[: self.config.test_clips]
        if not clips:
            return {}
        rng = np.random.default_rng(7)
        batch = self._crop(clips, self.pairs.collate(clips, rng), [rng] * len(clips), self._length(clips))
        device = next(self.cvvp.parameters()).device
        scores = self._scores(map_tensors(batch, lambda tensor: tensor.to(device)))
        return {"contrast": float(contrast(scores)), "accuracy": float(accuracy(scores))}
