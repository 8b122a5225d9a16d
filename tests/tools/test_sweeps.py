"""Every setting is asked of ``chelys eval`` once and compared with the preset; the page tells what was seen."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest


def test_settings_are_run_compared_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sweeps

    from chelys.inference.options import options_for, parse_options

    for _, settings in sweeps.SWEEPS.values():
        for one in settings:
            options_for("fast", **parse_options(one))  # raises what is unknown or out of range
    asked: list[list[str]] = []

    def evaluated(command: list[str], check: bool) -> SimpleNamespace:
        asked.append(command)
        folder = Path(command[command.index("-o") + 1])
        folder.mkdir(parents=True)
        worse = {"wer": {"verdict": "higher, worse"}} if "steps=5" in command else {}
        summary = {"clips": 20, "figures": {"wer": {"value": 0.025}}, "against": worse or None}
        (folder / "summary.json").write_text(json.dumps(summary))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", evaluated)
    monkeypatch.setattr(sweeps, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(sweeps, "PAGE", tmp_path / "page.md")
    for _ in range(2):
        sweeps.main(["run", "--out", str(tmp_path / "runs"), "--only", "steps"])
    assert len(asked) == 7 and "--against" not in asked[0] and all("--against" in one for one in asked[1:])
    sweeps.main(["collect", str(tmp_path / "runs")])
    sweeps.main(["write"])
    page = sweeps.PAGE.read_text()
    assert (
        "| `steps=5` | 0.025 (higher, worse) |" in page and "| `fast` | 0.025 |" in page and "## Samplers" not in page
    )
    with pytest.raises(SystemExit, match="no sweep taste"):
        sweeps.main(["run", "--out", str(tmp_path), "--only", "taste"])
