"""The autoregressive decoder's stage: next code, and a little next text (Betker 2023, appendix B.2).

Padding is masked out of both losses and each row has one stop; the original counted padding as stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.data.pairs import Batch, Pairs
from chelys.models.autoregressive import Autoregressive
from chelys.train.loop import Stage

IGNORED = -100


@dataclass(frozen=True)
class AutoregressiveStageConfig:
    """Weights of the stage.

    Attributes:
        code: Weight of the cross-entropy of codes.
        text: Weight of the cross-entropy of text ids.
        test_clips: Held-out clips in an evaluation.
    """

    code: float = 1.0
    text: float = 0.01
    test_clips: int = 48


class AutoregressiveStage(Stage):
    """Pairs in, named losses out."""

    name = "autoregressive"

    def __init__(self, network: Autoregressive, pairs: Pairs, config: AutoregressiveStageConfig) -> None:
        self.players: dict[str, nn.Module] = {"autoregressive": network}
        self.decoder, self.pairs, self.config = network, pairs, config

    def batch(self, step: int) -> Batch:
        return self.pairs.batch(step)

    def losses(self, player: str, batch: Batch, generator: torch.Generator) -> Mapping[str, Tensor]:
        config = self.decoder.config
        conditioning = self.decoder.condition(batch.reference)
        text_logits, code_logits, _ = self.decoder(
            conditioning, batch.text, batch.text_lengths, batch.codes, batch.code_lengths
        )
        return {
            "code": self.config.code * _cross_entropy(code_logits, batch.codes, batch.code_lengths, config.stop_code),
            "text": self.config.text * _cross_entropy(text_logits, batch.text, batch.text_lengths, config.stop_text),
        }

    def evaluate(self) -> dict[str, float]:
        """Nats a code on the right text, and on another utterance's: the gap is what the decoder reads off the text."""
        clips = self.pairs.test[: self.config.test_clips]
        if not clips:
            return {}
        right, wrong = [], []
        for index, clip in enumerate(clips):  # one by one: padding cannot flatter or spoil the figure
            batch = self.pairs.collate([clip], np.random.default_rng([7, index]))
            other = self.pairs.collate([clips[index - 1]], np.random.default_rng(0))
            right.append(float(self.losses("", batch, torch.Generator())["code"]) / self.config.code)
            swapped = batch._replace(text=other.text, text_lengths=other.text_lengths)
            wrong.append(float(self.losses("", swapped, torch.Generator())["code"]) / self.config.code)
        return {"code": float(np.mean(right)), "code_wrong_text": float(np.mean(wrong))}


def _cross_entropy(logits: Tensor, ids: Tensor, lengths: Tensor, stop: int) -> Tensor:
    """Mean over the ids of each row and its stop; logits ``(b, t + 1, n)``, ids ``(b, t)``."""
    targets = F.pad(ids, (0, 1))
    at = torch.arange(targets.shape[1])
    targets = targets.masked_fill(at == lengths[:, None], stop).masked_fill(at > lengths[:, None], IGNORED)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
