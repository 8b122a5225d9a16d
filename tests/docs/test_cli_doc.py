"""docs/cli.md is that of today's commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_that_of_today() -> None:
    paths = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    made = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "make_cli_docs.py"), "--check"], env=os.environ | {"PYTHONPATH": paths}
    )
    assert made.returncode == 0, "run: python tools/make_cli_docs.py"
