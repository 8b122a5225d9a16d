"""The source of phases: pulses at the pitch, noise elsewhere, and a pitch that is read as it was taught."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from chelys.audio.mel import MelRange
from chelys.models.vocos import BANDS, LOWEST, OCTAVE, HarmonicSource, Vocos, VocosConfig, half_phase, hold, pulses

PITCHES = 72


@pytest.fixture
def source() -> HarmonicSource:
    """Reads its first features as logits of the pitches, and takes all for voice."""
    made = HarmonicSource(1 + PITCHES, PITCHES, n_fft=1024, hop=256)
    with torch.no_grad():
        made.pitch.weight.copy_(torch.eye(1 + PITCHES))
        made.pitch.bias.zero_()
        made.voice.weight.zero_()
        made.voice.bias.fill_(50.0)
    return made


def logits(*places: dict[int, float]) -> Tensor:
    """A row of frames, in each of which these pitches (0 for none) have these logits and others next to nothing."""
    x = torch.full((1, len(places), 1 + PITCHES), -30.0)
    for frame, place in enumerate(places):
        for pitch, logit in place.items():
            x[0, frame, pitch] = logit
    return x


def noise(rows: int, samples: int) -> Tensor:
    return torch.randn(rows, samples, generator=torch.Generator().manual_seed(5))


# ---- pulses ---------------------------------------------------------------------------------------------------------


def test_a_pulse_comes_once_a_period() -> None:
    wave = pulses(torch.tensor([[100.0] * 40, [240.0] * 40]), 256)
    assert wave.shape == (2, 40 * 256)
    for row, period in zip(wave, (240, 100), strict=True):
        peaks = (row > 0.5 * row.max()).nonzero().flatten()
        assert set(peaks.diff().tolist()) == {period}


def test_all_harmonics_are_there_and_nothing_between_them() -> None:
    spectrum = torch.fft.rfft(pulses(torch.full((1, 375), 200.0), 256)[0, :24_000]).abs()  # a bin a Hertz
    assert spectrum[200:11_900:200].min() > 0.9 * spectrum.max()
    between = torch.ones(12_001, dtype=torch.bool)
    between[::200] = False
    assert spectrum[between].max() < 1e-2 * spectrum.max()


def test_the_pitch_may_glide() -> None:
    wave = pulses(torch.linspace(100.0, 200.0, 200)[None], 256)[0]
    gaps = ((wave[1:-1] > wave[:-2]) & (wave[1:-1] >= wave[2:]) & (wave[1:-1] > 30)).nonzero().flatten().diff()
    assert gaps[0] == pytest.approx(240, abs=3) and gaps[-1] == pytest.approx(120, abs=3)
    assert (gaps.diff() <= 1).all()


def test_a_minute_keeps_its_pitch() -> None:
    wave = pulses(torch.full((1, 5625), 120.0), 256)[0]  # a period is 200 samples
    peaks = (wave > 0.9 * wave.max()).nonzero().flatten()
    assert len(peaks) == 60 * 120 and peaks[-1] - peaks[0] == 200 * (60 * 120 - 1)


def test_edges_go_on_at_the_outer_pitches() -> None:
    pitch = torch.tensor([[100.0, 120.0, 150.0]])
    wave = pulses(pitch, 256, edge=600)
    assert wave.shape == (1, 3 * 256 + 1200)
    peaks = (wave[0] > 0.5 * wave.max()).nonzero().flatten()
    assert peaks.diff()[0] == 240 and peaks.diff()[-1] == 160


def test_gaps_hold_the_pitch_before_them() -> None:
    pitch = torch.tensor([[0.0, 0.0, 90.0, 0.0, 80.0, 0.0], [70.0, 0.0, 0.0, 0.0, 0.0, 75.0], [0.0] * 6])
    held = hold(pitch)
    assert held[0].tolist() == [90.0, 90.0, 90.0, 90.0, 80.0, 80.0]
    assert held[1].tolist() == [70.0, 70.0, 70.0, 70.0, 70.0, 75.0]
    assert held[2].tolist() == [LOWEST] * 6


# ---- reading --------------------------------------------------------------------------------------------------------


def test_a_pitch_is_read_between_those_that_are_told_apart(source: HarmonicSource) -> None:
    x = logits({25: 9.0}, {25: 9.0, 26: 9.0}, {0: 9.0}, {0: 9.0, 30: 8.0}, {25: 9.0, 60: 8.9})
    octave = 2 * LOWEST
    expected = [octave, octave * 2 ** (0.5 / OCTAVE), 0.0, 0.0, octave]
    assert source.read(x)[0].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("hertz", [LOWEST, 77.0, 123.4, 380.0])
def test_what_is_learned_is_what_is_read(source: HarmonicSource, hertz: float) -> None:
    pitch = torch.tensor([[hertz, 0.0]])
    x = torch.zeros(1, 2, 1 + PITCHES, requires_grad=True)
    optimizer = torch.optim.Adam([x], 0.3)
    for _ in range(300):
        optimizer.zero_grad()
        source.pitch_loss(x, pitch).backward()
        optimizer.step()
    read = source.read(x)
    assert read[0, 0].item() == pytest.approx(hertz, rel=2e-3) and read[0, 1] == 0


def test_pitches_out_of_range_count_as_the_outermost(source: HarmonicSource) -> None:
    highest = LOWEST * 2 ** ((PITCHES - 1) / OCTAVE)
    x = logits({1: 3.0}, {PITCHES: 3.0})
    inside, outside = torch.tensor([[LOWEST, highest]]), torch.tensor([[LOWEST / 2, 2 * highest]])
    torch.testing.assert_close(source.pitch_loss(x, outside), source.pitch_loss(x, inside))
    assert source.pitch_loss(x, inside) < source.pitch_loss(x, inside.flip(1))


# ---- phases ---------------------------------------------------------------------------------------------------------


def test_voice_has_the_phases_of_pulses(source: HarmonicSource) -> None:
    pitch = torch.full((1, 30), 150.0)
    phases = source(torch.zeros(1, 30, 1 + PITCHES), noise(1, 30 * 256), pitch)
    assert phases.shape == (1, 513, 30)
    torch.testing.assert_close(phases.abs(), torch.ones(1, 513, 30))
    turn = 2 * math.pi * 256 * 150.0 / 24_000  # of the first harmonic from frame to frame
    steps = phases[0, 6, 1:] * phases[0, 6, :-1].conj()  # bin 6 is 141 Hz, next to it
    torch.testing.assert_close(steps, torch.polar(torch.ones(29), torch.full((29,), turn)), atol=2e-2, rtol=0)


def test_where_there_is_no_voice_there_is_noise(source: HarmonicSource) -> None:
    x, other = torch.zeros(1, 12, 1 + PITCHES), noise(2, 12 * 256)[1:]
    silent, voiced = torch.zeros(1, 12), torch.full((1, 12), 150.0)
    first = source(x, noise(1, 12 * 256), silent)
    torch.testing.assert_close(first.abs(), torch.ones(1, 513, 12))
    assert (first - source(x, other, silent)).abs().mean() > 0.5
    torch.testing.assert_close(source(x, noise(1, 12 * 256), voiced), source(x, other, voiced))


def test_a_fresh_source_is_noisy_above_and_voiced_below() -> None:
    source = HarmonicSource(8, PITCHES, n_fft=1024, hop=256)
    torch.nn.init.zeros_(source.voice.weight)
    source.start()
    x, pitch = torch.zeros(1, 12, 8), torch.full((1, 12), 150.0)
    change = (source(x, noise(1, 3072), pitch) - source(x, noise(2, 3072)[1:], pitch)).abs().mean((0, 2))
    assert change[: 513 * 4 // BANDS].max() < 0.1 < 0.5 < change[513 * 10 // BANDS :].min()


def test_a_vocoder_speaks_at_the_pitch_it_is_given() -> None:
    with torch.random.fork_rng(devices=[]):
        vocoder = Vocos(VocosConfig(bands=6, dim=16, inner=24, blocks=2, pitches=PITCHES), MelRange(-8.0, -3.0)).eval()
    with torch.no_grad():
        vocoder.head.out.weight.zero_()  # flat magnitudes, no turn
        vocoder.head.out.bias.zero_()
        x = vocoder.features(torch.full((1, 6, 40), -5.0))
        wave = vocoder.speak(x, noise(1, 40 * 256).reshape(1, 256, 40), torch.full((1, 40), 125.0))[0]
    lags = torch.fft.irfft(torch.fft.rfft(wave, 4 * len(wave)).abs().square())[100:400]
    assert lags.argmax() + 100 == 192  # samples of a period


def test_a_seed_says_which_noise() -> None:
    with torch.random.fork_rng(devices=[]):
        vocoder = Vocos(VocosConfig(bands=6, dim=16, inner=24, blocks=2, pitches=PITCHES), MelRange(-8.0, -3.0)).eval()
    mel = torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(1)) - 5
    first, again, other = (vocoder.vocode(mel, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert first.shape == (2, 9 * 256) and torch.equal(first, again) and not torch.equal(first, other)
    with pytest.raises(ValueError, match="takes noise"):
        vocoder(mel)
    assert vocoder.vocode(mel[:, :, :1], torch.Generator()).shape == (2, 256)


def test_phases_on_a_device_without_float64_are_the_same_modulo_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    pitch = torch.tensor([[0.0, 110.0, 120.0, 0.0, 230.0] * 40])

    class OnMPS(torch.Tensor):
        """A tensor that claims to lie there, and refuses what that device cannot."""

        @property
        def device(self) -> Any:
            return SimpleNamespace(type="mps")

        def double(self) -> Tensor:
            raise TypeError("MPS has no float64")

        def cpu(self) -> Tensor:
            return self.as_subclass(torch.Tensor)

    f0_hz = hold(pitch).repeat_interleave(256, dim=1)
    monkeypatch.setattr(Tensor, "to", lambda self, *_: self)
    ours, exact = half_phase(f0_hz.as_subclass(OnMPS)), half_phase(f0_hz)
    assert ours.dtype == torch.float32 and exact.dtype == torch.float64
    assert (torch.sin(ours) - torch.sin(exact)).abs().max() < 1e-5
