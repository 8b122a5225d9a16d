"""Made-up speech is what the tests of ``chelys data prepare`` use, too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "data" / "prepare"))
