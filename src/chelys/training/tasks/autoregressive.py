"""The autoregressive decoder's stage: next code, and a little next text (Betker 2023, appendix B.2).

Each row has one stop, and what lies behind it is no part of the losses (``padding: ignored``). The original counted
padding as stop and averaged it in, so that its loss depended on how ragged the batches were (``padding: stop``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from chelys.data.pairs import Batch, Pairs
from chelys.errors import ConfigError
from chelys.models.autoregressive import Autoregressive
from chelys.training.attention import attention_of
from chelys.training.losses import cross_entropy
from chelys.training.noise import with_others
from chelys.training.pictures import Picture
from chelys.training.tasks.paired import PairedStage


@dataclass(frozen=True)
class AutoregressiveStageConfig:
    """Weights of the stage.

    Attributes:
        code: Weight of the cross-entropy of codes.
        text: Weight of the cross-entropy of text ids.
        padding: Whether rows end at their stop, or stops follow up to the longest row (published).
        strange_codes: Share of the codes heard that are any others, while those foretold stay right: in a small corpus
            the last codes alone give away the clip and with it the next, and the text would hardly be read.
        voice_clips: Clips of the speaker that the voice is the mean of, drawn with replacement (published: 2).
        test_clips: Held-out clips in an evaluation.
    """

    code: float = 1.0
    text: float = 0.01
    padding: Literal["ignored", "stop"] = "ignored"
    strange_codes: float = 0.0
    voice_clips: int = 1
    test_clips: int = 48

    def __post_init__(self) -> None:
        if not 0 <= self.strange_codes < 1:
            raise ConfigError(f"stage.strange_codes is {self.strange_codes}; it must be 0 or more, and less than 1")


class AutoregressiveStage(PairedStage):
    """Pairs in, named losses out."""

    name = "autoregressive"

    def __init__(self, network: Autoregressive, pairs: Pairs, config: AutoregressiveStageConfig) -> None:
        self.players: dict[str, nn.Module] = {"autoregressive": network}
        self.decoder, self.pairs, self.config = network, pairs, config

    def part(self, step: int, rows: slice) -> Batch:
        batch, clips = self.pairs.batch(step, rows), self.pairs.clips(step)
        if self.config.voice_clips == 1:
            return batch
        references = [batch.reference]
        for number in range(1, self.config.voice_clips):
            rngs = [np.random.default_rng([self.pairs.seed, step, row, 4, number]) for row in range(len(clips))[rows]]
            heard = [self.pairs.reference(c, rng) for c, rng in zip(clips[rows], rngs, strict=True)]
            references.append(torch.stack(heard))
        return batch._replace(reference=torch.stack(references, 1))  # (b, clips, f, r)

    def _voice(self, reference: Tensor) -> Tensor:
        """Mean of the voices of one or several clips a row: ``(b, f, r)`` or ``(b, c, f, r)`` to ``(b, d)``."""
        if reference.ndim == 3:
            return self.decoder.condition(reference)
        return self.decoder.condition(reference.flatten(0, 1)).unflatten(0, reference.shape[:2]).mean(1)

    def _padded(self, batch: Batch) -> Batch:
        """The batch with stops up to its longest rows, as if they were said."""
        past = torch.arange(batch.codes.shape[1], device=batch.codes.device) >= batch.code_lengths[:, None]
        return batch._replace(
            text_lengths=torch.full_like(batch.text_lengths, batch.text.shape[1]),  # text is padded with its stop
            codes=batch.codes.masked_fill(past, self.decoder.config.stop_code),
            code_lengths=torch.full_like(batch.code_lengths, batch.codes.shape[1]),
        )

    def _heard(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Codes ``(b, m)`` as the decoder hears them in training, some of them any others."""
        share = self.config.strange_codes
        if not (share and self.decoder.training):
            return codes
        return with_others(codes, share, self.decoder.config.codes, generator)

    def counts(self, player: str, batch: Batch) -> Mapping[str, float]:
        """Ids of each kind, and a stop for each row."""
        rows = len(batch.text)
        if self.config.padding == "stop":
            return {"code": float(rows * (batch.codes.shape[1] + 1)), "text": float(rows * (batch.text.shape[1] + 1))}
        return {"code": float(batch.code_lengths.sum()) + rows, "text": float(batch.text_lengths.sum()) + rows}

    def losses(self, player: str, batch: Batch, generator: torch.Generator) -> Mapping[str, Tensor]:
        config = self.decoder.config
        conditioning = self._voice(batch.reference)
        if self.config.padding == "stop":
            batch = self._padded(batch)
        text_logits, code_logits, _ = self.decoder(
            conditioning, batch.text, batch.text_lengths, self._heard(batch.codes, generator), batch.code_lengths
        )
        return {
            "code": self.config.code * cross_entropy(code_logits, batch.codes, batch.code_lengths, config.stop_code),
            "text": self.config.text * cross_entropy(text_logits, batch.text, batch.text_lengths, config.stop_text),
        }

    def evaluate(self) -> dict[str, float]:
        """Nats a code on the right text, and on another utterance's: the gap is what the decoder reads off the text."""
        clips = self.pairs.test[: self.config.test_clips]
        if not clips:
            return {}
        right, wrong = [], []
        for index, clip in enumerate(clips):  # one by one: padding cannot flatter or spoil the figure
            batch = self.held_out([clip], np.random.default_rng([7, index]))
            other = self.held_out([clips[index - 1]], np.random.default_rng(0))
            right.append(float(self.losses("", batch, torch.Generator())["code"]) / self.config.code)
            swapped = batch._replace(text=other.text, text_lengths=other.text_lengths)
            wrong.append(float(self.losses("", swapped, torch.Generator())["code"]) / self.config.code)
        return {"code": float(np.mean(right)), "code_wrong_text": float(np.mean(wrong))}

    def pictures(self) -> dict[str, Picture]:
        """Where codes of a held-out clip look in its text, in the layer that looks most: a rising line aligns them."""
        if not self.pairs.test:
            return {}
        batch = self.held_out(self.pairs.test[:1], np.random.default_rng([7, 0]))
        t = batch.text.shape[1] + 2
        weights = attention_of(self.decoder, lambda: self.losses("", batch, torch.Generator()))
        pictures = {}
        if weights:
            alignments = [layer[1 + t :, 1 : 1 + t].T for layer in weights]  # text upwards, codes to the right
            pictures["alignment"] = Picture(max(alignments, key=lambda a: float(a.sum())), x="code", y="text id")
            pictures["attention"] = Picture(weights[-1], x="column looked at", y="column")
        return pictures
