"""Training of CLVP: which text belongs to which codes, both ways round (Radford et al. 2021).

At inference CLVP (Betker 2023, appendix B.3) answers a finer question: which of several candidates of one text says all
of it, and nothing else. So each row may be compared besides with texts and codes that are wrong in one place, as hard
negatives of its own alone (`data.corruptions`).

b rows, n corrupted texts of a row, k corrupted codes of a row, t text ids, m codes, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from chelys.data.corruptions import corrupt_codes, corrupt_text
from chelys.data.dataset import Clip
from chelys.data.pairs import Batch, Pairs, spelling
from chelys.errors import ConfigError
from chelys.models.clvp import CLVP, CLVPConfig
from chelys.training.config import PairedRun, published_sizes
from chelys.training.logging import Picture
from chelys.training.losses import accuracy, info_nce
from chelys.training.task import PairedData, Task, corrupt, rand

#: Corrupted texts, and codes, that a held-out clip is compared with; the same for each run, so that runs compare.
TEST_CORRUPTIONS = 4


@dataclass(frozen=True)
class CLVPTaskConfig:
    """Weights of the losses, and hard negatives."""

    RENAMED: ClassVar[dict[str, str | None]] = {"contrast": "info_nce", "reading": "ctc", "kept": "keep"}

    info_nce: float = 1.0  # weight of the contrastive loss
    ctc: float = 1.0  # weight of the CTC loss, nats an id of the text, where the network has a CTC head
    #: share of text ids and codes that are seen; the rest is dropped at random, so that the score depends on all
    keep: float = 0.9
    #: corrupted texts of a row that its codes are compared with, besides the texts of the batch
    corrupted_texts: int = 0
    corrupted_speech: int = 0  # corrupted codes of a row that its text is compared with, besides the codes of the batch
    test_clips: int = 128  # held-out clips in an evaluation

    def __post_init__(self) -> None:
        for name in ("corrupted_texts", "corrupted_speech"):
            if (count := getattr(self, name)) < 0:
                raise ConfigError(f"stage.{name} is {count}; it must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class CLVPRun(PairedRun):
    network: Annotated[CLVPConfig, published_sizes(CLVPConfig.tortoise_v2)] = field(default_factory=CLVPConfig)
    stage: CLVPTaskConfig = field(default_factory=CLVPTaskConfig)

    def build(self) -> Task:
        return CLVPTask(CLVP(self.network), CLVPData(self.load_pairs(), self.stage))


class Corrupted(NamedTuple):
    """Texts and codes of some rows made wrong in one place each; zero beyond their lengths."""

    text: Tensor  # ids ``(b, n, t)``
    text_lengths: Tensor  # ``(b, n)``
    codes: Tensor  # ``(b, k, m)``
    code_lengths: Tensor  # ``(b, k)``


class CLVPBatch(NamedTuple):
    """Pairs, and the hard negatives of each row."""

    text: Tensor  # as in ``Batch``, and so the next four
    text_lengths: Tensor  # ``(b,)``
    codes: Tensor  # ``(b, m)``
    code_lengths: Tensor  # ``(b,)``
    reference: Tensor  # not used
    corrupted: Corrupted  # texts and codes of the rows made wrong


class CLVPData(PairedData):
    def __init__(self, pairs: Pairs, config: CLVPTaskConfig) -> None:
        super().__init__(pairs)
        self.config = config

    def load(self, step: int, rows: range) -> CLVPBatch:
        config = self.config
        rngs = {row: np.random.default_rng([self.pairs.seed, step, row, 7]) for row in rows}
        share = self.pairs.config.grapheme_probability
        corrupted = self.corrupt(
            self.pairs.clips(step), rngs, config.corrupted_texts, config.corrupted_speech, graphemes=share
        )
        batch: Batch = super().load(step, rows)
        return CLVPBatch(*batch, corrupted)

    def corrupt(
        self, clips: Sequence[Clip], rngs: Mapping[int, np.random.Generator], texts: int, codes: int, *,
        graphemes: float,
    ) -> Corrupted:  # fmt: skip
        """Make texts and codes of some clips wrong.

        ``clips``: of the whole batch: foreign words and codes come from any of the others. ``rngs``: row to the
        generator that draws for it. ``texts``: corrupted texts n of each row. ``codes``: corrupted codes k of each row.
        ``graphemes``: share of words given as letters; as in the texts of the batch, or it would set them apart.
        """
        tokenizer, codes_of = self.pairs.tokenizer, self.pairs.codes.of
        clean = cache(lambda row: tokenizer.clean(clips[row].text))
        wrong_texts: list[Tensor] = []
        wrong_codes: list[Tensor] = []
        for row, rng in rngs.items():
            for _ in range(texts):
                other = _another(row, len(clips), rng)
                text = corrupt_text(clean(row), clean(other) if other != row else "", rng, tokenizer.symbols)
                ids = tokenizer.encode_normalized(text, spelled=spelling(graphemes, rng))
                wrong_texts.append(torch.tensor(ids))
            for _ in range(codes):
                own, foreign = codes_of(clips[row]), codes_of(clips[_another(row, len(clips), rng)])
                wrong_codes.append(corrupt_codes(own, foreign, rng))
        return Corrupted(*_stack(wrong_texts, len(rngs)), *_stack(wrong_codes, len(rngs)))


class CLVPTask(Task):
    """Pairs in, named losses out. Every text is compared with all codes, those of other processes too."""

    name = "clvp"
    supports_grad_accum = False

    def __init__(self, network: CLVP, data: CLVPData) -> None:
        self.modules = {"clvp": network}
        self.clvp, self.pairs, self.config = network, data.pairs, data.config
        self.data: CLVPData = data

    def training_step(self, module: str, batch: CLVPBatch, generator: torch.Generator) -> Mapping[str, Tensor]:
        wrong = batch.corrupted
        text, wrong_text = self._embed(
            self.clvp.encode_text, batch.text, batch.text_lengths, wrong.text, wrong.text_lengths, generator
        )
        speech, wrong_speech = self._embed(
            self.clvp.encode_speech, batch.codes, batch.code_lengths, wrong.codes, wrong.code_lengths, generator
        )
        scores = self.clvp.similarity(self.context.all_gather(text), self.context.all_gather(speech))
        rows, columns = self._negatives(text, wrong_speech), self._negatives(speech, wrong_text)
        loss = info_nce(scores, row_negatives=rows, column_negatives=columns)
        losses = {"info_nce": self.config.info_nce * loss}
        if self.clvp.config.frames_per_token:
            codes = corrupt(batch.codes, 1 - self.config.keep, self.clvp.config.speech_tokens, generator)
            losses["ctc"] = self.config.ctc * self._ctc(batch, codes)
        return losses

    def _ctc(self, batch: CLVPBatch | Batch, codes: Tensor) -> Tensor:
        """Nats an id of the texts, by the CTC head on the codes."""
        likelihood = self.clvp.likelihood(batch.text, codes, batch.text_lengths, batch.code_lengths)
        return -likelihood.sum() / batch.text_lengths.sum()

    def _embed(
        self, encode: Callable[[Tensor, Tensor], Tensor], ids: Tensor, lengths: Tensor, wrong: Tensor,
        wrong_lengths: Tensor, generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Embeddings of the rows ``(b, d)`` and of their corruptions ``(b, n, d)``, with dropped ids, in one pass."""
        sets = [(ids, lengths), *zip(wrong.unbind(1), wrong_lengths.unbind(1), strict=True)]
        thin = [drop_ids(*one, self.config.keep, generator) for one in sets]
        width = max(ids.shape[1] for ids, _ in thin)
        together = torch.cat([F.pad(ids, (0, width - ids.shape[1])) for ids, _ in thin])
        points = encode(together, torch.cat([lengths for _, lengths in thin])).float().unflatten(0, (len(thin), -1))
        return points[0], points[1:].transpose(0, 1)

    def _negatives(self, embeddings: Tensor, wrong: Tensor) -> Tensor | None:
        """Scores of the rows of all processes with their corruptions: (b, d) and (b, n, d) -> (sum of b, n)."""
        if not wrong.shape[1]:
            return None
        return self.context.all_gather((embeddings[:, None] * wrong).sum(-1) * self.clvp.temperature.exp())

    def _own_scores(self, text: Tensor, text_lengths: Tensor, codes: Tensor, code_lengths: Tensor) -> Tensor:
        """Scores of rows as candidates are ranked by them, ``(b,)``."""
        return self.clvp.score(text, codes, text_lengths, code_lengths).float()

    def _scores(self, text: Tensor, text_lengths: Tensor, codes: Tensor, code_lengths: Tensor) -> Tensor:
        texts = self.clvp.encode_text(text, text_lengths)
        speech = self.clvp.encode_speech(codes, code_lengths)
        return self.clvp.similarity(texts.float(), speech.float())

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracy of picking the right text for held-out codes, out of all of them at once.

        ``corrupted_text_accuracy`` is the share of clips whose codes score higher with their text than with each of its
        corruptions, ``corrupted_speech_accuracy`` that of those whose text does with their codes.
        """
        clips = self._test_clips()
        if not clips:
            return {}
        batch = self.to_device(self.pairs.collate(clips, np.random.default_rng(7)))
        wrong = self._held_out_corrupted(clips)
        scores = self._scores(*batch[:4])
        right = self._own_scores(*batch[:4])
        text = zip(wrong.text.unbind(1), wrong.text_lengths.unbind(1), strict=True)
        codes = zip(wrong.codes.unbind(1), wrong.code_lengths.unbind(1), strict=True)
        wrong_text = [self._own_scores(*one, batch.codes, batch.code_lengths) for one in text]
        wrong_speech = [self._own_scores(batch.text, batch.text_lengths, *one) for one in codes]
        metrics = {
            "info_nce": float(info_nce(scores)),
            "accuracy": float(accuracy(scores)),
            "corrupted_text_accuracy": float((right > torch.stack(wrong_text).amax(0)).float().mean()),
            "corrupted_speech_accuracy": float((right > torch.stack(wrong_speech).amax(0)).float().mean()),
        }
        return metrics | ({"ctc": float(self._ctc(batch, batch.codes))} if self.clvp.config.frames_per_token else {})

    def _test_clips(self) -> list[Clip]:
        """Held-out clips, evenly of all lengths."""
        clips = sorted(self.pairs.test, key=lambda c: c.codes)
        return clips[:: max(1, len(clips) // self.config.test_clips)][: self.config.test_clips]

    def _held_out_corrupted(self, clips: Sequence[Clip]) -> Corrupted:
        """The same of each clip in each evaluation, on the network's device."""
        rngs = {row: np.random.default_rng([7, row]) for row in range(len(clips))}
        return self.to_device(self.data.corrupt(clips, rngs, TEST_CORRUPTIONS, TEST_CORRUPTIONS, graphemes=0.0))

    def pictures(self) -> dict[str, Picture]:
        """Scores of held-out texts with held-out codes; the diagonal should be bright."""
        clips = self._test_clips()
        if not clips:
            return {}
        batch = self.to_device(self.pairs.collate(clips, np.random.default_rng(7)))
        return {"scores": Picture(self._scores(*batch[:4]), x="codes, by length", y="text, by length of its codes")}


def _another(row: int, rows: int, rng: np.random.Generator) -> int:
    """A row other than the given one; the same where there is no other."""
    return (row + 1 + int(rng.integers(max(1, rows - 1)))) % rows


def _stack(sequences: list[Tensor], rows: int) -> tuple[Tensor, Tensor]:
    """As many sequences for each row, one row's after another's: ``(b, n, s)`` and their lengths ``(b, n)``."""
    if not sequences:
        return torch.zeros(rows, 0, 0, dtype=torch.long), torch.zeros(rows, 0, dtype=torch.long)
    padded = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    return padded.unflatten(0, (rows, -1)), torch.tensor([len(ids) for ids in sequences]).unflatten(0, (rows, -1))


def drop_ids(ids: Tensor, lengths: Tensor, keep: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Drop ids at random, never a row's first; the others close up."""
    real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    kept = (rand(ids.shape, generator).to(ids.device) < keep) & real
    kept[:, 0] = True
    order = (~kept).int().argsort(dim=1, stable=True)
    return ids.gather(1, order), kept.sum(1)
