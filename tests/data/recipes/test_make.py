"""What holds for every recipe: where the manifest goes, what is refused, and the verb."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf
from typer.testing import CliRunner

from chelys.audio.io import duration
from chelys.cli.main import app
from chelys.data.manifest import read_manifest
from chelys.data.recipes.corpora import make_manifest
from chelys.deprecation import ChelysDeprecationWarning
from chelys.errors import AudioError, ManifestError


@pytest.fixture
def clips(put: Callable[..., Path]) -> None:
    for name in ("a", "b"):
        put(f"{name}.wav")
        put(f"{name}.txt", f"This is {name}.")


def test_nothing_left_is_an_error_and_leaves_nothing(corpus: Path, put: Callable[..., Path], tmp_path: Path) -> None:
    put("metadata.csv", "gone|Gone.|Gone.\n")
    with pytest.raises(ManifestError, match=r"no usable clip in .*: 1 left out, the first: wavs/gone.wav: there is no"):
        make_manifest("ljspeech", corpus, tmp_path / "made")
    assert not (tmp_path / "made").exists()
    put("metadata.csv", "")
    with pytest.raises(ManifestError, match="no usable clip in .*: 0 left out$"):
        make_manifest("folder", corpus, tmp_path / "made" / "m.jsonl")


@pytest.mark.parametrize(
    ("name", "source", "says"), [("lj", ".", "choose from ljspeech"), ("folder", "gone", "no folder")]
)
def test_refused(name: str, source: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=says):
        make_manifest(name, tmp_path / source, tmp_path / "made")


def test_a_folder_gets_a_manifest_and_a_clean_run_has_no_list_of_faults(
    clips: None, corpus: Path, put: Callable[..., Path], tmp_path: Path
) -> None:
    put("mute.wav")
    out = tmp_path / "made"
    seen: list[tuple[int, int]] = []
    made = make_manifest("folder", corpus, out, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    assert made.manifest == out / "manifest.jsonl" and made.left_out == {"no transcript": 1}
    assert made.faults == out / "manifest.left_out.jsonl" and made.faults.is_file()
    put("mute.txt", "No more.")
    assert make_manifest("folder", corpus, out).faults is None
    assert os.listdir(out) == ["manifest.jsonl"]


def test_paths_hold_through_links_to_folders(clips: None, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "near").symlink_to(tmp_path / "far" / "away")
    (tmp_path / "short").symlink_to(corpus)
    made = make_manifest("folder", tmp_path / "short", tmp_path / "near")
    assert all(Path(u.audio).is_file() for u in read_manifest(made.manifest))
    assert {u.speaker for u in read_manifest(made.manifest)} == {"short"}


def test_seconds_are_measured_where_the_header_lies(put: Callable[..., Path]) -> None:
    for name in ("a.wav", "a.flac", "a.ogg"):
        assert duration(put(name, 1.5)) == pytest.approx(1.5)
    assert duration(put("a.mp3", 1.5, 44_100)) == pytest.approx(1.5, abs=0.1)
    with pytest.raises(AudioError):
        duration(put("words.flac", "words"))


def test_the_verb(clips: None, corpus: Path, put: Callable[..., Path], tmp_path: Path) -> None:
    put("mute.wav")
    result = CliRunner().invoke(app, ["data", "recipe", "folder", str(corpus), str(tmp_path / "m.jsonl")])
    assert result.exit_code == 0 and result.stdout == f"{tmp_path / 'm.jsonl'}\n"
    assert result.stderr == (
        f"2 clips, 0.00 h, 1 speakers from {corpus}; 1 left out (1 no transcript), "
        f"listed in {tmp_path / 'm.left_out.jsonl'}\n"
    )
    refused = CliRunner().invoke(app, ["data", "recipe", "lj", str(corpus), str(tmp_path / "n.jsonl")])
    assert refused.exit_code == 2 and "choose from ljspeech" in refused.stderr and "synthetic" in refused.stderr


def test_the_synthetic_recipe_speaks_a_file_of_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def make(recipe: Any, *, progress: Any = None) -> Path:
        made.append(recipe)
        return tmp_path / "manifest.jsonl"

    monkeypatch.setattr("chelys.data.recipes.synthetic.make", make)
    (tmp_path / "sentences.txt").write_text("Calm moon.\n\nSlow polo.\n")
    result = CliRunner().invoke(
        app, ["data", "recipe", "synthetic", str(tmp_path / "sentences.txt"), str(tmp_path / "out")]
    )
    assert result.exit_code == 0 and result.stdout == f"{tmp_path / 'manifest.jsonl'}\n"
    (recipe,) = made
    assert (recipe.clips, recipe.out, recipe.text) == (2, tmp_path / "out", tmp_path / "sentences.txt")


def test_the_manifest_is_json_that_the_reader_knows(clips: None, corpus: Path, tmp_path: Path) -> None:
    made = make_manifest("folder", corpus, tmp_path / "m.jsonl")
    for utterance, line in zip(read_manifest(made.manifest), made.manifest.read_text().splitlines(), strict=True):
        assert json.loads(line)["id"] == utterance.id and sf.info(utterance.audio).frames == 4000


def test_old_module_names() -> None:
    with pytest.warns(ChelysDeprecationWarning):
        assert import_module("chelys.data.recipes.make").make_manifest is make_manifest
        assert import_module("chelys.data.recipes.teachers").VOICE_SIZES["heart"] == (1.0, 0.52)
