"""CLVP's stage: which text belongs to which codes, both ways round (Betker 2023, appendix B.3).

At inference CLVP is asked something finer: which of several takes of one text says all of it, and nothing else. So
each row may be compared besides with texts and codes made wrong in one place, its own alone (`data.corruptions`).

b rows, n corrupted texts of a row, k corrupted codes of a row, t text ids, m codes, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chelys.data.corruptions import corrupt_codes, corrupt_text
from chelys.data.dataset import Clip
from chelys.data.pairs import Batch, Pairs, spelling
from chelys.errors import ConfigError
from chelys.models.clvp import CLVP
from chelys.training.losses import accuracy, contrast
from chelys.training.noise import rand, with_others
from chelys.training.pictures import Picture
from chelys.training.stage import map_tensors
from chelys.training.tasks.paired import PairedStage

#: Corrupted texts, and codes, that a held-out clip is told from; the same for each run, so that runs compare.
TEST_CORRUPTIONS = 4


@dataclass(frozen=True)
class CLVPStageConfig:
    """Weights of the stage.

    Attributes:
        contrast: Weight of the contrastive loss.
        reading: Weight of the surprise of the reader, nats an id of the text, where the network has one.
        kept: Share of text ids and codes that are seen; the rest is dropped at random: the score shall hang on all.
        corrupted_texts: Corrupted texts of a row that its codes are compared with, besides the texts of the batch.
        corrupted_speech: Corrupted codes of a row that its text is compared with, besides the codes of the batch.
        test_clips: Held-out clips in an evaluation.
    """

    contrast: float = 1.0
    reading: float = 1.0
    kept: float = 0.9
    corrupted_texts: int = 0
    corrupted_speech: int = 0
    test_clips: int = 128

    def __post_init__(self) -> None:
        for name in ("corrupted_texts", "corrupted_speech"):
            if (count := getattr(self, name)) < 0:
                raise ConfigError(f"stage.{name} is {count}; it must be 0 or more")


class Corrupted(NamedTuple):
    """Texts and codes of some rows made wrong in one place each; zero beyond their lengths.

    Attributes:
        text: Ids ``(b, n, t)``.
        text_lengths: ``(b, n)``.
        codes: ``(b, k, m)``.
        code_lengths: ``(b, k)``.
    """

    text: Tensor
    text_lengths: Tensor
    codes: Tensor
    code_lengths: Tensor


class CLVPBatch(NamedTuple):
    """Pairs, and what each row alone is compared with.

    Attributes:
        text: As in ``Batch``, and so the next five.
        text_lengths: ``(b,)``.
        codes: ``(b, m)``.
        code_lengths: ``(b,)``.
        mel: Of no frames.
        reference: Not heard.
        corrupted: Texts and codes of the rows made wrong.
    """

    text: Tensor
    text_lengths: Tensor
    codes: Tensor
    code_lengths: Tensor
    mel: Tensor
    reference: Tensor
    corrupted: Corrupted


class CLVPStage(PairedStage):
    """Pairs in, named losses out. Every text is compared with every take, those of other processes too."""

    name = "clvp"
    splits = False

    def __init__(self, network: CLVP, pairs: Pairs, config: CLVPStageConfig) -> None:
        self.players: dict[str, nn.Module] = {"clvp": network}
        self.clvp, self.pairs, self.config = network, pairs, config

    def part(self, step: int, rows: slice) -> CLVPBatch:
        clips = self.pairs.clips(step)
        rngs = {row: np.random.default_rng([self.pairs.seed, step, row, 7]) for row in range(len(clips))[rows]}
        config = self.config
        corrupted = self._corrupt(
            clips, rngs, config.corrupted_texts, config.corrupted_speech, spelled=self.pairs.config.spelled
        )
        return CLVPBatch(*self.pairs.batch(step, rows), corrupted)

    def _corrupt(
        self, clips: Sequence[Clip], rngs: Mapping[int, np.random.Generator], texts: int, takes: int, *, spelled: float
    ) -> Corrupted:
        """Make texts and codes of some clips wrong.

        Args:
            clips: Of the whole batch: strange words and codes come from any of the others.
            rngs: Row to what draws for it.
            texts: Corrupted texts n of each row.
            takes: Corrupted codes k of each row.
            spelled: Share of words spelled; as in the texts of the batch, or it would give the corrupted ones away.
        """
        tokenizer, codes = self.pairs.tokenizer, self.pairs.codes
        clean = cache(lambda row: tokenizer.clean(clips[row].text))
        said: list[Tensor] = []
        spoken: list[Tensor] = []
        for row, rng in rngs.items():
            for _ in range(texts):
                other = _another(row, len(clips), rng)
                text = corrupt_text(clean(row), clean(other) if other != row else "", rng, tokenizer.symbols)
                said.append(torch.tensor(tokenizer.encode_normalized(text, spelled=spelling(spelled, rng))))
            for _ in range(takes):
                own, strange = codes.of(clips[row]), codes.of(clips[_another(row, len(clips), rng)])
                spoken.append(corrupt_codes(own, strange, rng))
        return Corrupted(*_stack(said, len(rngs)), *_stack(spoken, len(rngs)))

    def losses(self, player: str, batch: CLVPBatch, generator: torch.Generator) -> Mapping[str, Tensor]:
        wrong = batch.corrupted
        said, missaid = self._points(
            self.clvp.encode_text, batch.text, batch.text_lengths, wrong.text, wrong.text_lengths, generator
        )
        spoken, misspoken = self._points(
            self.clvp.encode_speech, batch.codes, batch.code_lengths, wrong.codes, wrong.code_lengths, generator
        )
        scores = self.clvp.similarity(self.ranks.gather(said), self.ranks.gather(spoken))
        by_text, by_take = self._beside(said, misspoken), self._beside(spoken, missaid)
        losses = {"contrast": self.config.contrast * contrast(scores, by_rows=by_text, by_columns=by_take)}
        if self.clvp.config.frames_per_token:
            codes = with_others(batch.codes, 1 - self.config.kept, self.clvp.config.speech_tokens, generator)
            losses["reading"] = self.config.reading * self._surprise(batch, codes)
        return losses

    def _surprise(self, batch: CLVPBatch | Batch, codes: Tensor) -> Tensor:
        """Nats an id of the texts, to the reader of the codes."""
        likelihood = self.clvp.likelihood(batch.text, codes, batch.text_lengths, batch.code_lengths)
        return -likelihood.sum() / batch.text_lengths.sum()

    def _points(
        self, encode: Callable[[Tensor, Tensor], Tensor], ids: Tensor, lengths: Tensor, wrong: Tensor,
        wrong_lengths: Tensor, generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Points of the rows ``(b, d)`` and of what is wrong for them ``(b, n, d)``, thinned and encoded together."""
        sets = [(ids, lengths), *zip(wrong.unbind(1), wrong_lengths.unbind(1), strict=True)]
        thin = [_thin(*one, self.config.kept, generator) for one in sets]
        width = max(ids.shape[1] for ids, _ in thin)
        together = torch.cat([F.pad(ids, (0, width - ids.shape[1])) for ids, _ in thin])
        points = encode(together, torch.cat([lengths for _, lengths in thin])).float().unflatten(0, (len(thin), -1))
        return points[0], points[1:].transpose(0, 1)

    def _beside(self, points: Tensor, wrong: Tensor) -> Tensor | None:
        """Scores of the rows of all processes with what is wrong for them: (b, d) and (b, n, d) -> (sum of b, n)."""
        if not wrong.shape[1]:
            return None
        return self.ranks.gather((points[:, None] * wrong).sum(-1) * self.clvp.temperature.exp())

    def _own_scores(self, text: Tensor, text_lengths: Tensor, codes: Tensor, code_lengths: Tensor) -> Tensor:
        """Scores of rows as takes are ranked by them, ``(b,)``."""
        return self.clvp.score(text, codes, text_lengths, code_lengths).float()

    def _scores(self, text: Tensor, text_lengths: Tensor, codes: Tensor, code_lengths: Tensor) -> Tensor:
        said = self.clvp.encode_text(text, text_lengths)
        spoken = self.clvp.encode_speech(codes, code_lengths)
        return self.clvp.similarity(said.float(), spoken.float())

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracy of picking the right text for held-out codes, out of all of them at once.

        ``text_told`` is the share of clips whose codes prefer their text to each of its corruptions, ``speech_told``
        that of those whose text prefers their codes to each of theirs.
        """
        clips = self._test_clips()
        if not clips:
            return {}
        batch, wrong = self.held_out(clips, np.random.default_rng(7)), self._held_out_corrupted(clips)
        scores = self._scores(*batch[:4])
        right = self._own_scores(*batch[:4])
        text = zip(wrong.text.unbind(1), wrong.text_lengths.unbind(1), strict=True)
        codes = zip(wrong.codes.unbind(1), wrong.code_lengths.unbind(1), strict=True)
        missaid = [self._own_scores(*one, batch.codes, batch.code_lengths) for one in text]
        misspoken = [self._own_scores(batch.text, batch.text_lengths, *one) for one in codes]
        figures = {
            "contrast": float(contrast(scores)),
            "accuracy": float(accuracy(scores)),
            "text_told": float((right > torch.stack(missaid).amax(0)).float().mean()),
            "speech_told": float((right > torch.stack(misspoken).amax(0)).float().mean()),
        }
        return (
            figures | {"reading": float(self._surprise(batch, batch.codes))} if self.clvp.config.frames_per_token else figures
        )

    def _test_clips(self) -> list[Clip]:
        """Held-out clips, evenly of all lengths."""
        clips = sorted(self.pairs.test, key=lambda c: c.codes)
        return clips[:: max(1, len(clips) // self.config.test_clips)][: self.config.test_clips]

    def _held_out_corrupted(self, clips: Sequence[Clip]) -> Corrupted:
        """The same of each clip in each evaluation, on the network's device."""
        rngs = {row: np.random.default_rng([7, row]) for row in range(len(clips))}
        device = next(self.clvp.parameters()).device
        corrupted = self._corrupt(clips, rngs, TEST_CORRUPTIONS, TEST_CORRUPTIONS, spelled=0.0)
        return map_tensors(corrupted, lambda tensor: tensor.to(device))

    def pictures(self) -> dict[str, Picture]:
        """Scores of held-out texts with held-out takes; the diagonal shall be bright."""
        clips = self._test_clips()
        if not clips:
            return {}
        batch = self.held_out(clips, np.random.default_rng(7))
        scores = self._scores(batch.text, batch.text_lengths, batch.codes, batch.code_lengths)
        return {"scores": Picture(scores, x="take, by length", y="text, by length of its take")}


def _another(row: int, rows: int, rng: np.random.Generator) -> int:
    """A row other than the given one; the same where there is no other."""
    return (row + 1 + int(rng.integers(max(1, rows - 1)))) % rows


def _stack(drawn: list[Tensor], rows: int) -> tuple[Tensor, Tensor]:
    """As many sequences for each row, one row's after another's: ``(b, n, s)`` and their lengths ``(b, n)``."""
    if not drawn:
        return torch.zeros(rows, 0, 0, dtype=torch.long), torch.zeros(rows, 0, dtype=torch.long)
    padded = torch.nn.utils.rnn.pad_sequence(drawn, batch_first=True)
    return padded.unflatten(0, (rows, -1)), torch.tensor([len(ids) for ids in drawn]).unflatten(0, (rows, -1))


def _thin(ids: Tensor, lengths: Tensor, kept: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Drop ids at random, never a row's first; the others move together."""
    real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    keep = (rand(ids.shape, generator).to(ids.device) < kept) & real
    keep[:, 0] = True
    order = (~keep).int().argsort(dim=1, stable=True)
    return ids.gather(1, order), keep.sum(1)
