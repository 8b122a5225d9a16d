"""The likeliest path that says a text, against all paths; words with their times; models that hear nothing."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from chelys.audiobook.hearing import Alignment, align, forced
from chelys.inference.synthesizer import Synthesizer
from chelys.models.clvp import CLVP, CLVPConfig

BLANK = 3


def collapsed(path: tuple[int, ...]) -> list[int]:
    return [one for place, one in enumerate(path) if one != BLANK and (not place or path[place - 1] != one)]


@pytest.mark.parametrize("ids", [[0], [0, 1], [1, 1], [2, 0, 2]])
def test_the_path_is_the_likeliest_of_all(ids: list[int]) -> None:
    scores = np.log(np.random.default_rng(len(ids)).dirichlet(np.ones(4), 6))
    best = max(
        (path for path in product(range(4), repeat=6) if collapsed(path) == ids),
        key=lambda path: sum(scores[frame, one] for frame, one in enumerate(path)),
    )
    places = forced(scores, ids, BLANK)
    assert places is not None
    mine = [BLANK] * 6
    for start, end, one in zip(*places, ids, strict=True):
        mine[start:end] = [one] * (end - start)
    assert mine == list(best)


def test_too_few_frames_have_no_path() -> None:
    scores = np.log(np.full((3, 4), 0.25))
    assert forced(scores, [1, 1, 1], BLANK) is None and forced(scores, [0, 1, 2], BLANK) is not None


def test_words_have_times_and_doubts() -> None:
    symbols = list("hI ,ju.")
    starts = np.array([0, 2, 4, 5, 6, 8, 9])
    found = Alignment(starts, starts + 1, np.array([0.0, 7.0, 9.0, 9.0, 1.0, 2.0, 9.0]), 10)
    one, other = found.words("hi, you.", symbols, 2.0)
    assert (one.text, one.start_s, one.end_s, one.doubt) == ("hi,", 0.0, 0.6, 7.0)
    assert (other.text, other.start_s, other.end_s, other.doubt) == ("you.", 1.2, 1.8, 2.0)
    assert found.worst(symbols) == 7.0  # not those of spaces and marks
    assert found.words("hi, you there.", symbols, 2.0) == ()


def test_a_reader_hears_what_it_is_given() -> None:
    torch.manual_seed(0)
    sizes = dict(text_tokens=5, speech_tokens=9, dim=16, depth=1, heads=1, head_dim=16, rotary_dim=8)
    clvp = CLVP(CLVPConfig(**sizes, frames_per_token=2)).eval()
    codes, ids = torch.randint(0, 9, (12,)), torch.tensor([1, 2, 2, 4])
    found = align(clvp, ids, codes)
    assert found is not None and found.frames == 24
    assert (found.starts < found.ends).all() and (found.ends[:-1] <= found.starts[1:]).all()
    assert found.ends[1] < found.starts[2]  # between two that are the same there is a blank
    assert (found.doubts >= 0).all()
    assert align(clvp, ids, codes[:1]) is None
    assert align(clvp, ids, torch.full((12,), 9)) is None  # the stop code is no speech


def test_a_model_without_a_reader_hears_nothing(tts: Synthesizer) -> None:
    assert align(tts.model.clvp, torch.tensor([1, 2]), torch.tensor([3, 4, 5])) is None
