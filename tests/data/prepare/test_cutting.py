"""Where recordings are cut: at pauses, never in a word, in pieces of a fitting length."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from chelys.data.prepare.segment import FRAME_SECONDS, NO_PAUSE, TOO_SHORT, ClipSpan, Segmenter, SegmenterSettings


def cuts(probabilities: list[float], settings: SegmenterSettings | None = None) -> list[ClipSpan]:
    segmenter = Segmenter(settings or SegmenterSettings())
    return [*segmenter.add(probabilities), *segmenter.end()]


def frames(*spans: tuple[float, float]) -> list[float]:
    """(probability, seconds) to probabilities."""
    return [p for p, seconds in spans for _ in range(round(seconds / FRAME_SECONDS))]


def test_a_pause_of_half_a_second_parts_two_clips() -> None:
    found = cuts(frames((0, 1), (1, 2), (0, 0.6), (1, 3), (0, 1)))
    assert [c.reason for c in found] == [None, None]
    assert [(c.start, c.end) for c in found] == [
        pytest.approx((0.8, 3.2), abs=0.05),
        pytest.approx((3.4, 6.8), abs=0.05),
    ]


def test_a_shorter_pause_does_not() -> None:
    (only,) = cuts(frames((0, 1), (1, 2), (0, 0.4), (1, 3), (0, 1)))
    assert (only.start, only.end) == pytest.approx((0.8, 6.6), abs=0.05)


def test_a_dip_that_is_no_pause_changes_nothing() -> None:
    assert cuts(frames((0, 1), (1, 1), (0.4, 0.7), (1, 1), (0, 1))) == cuts(frames((0, 1), (1, 2.7), (0, 1)))


def test_silence_holds_no_clip() -> None:
    assert cuts([0.0] * 500) == [] and cuts([]) == []


def test_what_is_too_short_is_listed() -> None:
    (only,) = cuts(frames((0, 1), (1, 0.1), (0, 1)))
    assert only.reason == TOO_SHORT


def test_a_long_stretch_is_cut_at_its_longest_pause() -> None:
    found = cuts(frames((0, 1), (1, 8), (0, 0.2), (1, 6), (0, 0.4), (1, 5), (0, 0.2), (1, 9), (0, 1)))
    assert [c.reason for c in found] == [None, None]
    assert found[0].end == pytest.approx(15.4, abs=0.05) and found[1].start == pytest.approx(15.4, abs=0.05)


def test_a_stretch_without_a_pause_is_given_up_and_the_next_is_not() -> None:
    found = cuts(frames((0, 1), (1, 45), (0, 0.2), (1, 4), (0, 1)))
    assert [c.reason for c in found] == [NO_PAUSE, None]
    assert found[1].start == pytest.approx(46.1, abs=0.05)


def test_a_short_word_before_a_long_stretch_is_not_taken_along() -> None:
    found = cuts(frames((0, 1), (1, 0.1), (0, 0.2), (1, 30), (0, 0.3), (1, 5), (0, 1)))
    assert [c.reason for c in found] == [TOO_SHORT, NO_PAUSE, None]


def test_what_is_said_when_a_damaged_recording_ends_is_left_out() -> None:
    segmenter = Segmenter(SegmenterSettings())
    found = [*segmenter.add(frames((0, 1), (1, 2), (0, 1), (1, 2))), *segmenter.end(damaged=True)]
    assert [c.end < 4 for c in found] == [True]
    segmenter = Segmenter(SegmenterSettings())
    assert [*segmenter.add(frames((0, 1), (1, 2), (0, 0.2), (1, 2))), *segmenter.end(damaged=True)] == []


@pytest.mark.parametrize("seed", range(20))
def test_never_in_a_word(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spans = [(float(i % 2), float(rng.choice([0.05, 0.2, 0.4, 0.7, 3, 9, 26]))) for i in range(60)]
    heard = frames(*spans, (0, 1))
    settings = SegmenterSettings()
    found = cuts(heard, settings)
    speech = np.asarray(heard) > 0.5
    kept = [c for c in found if c.reason is None]
    assert kept
    for cut in kept:
        assert settings.min_seconds <= cut.end - cut.start <= settings.max_seconds + 1e-9
        first, last = round(cut.start / FRAME_SECONDS, 6), round(cut.end / FRAME_SECONDS, 6)
        assert not speech[int(first)] and not speech[int(last - 1e-6)]
    for before, after in pairwise(found):
        assert before.end <= after.start + 1e-9
    inside = np.zeros(len(speech), bool)
    for cut in found:
        inside[round(cut.start / FRAME_SECONDS) : round(cut.end / FRAME_SECONDS)] = True
    assert not (speech & ~inside).any(), "speech is in a clip, or listed as none"


def test_what_must_be_remembered_does_not_grow() -> None:
    segmenter = Segmenter(SegmenterSettings())
    for _ in range(40):  # an hour and a half of music that stutters without ever pausing
        list(segmenter.add(frames((1, 5), (0, 0.1)) * 30))
    assert len(segmenter._group) < 200
