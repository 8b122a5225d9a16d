"""Logits to chances against the original, knob by knob."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from chelys.inference.code_sampling import filter_logits
from chelys.inference.options import SpeechOptions

FOLDER = Path(os.environ.get("CHELYS_PARITY_DIR") or Path(__file__).parent)
PLAIN = SpeechOptions(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0)

with safe_open(str(FOLDER / "sampling.safetensors"), "pt") as file:
    CASES = json.loads(file.metadata()["cases"])
    MASSES = json.loads(file.metadata()["typical_masses"])
    NUMBERS = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dictionary


def check(name: str, options: SpeechOptions) -> None:
    logits, ids = NUMBERS["in.logits"], NUMBERS["in.input_ids"]
    said = torch.zeros_like(logits).scatter_add(1, ids, torch.ones(ids.shape))
    chances = filter_logits(logits, said, options).softmax(1)
    assert torch.equal(chances > 0, NUMBERS[f"out.{name.format('kept')}"])
    wanted = NUMBERS[f"out.{name.format('probs')}"]
    assert (chances - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("number", range(len(CASES)))
def test_chances_after_penalty_temperature_top_k_and_top_p(number: int) -> None:
    check(f"{{}}_{number}", replace(PLAIN, **CASES[number]))


@pytest.mark.parametrize("number", range(len(MASSES)))
def test_typical_sampling(number: int) -> None:
    check(f"typical_{{}}_{number}", replace(PLAIN, typical_mass=MASSES[number]))


def test_every_output_is_compared() -> None:
    names = {f"{kind}_{number}" for kind in ("kept", "probs") for number in range(len(CASES))}
    names |= {f"typical_{kind}_{number}" for kind in ("kept", "probs") for number in range(len(MASSES))}
    assert {key.removeprefix("out.") for key in NUMBERS if key.startswith("out.")} == names
