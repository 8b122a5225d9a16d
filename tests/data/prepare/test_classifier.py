"""The clip classifier as `measure` uses it: its folder, any clip, and what is wrong with either."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from chelys.config import to_mapping
from chelys.data.prepare.classifier import (
    CLASSES,
    ClipClassifier,
    ClipClassifierConfig,
    ClipClassifierNetwork,
    _windows,
    load_classifier,
)
from chelys.errors import AudioError, ModelError
from chelys.weights.tensor_file import sha256

RATE = 24_000
SMALL = ClipClassifierConfig(channels=(4, 8), dim=16, attention_blocks=1, heads=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    found = tmp_path / "classifier"
    found.mkdir()
    weights = {name: tensor.half().contiguous() for name, tensor in ClipClassifierNetwork(SMALL).state_dict().items()}
    save_file(weights, found / "classifier.safetensors")
    (found / "config.json").write_text(json.dumps({"classes": CLASSES, "network": to_mapping(SMALL)}))
    return found


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE)).astype(np.float32)


def test_what_is_saved_is_loaded(folder: Path) -> None:
    torch.manual_seed(0)
    network = ClipClassifierNetwork(SMALL).eval()
    heard = ClipClassifier.load(folder).classify(sound(2))
    assert tuple(heard) == CLASSES
    faults = [heard[name] for name in CLASSES[1:]]
    assert heard["clean"] == pytest.approx(1 - max(faults))
    expected = network.probabilities(torch.from_numpy(sound(2))[None])[0]
    np.testing.assert_allclose(faults, expected, atol=2e-3)  # weights lie in float16
    assert load_classifier(folder)(sound(2), RATE) == heard
    assert {p.name for p in folder.iterdir()} == {"config.json", "classifier.safetensors"}


@pytest.mark.parametrize("seconds", [0.01, 0.5, 0.99, 1.0, 3.999, 4.001, 20.0])
def test_any_length(folder: Path, seconds: float) -> None:
    heard = ClipClassifier.load(folder).classify(sound(seconds))
    assert all(0 <= probability <= 1 for probability in heard.values())


def test_other_rates(folder: Path) -> None:
    time = np.arange(2 * RATE) / RATE
    high, low = (np.sin(2 * np.pi * 440 * time[: 2 * rate] * RATE / rate) for rate in (RATE, 16_000))
    classifier = load_classifier(folder)
    at_own, resampled = classifier(high.astype(np.float32), RATE), classifier(low.astype(np.float32), 16_000)
    assert resampled == pytest.approx(at_own, abs=0.02)


def test_windows_cover_everything_evenly() -> None:
    wave = np.arange(10 * RATE + 7, dtype=np.float32)
    windows = _windows(wave)
    assert windows.shape == (3, 4 * RATE) and windows[0, 0] == 0 and windows[-1, -1] == wave[-1]
    assert set(windows.ravel().tolist()) == set(wave.tolist())
    assert _windows(wave[: 3 * RATE]).shape == (1, 3 * RATE)


def test_a_fault_in_a_part_of_a_clip_is_not_thinned_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = ClipClassifier.load(folder)
    faults = torch.tensor([[0.1, 0.9, 0, 0, 0], [0.1, 0.7, 0, 0, 0], [0.1, 0.1, 0, 0, 0], [0.3, 0.1, 0, 0, 0]])
    monkeypatch.setattr(classifier.network, "probabilities", lambda wave: faults[: len(wave)])
    heard = classifier.classify(sound(16))
    assert heard["music"] == pytest.approx(0.8) and heard["noise"] == pytest.approx(0.2)
    assert heard["clean"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    "wave", [np.zeros(0, np.float32), np.full(9, np.nan, np.float32), np.zeros((2, 9), np.float32)]
)
def test_what_is_no_clip(folder: Path, wave: np.ndarray) -> None:
    with pytest.raises(AudioError, match="a clip must be one channel of finite samples"):
        ClipClassifier.load(folder).classify(wave)


def test_silence_is_no_mistake(folder: Path) -> None:
    assert all(
        np.isfinite(value) for value in ClipClassifier.load(folder).classify(np.zeros(RATE, np.float32)).values()
    )


def test_missing_and_damaged_folders(folder: Path, tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(ModelError) as caught:
            ClipClassifier.load(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert f"no clip classifier in {tmp_path / 'nowhere'}" in refused(tmp_path / "nowhere")
    config, weights = folder / "config.json", folder / "classifier.safetensors"
    good = json.loads(config.read_text())
    config.write_text(json.dumps({**good, "network": good["network"] | {"dim": 32}}))
    assert "does not fit config.json" in refused(folder)
    config.write_text(json.dumps({**good, "network": good["network"] | {"width": 32}}))
    assert "network" in refused(folder) or "width" in refused(folder)
    for broken in ("{", "[]", "{}"):
        config.write_text(broken)
        assert "config.json is damaged" in refused(folder)
    config.write_text(json.dumps(good))
    os.truncate(weights, weights.stat().st_size - 10)
    assert "classifier.safetensors" in refused(folder)
    weights.unlink()
    assert "classifier.safetensors" in refused(folder)


# ---- the one inside the package -------------------------------------------------------------------------------------


def test_the_shipped_classifier_is_whole_and_small() -> None:
    folder = Path(str(resources.files("chelys") / "assets" / "classifier"))
    config = json.loads((folder / "config.json").read_text())
    assert tuple(config["classes"]) == CLASSES and config["license"] == "Apache-2.0"
    assert config["sha256"] == sha256(folder / "classifier.safetensors")
    assert (folder / "classifier.safetensors").stat().st_size < 2_000_000
    assert "license: apache-2.0" in (folder / "README.md").read_text()
