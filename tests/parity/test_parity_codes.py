"""Rows of codes, their length as mel, and the range of the mel, against the original."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from chelys.audio.mel import PUBLISHED_MEL_RANGE
from chelys.audio.rates import HOP, PUBLISHED_CODE_RATE, mel_frames
from chelys.tortoise.model import SilenceTrimming

FOLDER = Path(os.environ.get("CHELYS_PARITY_DIR") or Path(__file__).parent)
CASES = json.loads((FOLDER / "codes_cases.json").read_text(encoding="utf8"))


@pytest.mark.parametrize("case", CASES["code_cases"], ids=lambda case: str(len(case["codes"])))
def test_clean_rows_and_where_they_are_cut(case: dict[str, Any]) -> None:
    row, stop = case["codes"], case["stop_token"]
    rules = replace(SilenceTrimming(), length=len(row))
    said = row[: row.index(stop)] if stop in row else row
    cleaned = rules.padded(torch.tensor(said, dtype=torch.long))
    assert cleaned.tolist() == case["fixed"]
    end = len(row) if case["latents_cut_at"] is None else case["latents_cut_at"]
    assert rules.end(cleaned) == end
    assert rules.trimmed(torch.tensor(said, dtype=torch.long)).tolist() == case["fixed"][:end]


@pytest.mark.parametrize("case", CASES["length_cases"], ids=lambda case: str(case["latent_frames"]))
def test_length_of_the_mel(case: dict[str, int]) -> None:
    frames = mel_frames(case["latent_frames"], PUBLISHED_CODE_RATE)
    assert (frames, frames * HOP) == (case["mel_frames"], case["samples"])


@pytest.mark.parametrize("case", CASES["denormalize_cases"], ids=lambda case: str(case["x"]))
def test_range_of_the_mel(case: dict[str, float]) -> None:
    ours = PUBLISHED_MEL_RANGE.denormalize(torch.tensor(case["x"], dtype=torch.float64)).item()
    assert ours == pytest.approx(case["y"], rel=1e-6)
