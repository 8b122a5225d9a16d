"""Which take is the best."""

from __future__ import annotations

import math

import pytest
import torch

from chelys.inference.decode import Take
from chelys.inference.rerank import ranked, score
from chelys.inference.synthesizer import Synthesizer


def takes(*stopped: bool) -> list[Take]:
    return [Take(torch.tensor([1]), end) for end in stopped]


def test_the_best_score_comes_first_and_ties_keep_their_order() -> None:
    assert ranked(takes(True, True, True, True), [0.1, 0.7, -3.0, 0.7]) == [1, 3, 0, 2]


def test_a_take_that_never_stopped_comes_after_all_that_did() -> None:
    assert ranked(takes(False, True, False, True), [9.0, 0.1, 9.5, 0.2]) == [3, 1, 2, 0]


def test_a_take_without_codes_is_no_take() -> None:
    assert ranked(takes(True, True), [-math.inf, -50.0]) == [1, 0]


def test_scores_are_those_of_clvp_and_none_hangs_on_its_company(tts: Synthesizer) -> None:
    clvp, text = tts.model.clvp, torch.tensor([5, 9, 12, 7])
    said = [Take(torch.randint(48, (m,), generator=torch.Generator().manual_seed(m)), True) for m in (1, 4, 30)]
    scores = score(clvp, text, said)
    assert scores == pytest.approx([clvp.score(text[None], take.codes[None]).item() for take in said])
    assert scores[1:] == score(clvp, text, said[1:])
    assert len({round(s, 4) for s in scores}) == 3
    assert score(clvp, text, [Take(torch.tensor([], dtype=torch.long), True)]) == [-math.inf]
    # a cosine, scaled
    assert max(map(abs, scores)) <= math.exp(float(clvp.temperature)) * (1 + 1e-6)


def test_another_text_gives_another_score(tts: Synthesizer) -> None:
    take = [Take(torch.tensor([3, 1, 4, 1, 5]), True)]
    one, other = (score(tts.model.clvp, torch.tensor(ids), take) for ids in ([5, 9, 12], [6, 6, 30]))
    assert one != pytest.approx(other)
