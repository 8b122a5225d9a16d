"""The clip classifier's stage: its batches are functions of seed, step and row, and its loss can be learned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds
import torch
from classifier_task import ClassifierTask, ClassifierTaskConfig, classes
from train_classifier import export, train

from chelys.data.prepare.classifier import CLASSES, FAULTS, ClipClassifier
from chelys.errors import ConfigError
from chelys.training.task import Task

Build = Callable[..., Task]


def same(one: Any, other: Any) -> bool:
    return (
        one.mel.shape == other.mel.shape and torch.equal(one.mel, other.mel) and torch.equal(one.faults, other.faults)
    )


def test_a_batch_is_a_function_of_its_step(build: Build) -> None:
    first, again = build(), build()
    first.data.batch(5)  # what was asked before does not matter
    for step in (0, 1, 2):
        batch = first.data.batch(step)
        assert same(batch, first.data.batch(step)) and same(batch, again.data.batch(step))
        rows, bands, frames = batch.mel.shape
        assert (rows, bands) == (4, 100) and batch.faults.shape == (4, len(FAULTS))
        assert int(0.5 * 0.8 * 93) <= frames <= int(0.8 * 93.75) + 1  # 0.5 to 0.8 s, a fifth of it lost
        assert set(batch.faults.unique().tolist()) <= {0.0, 1.0}
    assert not same(first.data.batch(0), first.data.batch(1))


def test_parts_of_a_batch_are_its_rows(build: Build) -> None:
    stage, whole = build(), build().data.batch(4)
    assert stage.data.rows(4) == 4
    for rows in (range(0, 1), range(1, 3), range(3, 4)):
        part = stage.data.load(4, rows)
        torch.testing.assert_close(
            part.mel, whole.mel[rows.start : rows.stop], rtol=0, atol=1e-3
        )  # sums in another order
        assert torch.equal(part.faults, whole.faults[rows.start : rows.stop])


def test_blocks_come_again_but_not_as_they_were(build: Build) -> None:
    stage = build(stage={"shortened": 0.0})
    first, later = stage.data.batch(1), stage.data.batch(4)  # of three blocks
    assert torch.equal(first.faults, later.faults) and first.mel.shape == later.mel.shape
    difference = later.mel - first.mel
    assert difference.abs().mean() > 0.05
    torch.testing.assert_close(difference, difference[:, :, :1].expand_as(difference), rtol=0, atol=0.01)  # colour
    new = build(stage={"blocks": 0, "shortened": 0.0})
    assert new.data.batch(1).mel.shape != new.data.batch(4).mel.shape or not torch.equal(
        new.data.batch(1).mel, new.data.batch(4).mel
    )


def test_held_out_speakers_are_for_evaluation_alone(build: Build) -> None:
    stage = build(stage={"held_out_speakers": ["bob"]})
    assert isinstance(stage, ClassifierTask)
    assert stage.data.mixes.speech.speakers == ["ada", "cleo"] and stage.test_mixes.speech.speakers == ["bob"]


def test_one_batch_can_be_learned(build: Build, learn: Callable[..., list[dict[str, Any]]]) -> None:
    stage = build(network={"dropout": 0.0}, stage={"rows": 6, "smooth": 0.0})
    log = learn(stage, steps=40, learning_rate=1e-2)
    assert log[-1]["faults"] < 0.4 * log[0]["faults"]


def test_evaluation(build: Build) -> None:
    stage = build(stage={"test_mixes": 12})
    stage.network.eval()
    with torch.no_grad():
        metrics, again = stage.evaluate(), stage.evaluate()
    assert metrics == again and set(metrics) == {"faults", "accuracy", *CLASSES}
    assert all(0 <= metrics[name] <= 1 for name in ("accuracy", *CLASSES))
    assert metrics["accuracy"] == pytest.approx(sum(metrics[name] for name in CLASSES) / len(CLASSES))


def test_classes() -> None:
    faults = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5], [0.6, 0.9, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.51]])
    assert [CLASSES[i] for i in classes(faults)] == ["clean", "music", "telephone"]


def test_bad_settings() -> None:
    for seconds in ((0.1, 2.0), (3.0, 2.0)):
        with pytest.raises(ConfigError, match="it must be a shortest window of 0.5 s or more, and a longest"):
            ClassifierTaskConfig(seconds=seconds)


def test_a_run_folder_can_be_used_and_exported(config_file: Callable[..., Path], tmp_path: Path) -> None:
    folder = train(config_file(loop={"steps": 2, "evaluate_every": 2, "checkpoint_every": 2}), ["loop.log_every=1"])
    classifier = ClipClassifier.load(folder)
    found = classifier.classify(np.sin(np.arange(24_000, dtype=np.float32)))
    assert tuple(found) == CLASSES
    export(classifier.network, tmp_path / "exported")
    again = ClipClassifier.load(tmp_path / "exported").classify(np.sin(np.arange(24_000, dtype=np.float32)))
    assert again == pytest.approx(found, abs=5e-3), "weights are float16"


def test_the_shipped_classifier_knows_noise_and_music() -> None:
    classifier = ClipClassifier.load()
    right = {"noise": 0, "music": 0}
    for kind, make in (("noise", sounds.noise), ("music", sounds.music)):
        for seed in range(10):
            heard = classifier.classify(make(2 * 24_000, np.random.default_rng(seed)))
            right[kind] += heard[kind] > 0.5 and heard["clean"] < 0.5
    assert min(right.values()) >= 8, right
