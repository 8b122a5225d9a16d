"""CLVP's stage: which text belongs to which codes, both ways round (Betker 2023, appendix B.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from chelys.data.pairs import Batch, Pairs
from chelys.models.clvp import CLVP
from chelys.train.losses import accuracy, contrast
from chelys.train.noise import rand
from chelys.train.pictures import Picture
from chelys.train.stages.paired import PairedStage


@dataclass(frozen=True)
class CLVPStageConfig:
    """Weights of the stage.

    Attributes:
        contrast: Weight of the contrastive loss.
        kept: Share of text ids and codes that are seen; the rest is dropped at random: the score shall hang on all.
        test_clips: Held-out clips in an evaluation.
    """

    contrast: float = 1.0
    kept: float = 0.9
    test_clips: int = 128


class CLVPStage(PairedStage):
    """Pairs in, named losses out. Every text is compared with every take, those of other processes too."""

    name = "clvp"
    splits = False

    def __init__(self, network: CLVP, pairs: Pairs, config: CLVPStageConfig) -> None:
        self.players: dict[str, nn.Module] = {"clvp": network}
        self.clvp, self.pairs, self.config = network, pairs, config

    def losses(self, player: str, batch: Batch, generator: torch.Generator) -> Mapping[str, Tensor]:
        text, text_lengths = _thin(batch.text, batch.text_lengths, self.config.kept, generator)
        codes, code_lengths = _thin(batch.codes, batch.code_lengths, self.config.kept, generator)
        said = self.ranks.gather(self.clvp.encode_text(text, text_lengths).float())
        spoken = self.ranks.gather(self.clvp.encode_speech(codes, code_lengths).float())
        return {"contrast": self.config.contrast * contrast(self.clvp.similarity(said, spoken))}

    def _scores(self, text: Tensor, text_lengths: Tensor, codes: Tensor, code_lengths: Tensor) -> Tensor:
        said = self.clvp.encode_text(text, text_lengths)
        spoken = self.clvp.encode_speech(codes, code_lengths)
        return self.clvp.similarity(said.float(), spoken.float())

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracy of picking the right text for held-out codes, out of all of them at once."""
        if not self.pairs.test:
            return {}
        scores = self._held_out_scores()
        return {"contrast": float(contrast(scores)), "accuracy": float(accuracy(scores))}

    def _held_out_scores(self) -> Tensor:
        clips = sorted(self.pairs.test, key=lambda c: c.codes)[
            :: max(1, len(self.pairs.test) // self.config.test_clips)
        ]
        batch = self.held_out(clips[: self.config.test_clips], np.random.default_rng(7))
        return self._scores(batch.text, batch.text_lengths, batch.codes, batch.code_lengths)

    def pictures(self) -> dict[str, Picture]:
        """Scores of held-out texts with held-out takes; the diagonal shall be bright."""
        if not self.pairs.test:
            return {}
        return {"scores": Picture(self._held_out_scores(), x="take, by length", y="text, by length of its take")}


def _thin(ids: Tensor, lengths: Tensor, kept: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Drop ids at random, never a row's first; the others move together."""
    real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    keep = (rand(ids.shape, generator).to(ids.device) < kept) & real
    keep[:, 0] = True
    order = (~keep).int().argsort(dim=1, stable=True)
    return ids.gather(1, order), keep.sum(1)
