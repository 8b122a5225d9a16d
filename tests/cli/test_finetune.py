"""``chelys finetune``: from a folder of clips to a model that speaks in the voice, and what it refuses in one line."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import chelys
from chelys.cli.main import app
from chelys.inference.voice import Voice

sys.path.insert(0, str(Path(__file__).parents[1]))

import toy_voice  # noqa: E402

QUICK = [
    "sentences=8", "threads=1", "precision=float32",
    *(f"{decoder}.{setting}" for decoder in ("autoregressive", "diffusion")
      for setting in ("steps=2", "evaluate_every=1", "budget=400", "base_rise=9")),
]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_voice.make_model(tmp_path_factory.mktemp("finetune") / "toy")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_voice.make_clips(tmp_path_factory.mktemp("finetune") / "clips")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr("chelys.training.finetune.SENTENCES", ("One. Two. One. Two. One. Two.",))  # with pauses
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return lambda *arguments: CliRunner().invoke(app, ["finetune", *map(str, arguments)])


def test_it_speaks_in_the_new_voice_and_in_the_old_ones(run: Callable[..., Any], base: Path, clips: Path) -> None:
    result = run(clips, "--name", "mary", "--model", base, *QUICK)
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout == "mary-model\n"
    lines = result.stderr.splitlines()
    during = [line for line in lines if line.startswith("autoregressive: step ")]
    assert len(during) == 3 and all("held-out voice" in line and "held-out base" in line for line in during)
    head, first, second = lines[6:9]
    assert head.split("  ")[0] == "decoder" and "loss on the voice" in head and "loss on the base" in head
    assert first.startswith("autoregressive") and second.startswith("diffusion") and " of 2" in first

    before, after = chelys.load(str(base)), chelys.load("mary-model")
    assert after.voice_names == ["mary", "low"]
    fingerprint = after.model.config.fingerprint
    assert fingerprint != before.model.config.fingerprint
    assert {voice.model for voice in after.voices.values()} == {fingerprint}
    old = after.voices["low"]
    assert torch.equal(old.diffusion, before.voices["low"].diffusion)
    heard = [tts.resolve_voice(replace(old, model="another")) for tts in (before, after)]  # made anew of its clips
    assert torch.equal(heard[0].autoregressive, heard[1].autoregressive)
    assert torch.equal(heard[0].diffusion, heard[1].diffusion)
    assert after.voices["mary"].clips
    speech = after.speak("Hello there.", voice="mary", seed=1)
    assert speech.seconds > 0 and speech.receipt["voice"] == "mary"
    assert after.speak("Hello there.", seed=1).receipt["voice"] == "mary"
    assert after.speak("Hello there.", voice="low", seed=1).seconds > 0
    assert "mary" in Path("mary-model/README.md").read_text()
    assert Voice.load(Path("mary-model/voices/mary.safetensors")).info["sources"] == [
        "8 clips that the model was adapted to"
    ]


def test_all_weights(run: Callable[..., Any], base: Path, clips: Path) -> None:
    result = run(clips, "--name", "mary", "--model", base, "--all", "--out", "m", *QUICK, "diffusion.steps=0")
    assert result.exit_code == 0, (result.output, result.exception)
    new, old = (load_file(folder / "autoregressive.safetensors") for folder in (Path("m"), base))
    changed = {name for name in new if not torch.equal(new[name], old[name])}
    assert "code_embedding.weight" in changed and not any("conditioning_encoder" in name for name in changed)
    diffusion = "diffusion.safetensors"
    assert (Path("m") / diffusion).read_bytes() == (base / diffusion).read_bytes()


def test_the_decoder_that_reads_may_be_left_alone(run: Callable[..., Any], base: Path, clips: Path) -> None:
    result = run(clips, "--name", "mary", "--model", base, "--out", "m", *QUICK, "autoregressive.steps=0")
    assert result.exit_code == 0, (result.output, result.exception)
    file = "autoregressive.safetensors"
    assert (Path("m") / file).read_bytes() == (base / file).read_bytes()
    mary, low = (Voice.load(f"m/voices/{name}.safetensors") for name in ("mary", "low"))
    assert mary.about["speaker_blend"] == {"low": 0.7} and not torch.equal(mary.autoregressive, low.autoregressive)
    assert not torch.equal(mary.diffusion, low.diffusion)


def refuse(result: Any, *said: str) -> None:
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("chelys: error: "), result.stderr
    assert all(part in lines[0] for part in said), lines[0]
    assert list(Path.cwd().iterdir()) == []


def test_no_transcripts(run: Callable[..., Any], base: Path, clips: Path, tmp_path: Path) -> None:
    shutil.copytree(clips / "wavs", tmp_path / "wavs")
    refuse(run(tmp_path / "wavs", "--name", "mary", "--model", base), "no usable clip", "metadata.csv as NAME|TEXT")


def test_too_little_speech(run: Callable[..., Any], base: Path, tmp_path: Path) -> None:
    few = toy_voice.make_clips(tmp_path / "few", 3)
    refuse(run(few, "--name", "mary", "--model", base), "3 usable clips", "8 clips and 10 s at the least")


def test_no_such_folder(run: Callable[..., Any], base: Path) -> None:
    refuse(run("nowhere", "--name", "mary", "--model", base), "no folder or manifest at nowhere")


@pytest.mark.parametrize("name", ["../mary", "a b", "", "random", "x" * 65])
def test_names_that_are_no_names(run: Callable[..., Any], base: Path, clips: Path, name: str) -> None:
    refuse(run(clips, "--name", name, "--model", base), f"a voice cannot be called {name!r}")


def test_a_voice_that_is_there(run: Callable[..., Any], base: Path, clips: Path) -> None:
    refuse(run(clips, "--name", "low", "--model", base), "'low' is a voice of toy already")


def test_an_output_that_is_there(run: Callable[..., Any], base: Path, clips: Path) -> None:
    result = run(clips, "--name", "mary", "--model", base, "--out", base)
    refuse(result, f"{base} exists: choose another folder")


def test_a_model_without_a_vqvae(run: Callable[..., Any], toy_folder: Path, clips: Path) -> None:
    refuse(run(clips, "--name", "mary", "--model", toy_folder), "has no VQ-VAE")


@pytest.mark.parametrize(
    "setting", ["diffusion.stepz=3", "steps=3", "diffusion=3", "diffusion.steps", "autoregressive.a.b=1"]
)
def test_settings_that_are_none(run: Callable[..., Any], base: Path, clips: Path, setting: str) -> None:
    refuse(run(clips, "--name", "mary", "--model", base, setting), repr(setting), "is no setting", "diffusion.steps")


def test_values_that_are_none(run: Callable[..., Any], base: Path, clips: Path) -> None:
    refuse(run(clips, "--name", "mary", "--model", base, "diffusion.steps=many"), "diffusion.steps")
    refuse(run(clips, "--name", "mary", "--model", base, "--all", "--lora", "4"), "--lora and --all exclude each other")


def test_another_run_in_its_place(run: Callable[..., Any], base: Path, clips: Path) -> None:
    Path("m.work").mkdir()
    Path("m.work/finetune.json").write_text("{}")
    result = run(clips, "--name", "mary", "--model", base, "--out", "m")
    assert result.exit_code == 2 and "m.work is of a run with other clips or settings" in result.stderr
    assert Path("m.work/finetune.json").read_text() == "{}"
