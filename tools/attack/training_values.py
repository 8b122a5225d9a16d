"""Settings of small runs on the corpus of the tests, a stage each, which the attack then damages."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from toy_corpus import LOOP, MEL_RANGE, ToyCorpus

_TESTS = Path(__file__).parents[2] / "tests" / "training" / "conftest.py"
_spec = importlib.util.spec_from_file_location("training_conftest", _TESTS)
assert _spec is not None and _spec.loader is not None
_tests = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _tests
_spec.loader.exec_module(_tests)


def values(toy: ToyCorpus, run: Path) -> dict[str, dict[str, Any]]:
    """Stage to its settings; the run is of one step."""
    made: dict[str, dict[str, Any]] = {}
    for stage in ("dvae", "vocoder", "autoregressive", "diffusion", "clvp"):
        made[stage] = {
            "run": str(run), "features": str(toy.features),
            "mel_range": {"low": MEL_RANGE.low, "high": MEL_RANGE.high},
            "network": dict(_tests.NETWORKS[stage]), "stage": dict(_tests.STAGES.get(stage, {})),
            "loop": LOOP | {"steps": 1, "evaluate_every": 1, "checkpoint_every": 1},
        }  # fmt: skip
        if stage not in ("dvae", "vocoder"):
            made[stage] |= toy.paths() | {"pairs": {"budget": 120, "reference_frames": 32}}
        if stage == "diffusion":
            made[stage] |= {"decoder_network": _tests.DECODER}
    return made
