"""The tools are scripts, so their folders must be on the path; the planner is tested on the runs of tests/training."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tools" / folder) for folder in ("", "clip_classifier", "front_end", "memory_planner")]

_spec = importlib.util.spec_from_file_location("training_conftest", ROOT / "tests" / "training" / "conftest.py")
assert _spec and _spec.loader
_fixtures = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _fixtures  # dataclasses look their module up
_spec.loader.exec_module(_fixtures)
globals().update({name: value for name, value in vars(_fixtures).items() if not name.startswith("_")})
