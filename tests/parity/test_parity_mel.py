"""The front ends of the original: its mels, its filter banks and its resampling."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from chelys.audio.mel import PUBLISHED_MEL_RANGE, log_mel, mel_filters
from chelys.audio.rates import MEL_22K, MEL_24K
from chelys.audio.resample import sinc_resample
from chelys.tortoise.mel import code_mel, diffusion_mel

FOLDER = Path(os.environ.get("CHELYS_PARITY_DIR") or Path(__file__).parent)
LOOSE = 1e-3  # absolute: logarithms of small powers, and a filter of another library


@pytest.fixture(scope="module")
def theirs() -> dict[str, Tensor]:
    return load_file(FOLDER / "mel_frontends.safetensors")


def check(ours: Tensor, theirs: Tensor, tolerance: float | None = None) -> None:
    """Within an absolute tolerance, or 1e-4 of the largest value."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    limit = 1e-4 * theirs.abs().max().item() if tolerance is None else tolerance
    distance = (ours - theirs).abs().max().item()
    assert distance <= limit, f"off by {distance:.3g}, {limit:.3g} is allowed"


def test_filter_banks(theirs):
    check(mel_filters(MEL_22K).T, theirs["out.mel80_filterbank"])
    check(mel_filters(MEL_24K), theirs["out.mel100_filterbank"])


def test_mel_of_80_bands(theirs):
    check(log_mel(theirs["in.wave_22050"], MEL_22K), theirs["out.mel80"], LOOSE)


def test_mel_of_80_bands_divided_by_norms(theirs):
    check(code_mel(theirs["in.wave_22050"], theirs["in.mel_norms"]), theirs["out.mel80_normed"], LOOSE)


def test_mel_of_100_bands(theirs):
    check(diffusion_mel(theirs["in.wave_24000"]), theirs["out.mel100"])


def test_mel_of_100_bands_in_the_units_of_the_diffusion_decoder(theirs):
    ours = PUBLISHED_MEL_RANGE.normalize(diffusion_mel(theirs["in.wave_24000"]))
    check(ours, theirs["out.mel100_normalised"])


def test_resampling(theirs):
    check(sinc_resample(theirs["in.wave_22050"], 22_050, 24_000), theirs["out.resampled_24000"], LOOSE)


def test_a_loud_wave_is_clipped_before_its_100_bands_are_taken(theirs):
    loud = theirs["in.wave_24000"] * (4 / theirs["in.wave_24000"].abs().max())
    torch.testing.assert_close(diffusion_mel(loud), diffusion_mel(loud.clamp(-1, 1)), rtol=0, atol=0)
    assert (diffusion_mel(loud) - log_mel(loud, MEL_24K)).abs().max() > 0.1
