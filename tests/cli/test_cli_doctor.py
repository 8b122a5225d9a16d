"""``chelys doctor``: what it shows, and that one part that fails does not hide the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from chelys.cli.main import app


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)])


def test_a_sound_machine_has_no_problems(toy_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHELYS_VOICES", str(tmp_path / "shelf"))
    done = run("--model", toy_folder, "--json", "--device", "cpu")
    report = json.loads(done.stdout)
    assert done.exit_code == 0 and report["problems"] == []
    assert list(report) == ["versions", "devices", "threads", "folders", "test", "problems"]
    assert report["versions"]["torch"] and report["devices"]["auto"].split(",")[0] in ("cpu", "cuda", "mps")
    assert report["threads"]["chelys takes"] >= 1 and report["folders"]["your voices"] == f"{tmp_path / 'shelf'} (0)"
    assert "s of sound in" in report["test"]["speaking"]
    assert not (tmp_path / "shelf").exists()  # it looks and leaves nothing


def test_a_part_that_fails_is_a_problem_and_hides_nothing(tmp_path: Path) -> None:
    done = run("--model", tmp_path / "gone")
    lines = done.stdout.splitlines()
    assert done.exit_code == 1 and lines[0] == "versions" and "threads" in lines
    assert lines[-1].startswith("problems: folders: no model") and "test: no model" in lines[-1]
