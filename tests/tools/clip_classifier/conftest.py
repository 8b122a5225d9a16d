"""A tiny classifier on a toy corpus."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_corpus
from classifier_task import Batch
from toy_corpus import LOOP
from train_classifier import ClassifierRun

from chelys.config import from_mapping
from chelys.training.config import LoopConfig
from chelys.training.task import Task
from chelys.training.trainer import Trainer


@pytest.fixture
def values(toy: toy_corpus.ToyCorpus, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Make the configuration of a run in ``tmp_path / "run"``; sections as given are laid over the tiny ones."""

    def make(**sections: Any) -> dict[str, Any]:
        made: dict[str, Any] = {
            "run": str(tmp_path / "run"),
            "manifests": [str(toy.manifest)],
            "network": {"channels": [8, 8], "dim": 16, "heads": 2, "attention_blocks": 1},
            "stage": {"rows": 4, "seconds": [0.5, 0.8], "test_mixes": 6, "blocks": 3},
            "loop": LOOP,
        }
        return made | {name: made[name] | section for name, section in sections.items()}

    return make


@pytest.fixture
def config_file(values: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Path]:
    """Write the configuration."""

    def write(**sections: Any) -> Path:
        path = tmp_path / "classifier.yaml"
        path.write_text(json.dumps(values(**sections)))  # JSON is YAML
        return path

    return write


@pytest.fixture
def build(values: Callable[..., dict[str, Any]]) -> Callable[..., Task]:
    """Build the task with fresh weights."""

    def make(**sections: Any) -> Task:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return from_mapping(ClassifierRun, values(**sections)).build()

    return make


@pytest.fixture
def learn(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Train the task on its first batch, again and again; returns the log."""

    def run(stage: Task, /, **loop: Any) -> list[dict[str, Any]]:
        batch = stage.data.batch(0)
        stage.data.load = lambda step, rows: Batch(*(x[rows.start : rows.stop] for x in batch))  # type: ignore
        config = LoopConfig(**(LOOP | {"evaluate_every": 10**6, "checkpoint_every": 10**6} | loop))  # type: ignore
        Trainer(stage, config, tmp_path / "learned").run()
        lines = (tmp_path / "learned" / "log.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if "learning_rate" in line]

    return run
