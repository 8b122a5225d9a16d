"""``chelys data prepare``: settings come from a file and the command line, mistakes are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_up
import pytest
import typer
from made_up import tree
from typer.testing import CliRunner

from chelys.cli.main import OneLineErrors
from chelys.cli.prepare import EXAMPLE, HELP, prepare
from chelys.data.prepare.metadata import read_clips

SETTINGS = """
segment: {detector: energy}
measure: {classifier: null}
transcribe: {transcriber: "made_up:Listener", model: ""}
"""


@pytest.fixture
def invoke(tmp_path: Path) -> Any:
    app = typer.Typer(cls=OneLineErrors, pretty_exceptions_enable=False)
    app.command("prepare", help=HELP, epilog=EXAMPLE)(prepare)
    app.command("other")(lambda: None)
    (tmp_path / "settings.yaml").write_text(SETTINGS)

    def run(*arguments: str | Path) -> Any:
        return CliRunner().invoke(app, ["prepare", *map(str, arguments)])

    return run


def test_from_a_file_with_changes(invoke: Any, raw: Path, tmp_path: Path) -> None:
    out, common = tmp_path / "out", ("--config", tmp_path / "settings.yaml", "--workers", 1)
    result = invoke(raw, out, "pack.clips=2", *common, "--licence", "CC0")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("6 of 6 clips kept, 0.00 h, of 2 recordings (0 unreadable)")
    assert {c.licence for c in read_clips(out)} == {"CC0"}
    before = tree(out)
    (tmp_path / "rules.yaml").write_text("seconds: {min: 100}\n")
    result = invoke(raw, out, *common, "--rules", tmp_path / "rules.yaml", "--only", "filter", "--licence", "CC0")
    assert result.exit_code == 0 and result.stdout.startswith("0 of 6 clips kept")
    assert tree(out)["shards/index.jsonl"] == before["shards/index.jsonl"]


def test_failures_are_told(invoke: Any, raw: Path, tmp_path: Path) -> None:
    result = invoke(raw, tmp_path / "out", "transcribe.transcriber=made_up:Deaf", "--workers", 1,
                    "--config", tmp_path / "settings.yaml")  # fmt: skip
    assert result.exit_code == 0 and "0 of 6 clips kept" in result.stdout
    assert "failed, to be tried again by the next run: 2 times the worker was killed, twice" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("missing", "out"), "there is no folder missing: give the folder that holds the recordings"),
        (("raw", "out", "--only", "cook"), "there is no stage 'cook': choose of segment"),
        (("raw", "out", "segment.segmenter.pauze=1"), "segment.segmenter.pauze"),
        (("raw", "out", "faster"), "'faster' is not KEY=VALUE"),
        (("raw", "out", "transcribe.candidates=9"), "transcribe.candidates is 9"),
        (("raw", "out", "--rules", "none.yaml"), "cannot read none.yaml"),
        (("raw", "file"), "cannot write to"),
    ],
)
def test_mistakes(
    invoke: Any, raw: Path, tmp_path: Path, arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    result = invoke(*arguments, "--workers", 1, "--config", "settings.yaml")
    assert result.exit_code == 2 and said in result.stderr and len(result.stderr.splitlines()) == 1, result.output
    assert not (tmp_path / "out").exists()


def test_workers_find_what_this_process_finds() -> None:
    assert made_up.__name__ == "made_up", "spawned workers import it by this name"
