"""The first sentences in pieces, before they are all sampled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import chelys
from chelys.errors import UserError
from chelys.inference.streaming import FIRST_CODES
from chelys.inference.synthesizer import Synthesizer
from chelys.models.clvp import beginnings_likelihood

TEXT = "The old boat drifted past the mill, and no one could say why it had come."
SAMPLES = 1024  # of a code


@pytest.fixture(scope="module")
def tts() -> Synthesizer:
    return chelys.load(device="cpu")


@pytest.fixture(scope="module")
def pieces(tts: Synthesizer) -> list[chelys.Chunk]:
    return list(tts.stream(TEXT, seed=4, early=True))


def test_the_first_piece_is_short_and_the_others_follow(pieces: list[chelys.Chunk]) -> None:
    assert len(pieces[0].audio) == FIRST_CODES * SAMPLES
    assert len(pieces) > 2
    assert " ".join(piece.text for piece in pieces if piece.text) == TEXT
    for piece in pieces:
        assert len(piece.candidates[0].codes[0]) * SAMPLES == len(piece.audio) or not piece.candidates[0].codes
    assert any(piece.scores for piece in pieces)
    assert all(piece.warnings == [] for piece in pieces)


def test_pieces_are_the_same_again_and_need_no_later_one(tts: Synthesizer, pieces: list[chelys.Chunk]) -> None:
    first = next(tts.stream(TEXT, seed=4, early=True))
    np.testing.assert_array_equal(first.audio, pieces[0].audio)


def test_preset_streaming_is_one_candidate_that_comes_early(tts: Synthesizer) -> None:
    options = tts.options("fast", candidates=1)
    given = list(tts.stream(TEXT, seed=4, preset="streaming"))
    wanted = list(tts.stream(TEXT, seed=4, options=options, early=True))
    assert len(given[0].audio) == FIRST_CODES * SAMPLES and len(given) > 2
    for ours, theirs in zip(given, wanted, strict=True):
        np.testing.assert_array_equal(ours.audio, theirs.audio)
    (whole,) = tts.stream(TEXT, seed=4, preset="streaming", early=False)
    np.testing.assert_array_equal(whole.audio, tts.speak(TEXT, seed=4, preset="streaming").audio)
    (refused,) = tts.stream(TEXT, seed=4, options=chelys.SpeechOptions(candidates=1, steps=1, early=True, redact=True))
    assert refused.complete  # a wish of the options is no condition


def test_joins_have_no_steps(pieces: list[chelys.Chunk]) -> None:
    audio = np.concatenate([piece.audio for piece in pieces])
    steps = np.abs(np.diff(audio))
    for join in np.cumsum([len(piece.audio) for piece in pieces])[:-1]:
        around = np.delete(steps[join - 481 : join + 480], 480)
        assert steps[join - 1] <= around.max()


def test_no_more_is_sampled_than_the_first_piece_needs(tts: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    from chelys.inference.generation import CodeSampler

    steps, real = [], CodeSampler.step
    monkeypatch.setattr(CodeSampler, "step", lambda sampler: (steps.append(1), real(sampler))[1])
    next(tts.stream(TEXT, seed=4, early=True))
    assert len(steps) < 2 * FIRST_CODES


@pytest.mark.parametrize("changes", [{"keep": 2}, {"options": chelys.SpeechOptions(redact=True)}])
def test_what_cannot_come_early_is_told(tts: Synthesizer, changes: dict) -> None:
    with pytest.raises(UserError, match="early"):
        tts.stream(TEXT, early=True, **changes)


def test_the_likelihood_of_beginnings_is_the_sum_over_all_alignments() -> None:
    generator = torch.Generator().manual_seed(3)
    frames, text, blank = 5, torch.tensor([0, 1, 1]), 2
    given = torch.randn(2, frames, 3, generator=generator).log_softmax(-1)
    # CTC counts paths that end in a whole text; each path of a beginning is one of exactly one beginning
    losses = []
    for count in range(len(text) + 1):
        rows = [
            F.ctc_loss(row[:, None], text[None, :count], [frames], [count], blank=blank, reduction="sum")
            for row in given
        ]
        losses.append(-torch.stack(rows))
    wanted = torch.stack(losses).logsumexp(0)
    torch.testing.assert_close(beginnings_likelihood(given, text, blank), wanted)
