"""``chelys bench`` on a model made by code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chelys.cli.main import app


def test_every_part_and_preset_is_measured(
    toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("chelys.inference.bench.peaks", lambda device, dtype: (1e9, 1e10))
    file = tmp_path / "bench.json"
    asked = ["bench", "--model", str(toy_folder), "--device", "cpu", "-p", "ultra_fast", "--repeats", "1"]
    app([*asked, "--threads", "1", "--json", str(file)], standalone_mode=False)
    found = json.loads(file.read_text())
    assert [row["part"] for row in found["parts"]] == [
        "a code of 4 x 8, float32 weights", "latents of 90", "ranking of 8", "guided step, 360 frames",
        "vocoder, 360 frames",
    ]  # fmt: skip
    for row in found["parts"]:
        assert row["seconds"] > 0 and row["naive_seconds"] > 0 and row["operations"] > 1e5
        assert row["floor"] == max(row["operations"] / 1e9, row["read"] / 1e10)
        assert row["difference"] is None or row["difference"] < 1e-4
    assert found["threads"] == 1 and found["dtype"] == "float32"
    assert [row["preset"] for row in found["presets"]] == ["ultra_fast"] and found["presets"][0]["cpu"] > 0
    printed = capsys.readouterr().out
    assert "guided step, 360 frames" in printed and "for a second of speech" in printed
