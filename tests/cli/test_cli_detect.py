"""``chelys detect``: the answer for a file, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
import typer
from safetensors.torch import save_file
from typer.testing import CliRunner

from chelys.audio import io
from chelys.cli import tortoise as verb
from chelys.errors import AudioError, ModelError, UserError
from chelys.tortoise import detector as detection
from chelys.tortoise.detector import Detector, DetectorConfig

RATE = 24_000
WINDOW = 20_000  # samples, in place of 220,000
SIZES = {"channels": 8, "stages": 3, "blocks": 1, "dim": 16, "attention_blocks": 1, "heads": 2}


@pytest.fixture(autouse=True)
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert detection.MOST_SAMPLES == 220_000
    monkeypatch.setattr(detection, "MOST_SAMPLES", WINDOW)


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Small, of random weights, but with an opinion."""
    network = Detector(DetectorConfig(**SIZES))
    toy.stir(network, torch.Generator().manual_seed(0))
    return network.eval()


@pytest.fixture
def model(toy_folder: Path, detector: Detector, tmp_path: Path) -> Path:
    """A model folder with a detector."""
    folder = tmp_path / "model"
    shutil.copytree(toy_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "detector": SIZES}))
    save_file(detector.state_dict(), folder / "detector.safetensors")
    return folder


@pytest.fixture
def wave() -> np.ndarray:
    """Two and a half windows that differ."""
    time = np.arange(int(2.5 * WINDOW))
    chirp = np.sin(time * (0.01 + 2e-6 * time)) * np.linspace(0.05, 0.9, len(time))
    return chirp.astype(np.float32)


@pytest.fixture
def run() -> Callable[..., Any]:
    app = typer.Typer()
    app.command("detect", help=verb.DETECT_HELP, epilog=verb.DETECT_EXAMPLE)(verb.detect)

    def invoke(*arguments: str | Path) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


def heard(detector: Detector, wave: np.ndarray) -> float:
    with torch.no_grad():
        return float(detector(torch.from_numpy(wave)[None]).softmax(-1)[0, 0])


# ---------------------------------------------------------------- the detection


def test_windows_cover_the_whole_recording(detector: Detector, wave: np.ndarray) -> None:
    windows = detection.detect(detector, wave)
    spans = [(round(window.start_s * RATE), round(window.end_s * RATE)) for window in windows]
    assert spans[0][0] == 0 and spans[-1][1] == len(wave) and len(spans) == 3
    assert all(stop - start == WINDOW for start, stop in spans)
    assert all(after[0] <= before[1] for before, after in zip(spans, spans[1:], strict=False))
    expected = [heard(detector, wave[start:stop]) for start, stop in spans]
    assert [window.probability for window in windows] == pytest.approx(expected, abs=1e-6)
    assert max(expected) - min(expected) > 1e-3, "the windows must be told apart"


def test_reference_hears_no_more_than_the_original(detector: Detector, wave: np.ndarray) -> None:
    (window,) = detection.detect(detector, wave, reference=True)
    assert window.probability == pytest.approx(heard(detector, wave[:WINDOW]), abs=1e-6)
    assert (window.start_s, window.end_s) == (0.0, WINDOW / RATE)


@pytest.mark.parametrize("samples", [12_000, WINDOW - 1, WINDOW])
def test_a_short_recording_is_one_window(detector: Detector, wave: np.ndarray, samples: int) -> None:
    (window,) = detection.detect(detector, wave[:samples])
    assert window.probability == pytest.approx(heard(detector, wave[:samples]), abs=1e-6)


def test_less_than_half_a_second_is_refused(detector: Detector) -> None:
    with pytest.raises(AudioError, match="0.49 s: give at least 0.5 s"):
        detection.detect(detector, np.zeros(11_800, np.float32))


# ---------------------------------------------------------------- the verb


def test_a_file_is_judged(run: Callable[..., Any], model: Path, detector: Detector, wave: np.ndarray) -> None:
    file = model.parent / "speech.flac"
    io.write(file, wave, RATE)
    stored = io.read(file, RATE)
    expected = float(np.mean([window.probability for window in detection.detect(detector, stored)]))
    result = run(file, "--model", model)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{file}  {expected:.1%} likely made by TorToise  ({len(wave) / RATE:.1f} s analysed)\n"
    answer = json.loads(run(file, "--model", model, "--json").stdout)
    assert answer["probability"] == pytest.approx(expected, abs=1e-4)
    assert answer["file"] == str(file) and answer["seconds"] == pytest.approx(len(wave) / RATE, abs=1e-3)
    assert [window["end_s"] for window in answer["windows"]][-1] == pytest.approx(answer["seconds"], abs=1e-3)
    reference = json.loads(run(file, "--model", model, "--json", "--compat", "reference").stdout)
    assert reference["probability"] == pytest.approx(heard(detector, stored[:WINDOW]), abs=1e-4)
    assert len(reference["windows"]) == 1


@pytest.mark.parametrize("kind", ["empty", "corrupt", "words", "gone"])
def test_what_is_no_recording_is_refused_before_the_model_is_looked_for(
    run: Callable[..., Any], clips: dict[str, Path], kind: str
) -> None:
    result = run(clips[kind], "--model", "nowhere")
    assert isinstance(result.exception, AudioError) and str(clips[kind]) in str(result.exception)
    assert "\n" not in str(result.exception)


def test_nano_has_no_detector_and_says_so(run: Callable[..., Any], clips: dict[str, Path]) -> None:
    result = run(clips["good"], "--model", "nano")
    assert isinstance(result.exception, ModelError)
    assert "'nano' has no detector" in str(result.exception) and "\n" not in str(result.exception)


def test_a_damaged_detector_is_refused(run: Callable[..., Any], model: Path, clips: dict[str, Path]) -> None:
    file = model / "detector.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    result = run(clips["good"], "--model", model)
    assert isinstance(result.exception, ModelError) and "detector.safetensors" in str(result.exception)


def test_an_unknown_compat_is_refused(run: Callable[..., Any], clips: dict[str, Path]) -> None:
    result = run(clips["good"], "--compat", "better")
    assert isinstance(result.exception, UserError) and "repaired or reference" in str(result.exception)


def test_detect_is_a_verb_with_help(invoke: Callable[..., Any]) -> None:
    result = invoke("detect", "--help")
    assert result.exit_code == 0 and "Example: chelys detect" in result.stdout
