"""Scripts for node with packages of npm, for tests that need a browser or another client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


def install(folder: Path, *packages: str) -> Path:
    """Install packages below a folder; skips the test without npm or the registry."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    (folder / "package.json").write_text("{}")
    done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", *packages], cwd=folder, capture_output=True)
    if done.returncode:
        pytest.skip(f"npm: {done.stderr[-200:]!r}")
    return folder / "node_modules"


def run(script: Path, modules: Path, *arguments: object) -> dict[str, Any]:
    """What a script prints, one JSON object."""
    command = ["node", str(script), *map(str, arguments)]
    environment = {**os.environ, "NODE_PATH": str(modules)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def require_chromium() -> None:
    """Skip the test without a browser."""
    if not Path(os.environ.get("CHROMIUM", "/usr/bin/chromium")).exists():
        pytest.skip("needs chromium")
