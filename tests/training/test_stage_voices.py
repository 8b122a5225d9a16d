"""The stages about who speaks: CVVP, the voice priors, the detector."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
import toy_corpus

from chelys.data.manifest import Utterance, read_manifest, write_manifest
from chelys.errors import ConfigError, ManifestError
from chelys.tortoise.detector import SYNTHETIC
from chelys.tortoise.tasks import REAL, mean_loss, mmd, variance_loss
from chelys.training.task import Task

Build = Callable[..., Task]
Learn = Callable[..., list[dict[str, Any]]]


# ---- cvvp -----------------------------------------------------------------------------------------------------------


def test_cvvp_learns_a_batch(build: Build, learn: Learn) -> None:
    stage: Any = build("cvvp", pairs={"budget": 400}, stage={"spare_speaker": False})
    assert len(stage.data.batch(0).codes) > 4
    log = learn(stage, steps=60, learning_rate=4e-3)
    assert log[0]["info_nce"] > 1.0 and log[-1]["info_nce"] < 0.3
    with torch.no_grad():
        scores = stage._scores(stage.data.batch(0))
    assert torch.equal(scores.argmax(0), torch.arange(len(scores))) and torch.equal(scores.argmax(1), scores.argmax(0))


def test_cvvp_spares_clips_of_one_speaker(build: Build) -> None:
    stage: Any = build("cvvp", pairs={"budget": 400})
    batch = stage.data.batch(0)
    names = [clip.speaker for clip in stage.data.pairs.clips(0)]
    assert len(set(names)) < len(names)
    scores = stage._scores(batch)
    for r, one in enumerate(names):
        for c, other in enumerate(names):
            assert bool(scores[r, c] == -math.inf) == (r != c and one == other)
    assert torch.isfinite(stage.training_step("", batch, torch.Generator())["info_nce"])


def test_cvvp_hears_whole_rows(build: Build) -> None:
    stage: Any = build("cvvp", pairs={"budget": 400}, stage={"crop": 10})
    batch, part = stage.data.batch(0), stage.data.load(0, range(2, 4))
    assert batch.codes.shape[1] == 10
    assert all(torch.equal(a, b[2:4]) for a, b in zip(part, batch, strict=True))
    for clip, codes in zip(stage.data.pairs.clips(0), batch.codes, strict=True):
        own = stage.data.pairs.codes.of(clip)
        assert any(torch.equal(own[i : i + 10], codes) for i in range(len(own) - 9))
    uncut: Any = build("cvvp", pairs={"budget": 400})
    assert uncut.data.batch(0).codes.shape[1] == min(clip.codes for clip in uncut.data.pairs.clips(0))


# ---- voice priors ---------------------------------------------------------------------------------------------------


def normal(seed: int, rows: int = 400) -> torch.Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))


def test_distances_of_distributions() -> None:
    real = normal(0)
    assert float(mean_loss(real + 2, real)) == pytest.approx(4.0)
    assert float(variance_loss(2 * real, real)) == pytest.approx(9.0, rel=0.2)
    assert abs(float(mmd(normal(1), real))) < 0.01
    together = normal(1)[:, :1].expand(-1, 3)  # of the same means and variances, but all alike
    assert float(mean_loss(together, real)) < 0.02 and float(variance_loss(together, real)) < 0.1
    assert float(mmd(together, real)) > 0.02


@pytest.mark.parametrize("name", ["autoregressive_prior", "diffusion_prior"])
def test_priors_learn_the_voices_of_a_batch(build: Build, learn: Learn, name: str) -> None:
    stage: Any = build(name, stage={"rows": 24})
    assert stage.name == name == next(iter(stage.modules))
    batch = stage.data.batch(0)
    real = stage._encode(batch.mel)
    log = learn(stage, steps=150, learning_rate=2e-2, weight_decay=0.0)
    for loss in ("mean", "variance", "mmd"):
        assert log[-1][loss] < 0.1 * log[0][loss], loss
    assert log[-1]["mean"] < 0.05 * float(real.square().mean())
    listener = stage.frozen["encoder"]
    assert not listener.training and not any(p.requires_grad for p in listener.parameters())


def test_a_prior_without_kernel_and_of_wrong_width(build: Build) -> None:
    stage: Any = build("autoregressive_prior", stage={"mmd": 0})
    assert set(stage.training_step("", stage.data.batch(0), torch.Generator())) == {"mean", "variance"}
    whole, part = stage.data.batch(1), stage.data.load(1, range(3, 5))
    assert all(torch.equal(a, b[3:5]) for a, b in zip(part, whole, strict=True))
    with pytest.raises(ConfigError, match="stage.rows is 2; a variance needs 3 or more"):
        build("autoregressive_prior", stage={"rows": 2})


# ---- detector -------------------------------------------------------------------------------------------------------


@pytest.fixture
def buzz(toy: toy_corpus.ToyCorpus, tmp_path: Path) -> Path:
    """The toy corpus as a poor vocoder says it: with a buzz."""
    rng, made = np.random.default_rng(0), []
    for utterance in read_manifest(toy.manifest):
        wave, rate = sf.read(utterance.audio, dtype="float32")
        noisy = wave + 0.02 * rng.standard_normal(len(wave)).astype(np.float32)
        sf.write(tmp_path / f"{utterance.id}.wav", noisy, rate)
        made.append(replace(utterance, audio=f"{utterance.id}.wav"))
    write_manifest(tmp_path / "made.jsonl", made)
    return tmp_path / "made.jsonl"


def test_detector_learns_what_differs(build: Build, learn: Learn, buzz: Path) -> None:
    stage: Any = build("detector", synthetic=[str(buzz)], stage={"rows": 6})
    batch = stage.data.batch(0)
    assert batch.waveform.shape == (6, 8192) and batch.kind.tolist() == [SYNTHETIC, REAL] * 3
    assert all(torch.equal(a, b[1:3]) for a, b in zip(stage.data.load(0, range(1, 3)), batch, strict=True))
    log = learn(stage, steps=40, learning_rate=3e-3)
    assert log[0]["cross_entropy"] == pytest.approx(0.69, abs=0.2) and log[-1]["cross_entropy"] < 0.05
    stage.network.eval()
    with torch.no_grad():
        assert set(stage.evaluate()) == {"cross_entropy", "accuracy"}
        assert stage.detector.probability(batch.waveform).round().tolist() == [1, 0] * 3


def test_detector_refuses(build: Build, tmp_path: Path) -> None:
    write_manifest(tmp_path / "none.jsonl", [])
    with pytest.raises(ManifestError, match="synthetic: no clip to train on"):
        build("detector", synthetic=[str(tmp_path / "none.jsonl")])
    with pytest.raises(ConfigError, match="stage.rows is 3; it must be even"):
        build("detector", stage={"rows": 3})
    with pytest.raises(ConfigError, match="stage.samples is 1000; it must be a multiple of 256"):
        build("detector", stage={"samples": 1000})
    sf.write(tmp_path / "short.wav", np.full(500, 0.1), 24_000)
    write_manifest(tmp_path / "short.jsonl", [Utterance("s1", "short.wav", "Calm.", "ada", 500 / 24_000)])
    stage: Any = build("detector", synthetic=[str(tmp_path / "short.jsonl")])
    assert stage.data.batch(0).waveform[0, 500:].eq(0).all(), "silence follows a short clip"
