"""Training of the autoregressive decoder: next code, and a little next text (Betker 2023, appendix B.2).

Each row has one stop, and what follows it is no part of the losses (``padding: ignored``). The original counted padding
as stop and averaged it in, so that its loss depended on how ragged the batches were (``padding: stop``).

b rows, t text ids, m codes, f bands, r frames of the reference, c reference clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from chelys.data.pairs import Batch, Pairs
from chelys.errors import ConfigError
from chelys.models.autoregressive import Autoregressive, AutoregressiveConfig, Block
from chelys.nn.attention import apply_rotary
from chelys.training.config import PairedRun, published_sizes
from chelys.training.logging import Picture
from chelys.training.losses import cross_entropy
from chelys.training.task import PairedData, Task, corrupt

#: Sizes of the decoder in a configuration file, by key or ``like: tortoise-v2``.
AutoregressiveSizes = Annotated[AutoregressiveConfig, published_sizes(AutoregressiveConfig.tortoise_v2)]


@dataclass(frozen=True)
class AutoregressiveTaskConfig:
    """Weights of the losses, and what the decoder is conditioned on."""

    RENAMED: ClassVar[dict[str, str | None]] = {
        "code": "code_nll", "text": "text_nll", "strange_codes": "code_corruption"
    }  # fmt: skip

    code_nll: float = 1.0  # weight of the cross-entropy of codes
    text_nll: float = 0.01  # weight of the cross-entropy of text ids
    #: whether rows end at their stop, or stops follow up to the longest row (published)
    padding: Literal["ignored", "stop"] = "ignored"
    #: share of the input codes that are replaced by random ones, while the targets stay right: in a small corpus the
    #: last codes alone identify the clip and with it the next code, and the text would hardly be read
    code_corruption: float = 0.0
    voice_clips: int = 1  # reference clips of a row, drawn with replacement; the voice is their mean (published: 2)
    test_clips: int = 48  # held-out clips in an evaluation

    def __post_init__(self) -> None:
        if not 0 <= self.code_corruption < 1:
            raise ConfigError(f"stage.code_corruption is {self.code_corruption}; it must be 0 or more, and less than 1")


@dataclass(frozen=True, kw_only=True)
class AutoregressiveRun(PairedRun):
    network: AutoregressiveSizes = field(default_factory=AutoregressiveConfig)
    stage: AutoregressiveTaskConfig = field(default_factory=AutoregressiveTaskConfig)

    def build(self) -> Task:
        return AutoregressiveTask(Autoregressive(self.network), self.load_pairs(), self.stage)


class AutoregressiveData(PairedData):
    """Pairs, with one or several reference clips: ``Batch.reference`` is ``(b, f, r)`` or ``(b, c, f, r)``."""

    def __init__(self, pairs: Pairs, voice_clips: int) -> None:
        super().__init__(pairs)
        self.voice_clips = voice_clips

    def load(self, step: int, rows: range) -> Batch:
        batch, clips = super().load(step, rows), self.pairs.clips(step)
        if self.voice_clips == 1:
            return batch
        references = [batch.reference]
        for number in range(1, self.voice_clips):
            rngs = [np.random.default_rng([self.pairs.seed, step, row, 4, number]) for row in rows]
            drawn = [self.pairs.reference(clips[row], rng) for row, rng in zip(rows, rngs, strict=True)]
            references.append(torch.stack(drawn))
        return batch._replace(reference=torch.stack(references, 1))


class AutoregressiveTask(Task):
    name = "autoregressive"

    def __init__(self, network: Autoregressive, pairs: Pairs, config: AutoregressiveTaskConfig) -> None:
        self.modules = {"autoregressive": network}
        self.data = AutoregressiveData(pairs, config.voice_clips)
        self.decoder, self.pairs, self.config = network, pairs, config

    def _condition(self, reference: Tensor) -> Tensor:
        """Conditioning latents, mean over the clips of a row: ``(b, f, r)`` or ``(b, c, f, r)`` to ``(b, d)``."""
        if reference.ndim == 3 or self.decoder.config.conditioning_tokens:
            return self.decoder.condition(reference)
        return self.decoder.condition(reference.flatten(0, 1)).unflatten(0, reference.shape[:2]).mean(1)

    def _pad_with_stops(self, batch: Batch) -> Batch:
        """The batch with stops up to its longest rows, as if they belonged to the rows."""
        past = torch.arange(batch.codes.shape[1], device=batch.codes.device) >= batch.code_lengths[:, None]
        return batch._replace(
            text_lengths=torch.full_like(batch.text_lengths, batch.text.shape[1]),  # text is padded with its stop
            codes=batch.codes.masked_fill(past, self.decoder.config.stop_code),
            code_lengths=torch.full_like(batch.code_lengths, batch.codes.shape[1]),
        )

    def element_counts(self, module: str, batch: Batch) -> Mapping[str, float]:
        """Ids of each kind, and a stop for each row."""
        rows = len(batch.text)
        if self.config.padding == "stop":
            codes, ids = float(rows * (batch.codes.shape[1] + 1)), float(rows * (batch.text.shape[1] + 1))
            return {"code_nll": codes, "text_nll": ids}
        return {"code_nll": float(batch.code_lengths.sum()) + rows, "text_nll": float(batch.text_lengths.sum()) + rows}

    def training_step(self, module: str, batch: Batch, generator: torch.Generator) -> Mapping[str, Tensor]:
        config, sizes = self.config, self.decoder.config
        conditioning = self._condition(batch.reference)
        if config.padding == "stop":
            batch = self._pad_with_stops(batch)
        codes = batch.codes
        if config.code_corruption and self.decoder.training:
            codes = corrupt(codes, config.code_corruption, sizes.codes, generator)
        text_logits, code_logits, _ = self.decoder(
            conditioning, batch.text, batch.text_lengths, codes, batch.code_lengths
        )
        return {
            "code_nll": config.code_nll * cross_entropy(code_logits, batch.codes, batch.code_lengths, sizes.stop_code),
            "text_nll": config.text_nll * cross_entropy(text_logits, batch.text, batch.text_lengths, sizes.stop_text),
        }

    def evaluate(self) -> dict[str, float]:
        """Nats a code given the right text, and given another clip's: the gap is what the decoder reads in the text."""
        clips = self.pairs.test[: self.config.test_clips]
        if not clips:
            return {}
        right, wrong = [], []
        for index, clip in enumerate(clips):  # one by one: padding cannot change the metric
            batch = self._held_out(clip, np.random.default_rng([7, index]))
            other = self._held_out(clips[index - 1], np.random.default_rng(0))
            right.append(self._code_nll(batch))
            wrong.append(self._code_nll(batch._replace(text=other.text, text_lengths=other.text_lengths)))
        return {"code_nll": float(np.mean(right)), "code_nll_wrong_text": float(np.mean(wrong))}

    def _held_out(self, clip: Any, rng: np.random.Generator) -> Batch:
        return self.to_device(self.pairs.collate([clip], rng))

    def _code_nll(self, batch: Batch) -> float:
        return float(self.training_step("", batch, torch.Generator())["code_nll"]) / self.config.code_nll

    def pictures(self) -> dict[str, Picture]:
        """Attention from codes of a held-out clip to its text, in the layer with most of it: a rising line aligns."""
        if not self.pairs.test:
            return {}
        batch = self._held_out(self.pairs.test[0], np.random.default_rng([7, 0]))
        t = batch.text.shape[1] + 2
        weights = attention_weights(self.decoder, lambda: self.training_step("", batch, torch.Generator()))
        if not weights:
            return {}
        n = self.decoder.config.conditioning_tokens or 1
        alignments = [layer[n + t :, n : n + t].T for layer in weights]  # text upwards, codes to the right
        return {
            "alignment": Picture(max(alignments, key=lambda a: float(a.sum())), x="code", y="text id"),
            "attention": Picture(weights[-1], x="key", y="query"),
        }


def attention_weights(decoder: Autoregressive, run: Callable[[], Any]) -> list[Tensor]:
    """Attention weights of each layer, mean over heads, computed again for a picture.

    ``decoder``: teacher-forced by ``run``; ``run``: calls the decoder with one row. Returns ``(l, l)`` each, queries by
    keys.
    """
    weights: list[Tensor] = []

    def weigh(block: Block, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, rotary = inputs[:2]
        _, length, d = x.shape
        qkv = block.qkv(block.attention_norm(x)).view(1, length, 3, block.heads, d // block.heads)
        query, key, _ = qkv.permute(2, 0, 3, 1, 4).float()
        if rotary is not None:
            query, key = apply_rotary(query, *rotary), apply_rotary(key, *rotary)
        logits = query @ key.transpose(-1, -2) / (d // block.heads) ** 0.5
        ahead = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        weights.append(logits.masked_fill(ahead, float("-inf")).softmax(-1)[0].mean(0))

    # before the hooks that shard a network again once a block has run (FSDP)
    handles = [block.register_forward_hook(weigh, prepend=True) for block in decoder.blocks]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return weights
