"""Aligning what was heard with what was expected, case by case as the original did."""

from __future__ import annotations

import json
import os
from pathlib import Path

from chelys.tortoise.redact import align_text

FOLDER = Path(os.environ.get("CHELYS_PARITY_DIR") or Path(__file__).parent)


def test_heard_text_is_aligned_as_in_the_original() -> None:
    cases = json.loads((FOLDER / "codes_cases.json").read_text(encoding="utf8"))["alignment_cases"]
    assert cases
    for case in cases:
        assert align_text(case["heard"], case["expected"]) == case["aligned"], case
