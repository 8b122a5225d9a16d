"""Which take is the best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import toy
from torch import Tensor, nn

from chelys.errors import VoiceError
from chelys.inference.generation import CodeCandidate
from chelys.inference.reranking import BATCH, rank, score
from chelys.inference.synthesizer import Synthesizer
from chelys.models.clvp import CLVP, CLVPConfig
from chelys.tortoise.cvvp import CVVP, CVVPConfig
from chelys.tortoise.model import SilenceTrimming
from chelys.tortoise.speaking import cvvp_scorers

TEXT = torch.tensor([5, 9, 12, 7])
STOPPED = torch.tensor([5, 9, 12, 7, 0])
RULES = SilenceTrimming(silence=9, max_silence=3, tail=(4, 5), length=12)


def takes(*stopped: bool) -> list[CodeCandidate]:
    return [CodeCandidate(torch.tensor([1]), end) for end in stopped]


def test_the_best_score_comes_first_and_ties_keep_their_order() -> None:
    assert rank(takes(True, True, True, True), [0.1, 0.7, -3.0, 0.7]) == [1, 3, 0, 2]


def test_a_take_that_never_stopped_comes_after_all_that_did() -> None:
    assert rank(takes(False, True, False, True), [9.0, 0.1, 9.5, 0.2]) == [3, 1, 2, 0]


def test_the_original_ranks_by_score_alone() -> None:
    assert rank(takes(False, True, False, True), [9.0, 0.1, 9.5, 0.2], unstopped_last=False) == [2, 0, 3, 1]


def test_a_take_without_codes_is_no_take() -> None:
    assert rank(takes(True, True), [-math.inf, -50.0]) == [1, 0]


def test_scores_are_those_of_clvp_and_none_hangs_on_its_company(tts: Synthesizer) -> None:
    clvp, text = tts.model.clvp, torch.tensor([5, 9, 12, 7])
    said = [
        CodeCandidate(torch.randint(48, (m,), generator=torch.Generator().manual_seed(m)), True) for m in (1, 4, 30)
    ]
    scores = score(clvp, text, said)
    assert scores == pytest.approx([clvp.score(text[None], take.codes[None]).item() for take in said])
    assert scores[1:] == score(clvp, text, said[1:])
    assert len({round(s, 4) for s in scores}) == 3
    assert score(clvp, text, [CodeCandidate(torch.tensor([], dtype=torch.long), True)]) == [-math.inf]
    # a cosine, scaled
    assert max(map(abs, scores)) <= math.exp(float(clvp.temperature)) * (1 + 1e-6)


def test_a_reader_has_a_say(counted: Callable) -> None:
    torch.manual_seed(0)
    sizes = CLVPConfig(text_tokens=20, speech_tokens=30, dim=24, depth=1, heads=2, head_dim=16, rotary_dim=8)
    reader, text = CLVP(replace(sizes, frames_per_token=2)).eval(), torch.tensor([5, 9, 12, 7])
    said = [CodeCandidate(torch.tensor(codes), True) for codes in ([1], [3, 1, 4, 1, 5])]
    rows = counted(reader.speech_encoder, "states")
    scores = score(reader, text, said)
    assert rows == [(2, 5)], "both takes are heard once, together, for both parts of their scores"
    assert scores == pytest.approx([reader.score(text[None], take.codes[None]).item() for take in said])
    assert scores[0] < scores[1], "one code is too few for four ids"


def test_another_text_gives_another_score(tts: Synthesizer) -> None:
    take = [CodeCandidate(torch.tensor([3, 1, 4, 1, 5]), True)]
    one, other = (score(tts.model.clvp, torch.tensor(ids), take) for ids in ([5, 9, 12], [6, 6, 30]))
    assert one != pytest.approx(other)


# ---------------------------------------------------------------- as published


@pytest.fixture(scope="module")
def clvp(tts: Synthesizer) -> CLVP:
    return tts.model.clvp


@pytest.fixture(scope="module")
def cvvp() -> CVVP:
    sizes = CVVPConfig(
        bands=6, speech_tokens=toy.CODES, dim=32, clip_depth=1, speech_depth=1, heads=2, head_dim=16, rotary_dim=8
    )
    with torch.random.fork_rng(devices=[]):
        network = CVVP(sizes)
    toy.stir(network, torch.Generator().manual_seed(1))
    return network.eval()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module, str], list[tuple[int, ...]]]:
    """Shapes that a method of a network is called with from now on."""

    def watch(network: nn.Module, method: str) -> list[tuple[int, ...]]:
        shapes: list[tuple[int, ...]] = []
        real = getattr(network, method)

        def spy(x: Tensor, *rest: object) -> Tensor:
            shapes.append(tuple(x.shape))
            return real(x, *rest)

        monkeypatch.setattr(network, method, spy)
        return shapes

    return watch


def some_takes(*lengths: int) -> list[CodeCandidate]:
    generator = torch.Generator().manual_seed(0)
    return [CodeCandidate(torch.randint(toy.CODES, (m,), generator=generator), True) for m in lengths]


def some_clips(count: int = 3) -> Tensor:
    return torch.randn(count, 6, 40, generator=torch.Generator().manual_seed(2))


def test_published_rows_are_read_whole_and_so_is_the_stop_of_the_text(clvp: CLVP) -> None:
    said = some_takes(3, 7, 12, 0)
    rows = torch.stack([RULES.padded(take.codes) for take in said])
    wanted = clvp.score(torch.tensor([[5, 9, 12, 7, 0]]), rows)
    assert score(clvp, STOPPED, said, row=RULES.padded) == pytest.approx(wanted.tolist())
    # neither is without effect
    assert score(clvp, TEXT, said, row=RULES.padded) != pytest.approx(wanted.tolist())
    assert score(clvp, STOPPED, said[:3]) != pytest.approx(wanted.tolist()[:3])


def test_b10_the_text_is_read_once_and_takes_together(clvp: CLVP, counted: Callable) -> None:
    texts, rows = counted(clvp, "encode_text"), counted(clvp.speech_encoder, "states")
    said = some_takes(*[5] * (BATCH + 3))
    scores = score(clvp, STOPPED, said, row=RULES.padded)
    assert texts == [(1, 5)]
    assert rows == [(BATCH, 12), (3, 12)]
    assert scores[-1:] == pytest.approx(score(clvp, STOPPED, said[-1:], row=RULES.padded))
    assert len(set(scores)) == len(said)


def test_b4_a_take_with_the_start_code_counts_for_nothing(clvp: CLVP) -> None:
    said = some_takes(3, 4)
    said.insert(1, CodeCandidate(torch.tensor([1, toy.CODES, 2]), True))
    scores = score(clvp, TEXT, said, row=RULES.padded)
    assert scores[1] == -math.inf
    assert [scores[0], scores[2]] == pytest.approx(score(clvp, TEXT, [said[0], said[2]], row=RULES.padded))


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_cvvp_counts_by_its_weight_and_its_mean_over_the_clips(clvp: CLVP, cvvp: CVVP, weight: float) -> None:
    said, clips = some_takes(3, 7, 12), some_clips()
    rows = torch.stack([RULES.padded(take.codes) for take in said])
    words = clvp.score(TEXT[None], rows)
    voices = torch.stack([cvvp.score(clip[None], rows) for clip in clips]).mean(0)
    scores = score(
        clvp, TEXT, said, row=RULES.padded, scorers=cvvp_scorers(cvvp, clips, weight), clvp_weight=1 - weight
    )
    assert scores == pytest.approx((weight * voices + (1 - weight) * words).tolist(), rel=1e-5)
    listed = score(
        clvp, TEXT, said, row=RULES.padded, scorers=cvvp_scorers(cvvp, list(clips), weight), clvp_weight=1 - weight
    )
    assert listed == scores


def test_a_judge_without_weight_is_not_run(clvp: CLVP, cvvp: CVVP, counted: Callable) -> None:
    texts, rows = counted(clvp, "encode_text"), counted(clvp.speech_encoder, "states")
    clips, voices = counted(cvvp, "encode_clip"), counted(cvvp, "encode_speech")

    def judged(weight: float) -> None:
        scorers = cvvp_scorers(cvvp, some_clips(2), weight)
        score(clvp, TEXT, some_takes(3), row=RULES.padded, scorers=scorers, clvp_weight=1 - weight)

    judged(1.0)
    assert (texts, rows, clips, voices) == ([], [], [(1, 6, 40)] * 2, [(1, 12)])
    judged(0.0)
    assert (texts, rows, len(clips), len(voices)) == ([(1, 4)], [(1, 12)], 2, 1)


def test_b5_cvvp_without_clips_is_refused_in_one_line(clvp: CLVP, cvvp: CVVP) -> None:
    for given in ((cvvp, ()), (None, some_clips()), (cvvp, some_clips(0))):
        with pytest.raises(VoiceError, match="^cvvp is 0.5, but there are no clips .+ set cvvp to 0$"):
            cvvp_scorers(*given, 0.5)


def test_rows_may_have_any_length(clvp: CLVP) -> None:
    shorter = replace(RULES, length=8)
    one, other = (score(clvp, TEXT, some_takes(4), row=rules.padded) for rules in (RULES, shorter))
    assert one != pytest.approx(other)
