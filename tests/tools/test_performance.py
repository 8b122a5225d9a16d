"""docs/performance.md: its tables of ``chelys bench`` are those of the results that are kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import performance  # noqa: E402


def test_the_page_is_current() -> None:
    page = performance.PAGE.read_text(encoding="utf8")
    results = performance.read_results()
    assert {block[1] for block in performance.BLOCK.findall(page)} == set(results) <= set(performance.RUNS)
    assert performance.renewed(page, results) == page, "run: python tools/performance.py write"


def test_the_roofline_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = performance.read_results()
    performance.draw(results, tmp_path / "roofline.svg")
    drawn = (tmp_path / "roofline.svg").read_text(encoding="utf8")
    assert drawn.count('<g id="axes_') == len(results) and drawn.startswith("<?xml")
