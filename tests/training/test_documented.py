"""docs/training.md names every figure that a run logs, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chelys.training.run_stage import run_stage
from chelys.training.tasks import RUNS

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
#: What makes a short run do all that a stage can.
SECTIONS: dict[str, dict[str, Any]] = {
    "dvae": {"stage": {"start_at": 1, "revive_every": 1}},
    "vocoder": {"stage": {"discriminator_start": 1, "stft": 1.0}, "network": {"pitches": 72}},
    "hifigan": {"stage": {"stft": 1.0}},
    "clvp": {"network": {"frames_per_token": 2}},
    "diffusion": {"network": {"learned_variance": True, "prediction": "epsilon"}},
}


def documented() -> dict[str, set[str]]:
    """Task to the metrics that the page's table has for it; ``every`` stage has the first row's."""
    (table,) = re.findall(r"<!-- metrics -->\n(.*?)<!-- /metrics -->", PAGE.read_text("utf8"), re.S)
    rows = [line.split("|")[1:-1] for line in table.splitlines()[2:]]
    return {row[0].strip(" `"): {key for cell in row[1:4] for key in re.findall(r"`([^`]+)`", cell)} for row in rows}


def test_every_stage_has_its_row() -> None:
    assert documented().keys() == {*RUNS, "every stage"}


@pytest.mark.parametrize("stage", RUNS)
def test_the_figures_of_a_stage(config_file: Callable[..., Path], tmp_path: Path, stage: str) -> None:
    loop = {"steps": 2, "evaluate_every": 2, "checkpoint_every": 2}
    sections = SECTIONS.get(stage, {})
    run_stage(stage, config_file(stage, **sections | {"loop": loop}))
    lines = (tmp_path / "run" / "log.jsonl").read_text("utf8").splitlines()
    logged = {key for line in lines for key in json.loads(line)}
    common = {"step", "learning_rate", "seconds_per_step"} | {key for key in logged if re.search(r"_grad_norm$", key)}
    assert logged - common == documented()[stage], f"{sorted(logged - common)}"
