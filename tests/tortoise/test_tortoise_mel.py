"""The published front ends against numbers that the original gave for a wave anyone can make."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from chelys.audio.mel import log_mel
from chelys.audio.rates import MEL_22K, MEL_24K
from chelys.audio.resample import can_resample, sinc_resample
from chelys.tortoise.mel import CODE_CLIP_SAMPLES, DIFFUSION_CLIP_SAMPLES, MEL_NORMS, code_mel, diffusion_mel


@pytest.fixture(scope="module")
def wave() -> Tensor:
    """Two tones and a sweep, seven seconds at 22.05 kHz."""
    time = torch.arange(154_350, dtype=torch.float64) / 22_050
    tones = 0.5 * torch.sin(2 * math.pi * 440 * time) + 0.1 * torch.sin(2 * math.pi * 3000 * time)
    return (tones + 0.05 * torch.sin(2 * math.pi * 117 * time**2)).float()[None]


def summary(values: Tensor) -> tuple[float, float]:
    return values.mean().item(), values.std(unbiased=False).item()


def test_80_bands_of_the_first_six_seconds(wave: Tensor) -> None:
    mel = code_mel(wave[:, :CODE_CLIP_SAMPLES])
    assert mel.shape == (1, 80, 517) and CODE_CLIP_SAMPLES == 132_300
    assert summary(mel) == pytest.approx((1.6307486, 1.2587907), abs=1e-5)
    expected = (1.642484, 2.827166, -0.065339, 1.821804, 1.457440, 1.214157)
    assert mel[0, [0, 10, 20, 40, 60, 79], 250].tolist() == pytest.approx(expected, abs=1e-4)


def test_resampling_to_24_khz(wave: Tensor) -> None:
    out = sinc_resample(wave, 22_050, 24_000)
    assert out.shape == (1, 168_000)
    assert summary(out) == pytest.approx((1.644868e-4, 0.3620949), abs=1e-6)
    expected = (-0.4795113, -0.4318073, -0.4187358, -0.4572512)
    assert out[0, 50_000:50_004].tolist() == pytest.approx(expected, abs=1e-5)


def test_100_bands_of_the_first_four_seconds(wave: Tensor) -> None:
    mel = diffusion_mel(sinc_resample(wave, 22_050, 24_000)[:, :DIFFUSION_CLIP_SAMPLES])
    assert mel.shape == (1, 100, 401) and DIFFUSION_CLIP_SAMPLES == 102_400
    assert summary(mel) == pytest.approx((-9.0567532, 3.3929477), abs=2e-4)  # the quietest bins differ by 7e-3
    expected = (-8.189212, -2.469729, -7.326944, -8.164915, -0.929402, -11.512925)
    assert mel[0, [0, 10, 20, 40, 60, 99], 200].tolist() == pytest.approx(expected, abs=1e-3)


def test_silence_is_the_floor_over_the_norms() -> None:
    mel = code_mel(torch.zeros(1, 4096))
    assert mel.shape == (1, 80, 17) and len(MEL_NORMS) == 80 and max(MEL_NORMS) < 0
    torch.testing.assert_close(mel[0], (math.log(1e-5) / torch.tensor(MEL_NORMS))[:, None].expand(80, 17))
    assert mel[0, 0, 0].item() == pytest.approx(1.6425, abs=1e-4)


def test_the_two_front_ends_differ_in_power_scale_and_clipping(wave: Tensor) -> None:
    assert code_mel(2 * wave)[0, 10, 250] < code_mel(wave)[0, 10, 250]  # negative norms: loud is low
    louder = log_mel(2 * wave, MEL_22K) - log_mel(wave, MEL_22K), log_mel(2 * wave, MEL_24K) - log_mel(wave, MEL_24K)
    assert louder[0].max().item() == pytest.approx(math.log(4), abs=1e-3)  # of powers
    assert louder[1].max().item() == pytest.approx(math.log(2), abs=1e-3)  # of magnitudes
    torch.testing.assert_close(diffusion_mel(9 * wave), diffusion_mel((9 * wave).clamp(-1, 1)), rtol=0, atol=0)


# ---------------------------------------------------------------- resampling


@pytest.mark.parametrize(
    ("source_rate", "rate"), [(24_000, 22_050), (44_100, 22_050), (48_000, 22_050), (8_000, 24_000)]
)
def test_resampling_keeps_a_tone_below_the_band_edge_and_drops_one_above(source_rate: int, rate: int) -> None:
    def tone(hertz: float, at: int) -> Tensor:
        return torch.sin(2 * math.pi * hertz * torch.arange(at // 2, dtype=torch.float64) / at).float()[None]

    kept = sinc_resample(tone(1000.0, source_rate), source_rate, rate)
    assert kept.shape == (1, rate // 2)
    torch.testing.assert_close(kept[:, 500:-500], tone(1000.0, rate)[:, 500:-500], rtol=0, atol=4e-3)
    if source_rate > 40_000:
        assert sinc_resample(tone(15_000.0, source_rate), source_rate, rate)[:, 500:-500].abs().max() < 1e-2


def test_resampled_lengths_are_rounded_up_and_an_equal_rate_changes_nothing() -> None:
    for samples in (1, 146, 147, 148, 1000, 33_075):
        out = sinc_resample(torch.ones(2, samples), 22_050, 24_000)
        assert out.shape == (2, math.ceil(samples * 160 / 147))
    wave = torch.ones(1, 100)
    assert sinc_resample(wave, 24_000, 24_000) is wave


def test_rates_whose_filter_would_fill_the_memory_are_known() -> None:
    assert all(can_resample(rate, 22_050) for rate in (8_000, 11_025, 16_000, 24_000, 32_000, 44_100, 48_000, 96_000))
    assert not can_resample(44_099, 22_050)
