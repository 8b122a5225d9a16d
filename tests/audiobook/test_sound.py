"""Loudness, peaks, pauses and joins: what is asked for, measured anew on what comes out."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pyloudnorm
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from stand_in import sound_of  # noqa: E402

from chelys.audio.rates import OUTPUT_RATE  # noqa: E402
from chelys.audiobook.book_file import write  # noqa: E402
from chelys.audiobook.sound import CEILING_DB, Limiter, LoudnessMeter, decibels, loudness, speech_span  # noqa: E402
from chelys.audiobook.stages import SentenceRequest  # noqa: E402
from chelys.audiobook.track import Track  # noqa: E402
from chelys.text.document import Sentence  # noqa: E402

PAUSES = [0.0, 0.05, 0.12, 0.28, 0.7, 0.0, 1.8, 0.013, 0.4, 2.5]


def takes(count: int) -> list[np.ndarray]:
    return [sound_of(SentenceRequest(Sentence("", phonemes="x" * (15 + 7 * i % 60)), seed=i)) for i in range(count)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """A sound of ten sentences, and where each lies, in samples."""
    spans = []
    with Track(tmp_path_factory.mktemp("track"), 0.5) as track:
        for audio, pause in zip(takes(len(PAUSES)), PAUSES, strict=True):
            placed = track.add(audio)
            spans.append((round(placed.start_s * OUTPUT_RATE), round(placed.end_s * OUTPUT_RATE)))
            track.pause(pause)
        track.end()
        return np.concatenate(list(track.mastered(LoudnessMeter()))), spans


def pieces(audio: np.ndarray, spans: list[tuple[int, int]]) -> list[np.ndarray]:
    return [audio[start:end] for start, end in spans]


def test_the_meter_measures_what_pyloudnorm_does() -> None:
    rng = np.random.default_rng(0)
    audio = np.concatenate([rng.normal(size=n) * a for n, a in ((50_000, 0.1), (30_000, 0.001), (71_200, 0.05))])
    meter, at = LoudnessMeter(), 0
    for size in (1, 999, 24_000, 60_000, 10**6):
        meter.feed(audio[at : at + size].astype(np.float32))
        at += size
    assert meter.loudness == pytest.approx(pyloudnorm.Meter(OUTPUT_RATE).integrated_loudness(audio), abs=0.01)
    levels = meter.report()
    assert levels.peak == pytest.approx(decibels(np.abs(audio).max()), abs=1e-3)
    assert levels.rms == pytest.approx(decibels(np.sqrt(np.mean(audio**2))), abs=1e-3)


def test_silence_has_no_loudness_and_no_speech() -> None:
    assert loudness(np.zeros(OUTPUT_RATE, np.float32)) == -np.inf and speech_span(np.zeros(500, np.float32)) == (0, 500)
    with Track(Path("."), 0.1) as track:
        track.add(np.zeros(5000, np.float32))
        track.end()
        assert not np.concatenate(list(track.mastered(LoudnessMeter()))).any()


def test_the_whole_is_as_loud_as_asked_and_its_peaks_are_held(made: tuple[np.ndarray, list[tuple[int, int]]]) -> None:
    audio, _ = made
    assert pyloudnorm.Meter(OUTPUT_RATE).integrated_loudness(audio) == pytest.approx(-18, abs=0.1)
    assert decibels(np.abs(audio).max()) <= CEILING_DB + 1e-4


def test_sentences_are_equally_loud(made: tuple[np.ndarray, list[tuple[int, int]]]) -> None:
    meter = pyloudnorm.Meter(OUTPUT_RATE)
    found = [meter.integrated_loudness(piece) for piece in pieces(*made)]
    assert max(found) - min(found) < 2, found


def test_pauses_are_as_long_as_asked(made: tuple[np.ndarray, list[tuple[int, int]]]) -> None:
    """What stays 40 dB below the loudest counts as silence here."""
    audio, spans = made
    loud = np.abs(audio) > np.abs(audio).max() * 0.01
    for (_, end), (start, _), asked in zip(spans, spans[1:], PAUSES, strict=False):
        middle = (end + start) // 2
        before = int(np.flatnonzero(loud[:middle])[-1])
        after = middle + int(np.flatnonzero(loud[middle:])[0])
        assert (after - before) / OUTPUT_RATE == pytest.approx(asked, abs=0.01), asked


def test_aac_rings_no_longer_than_pauses_may_err(tmp_path: Path) -> None:
    """Where 5 ms that stay 45 dB below the loudest of a sentence count as silence."""
    rng = np.random.default_rng(1)
    hisses = [(rng.normal(size=12_000) * np.linspace(0.2, 0.05, 12_000)).astype(np.float32) for _ in range(8)]
    spans = []
    with Track(tmp_path, 0.4) as track:
        for take in hisses:
            placed = track.add(take)
            spans.append((round(placed.start_s * OUTPUT_RATE), round(placed.end_s * OUTPUT_RATE)))
            track.pause(0.4)
        track.end()
        audio = np.concatenate(list(track.mastered(LoudnessMeter())))
    write(tmp_path / "out.m4b", [audio], "m4b", tags={})
    with av.open(str(tmp_path / "out.m4b")) as file:
        rate = file.streams.audio[0].rate
        heard = np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1)[0]

    def edges(audio: np.ndarray, rate: int) -> np.ndarray:
        window = rate // 200
        power = np.convolve(np.square(audio, dtype=np.float64), np.ones(window) / window, "same")
        found = []
        for start, end in (np.array(span) * rate // OUTPUT_RATE for span in spans):
            near = slice(max(0, start - rate // 10), end + rate // 10)
            loud = np.flatnonzero(power[near] > power[start:end].max() * 10**-4.5)
            found.append((near.start + loud[[0, -1]]) / rate)
        return np.array(found)

    np.testing.assert_allclose(edges(heard, rate), edges(audio, OUTPUT_RATE), atol=0.002)


def test_joins_do_not_click(made: tuple[np.ndarray, list[tuple[int, int]]]) -> None:
    audio, spans = made
    jumps = np.abs(np.diff(audio))
    near = np.zeros(len(jumps), bool)
    for start, end in spans:
        for edge in (start, end):
            near[max(0, edge - 480) : edge + 480] = True
    assert jumps[near].max() <= jumps[~near].max()


def test_the_limiter_is_the_same_however_the_sound_is_cut() -> None:
    audio = np.random.default_rng(1).normal(size=30_000).astype(np.float32)
    whole = Limiter(0.5)
    expected = np.concatenate((whole.feed(audio), whole.finish()))
    cut = Limiter(0.5)
    parts = [cut.feed(part) for part in np.split(audio, [1, 7, 500, 501, 9000])]
    found = np.concatenate([*parts, cut.finish()])
    assert np.abs(expected).max() <= 0.5 + 1e-6
    np.testing.assert_allclose(found, expected, atol=1e-6)
