"""Runs of tiny networks on the toy corpus."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_corpus

from chelys.config import from_mapping
from chelys.train.loop import LoopConfig, Stage, Trainer
from chelys.train.run import RUNS

IDS = toy_corpus.tokenizer().vocabulary_size
DECODER = {"text_tokens": IDS, "codes": 16, "dim": 32, "layers": 2, "heads": 2, "conditioning_blocks": 1}
NETWORKS: dict[str, dict[str, Any]] = {
    "dvae": {"tokens": 16, "code_width": 4, "hidden": 16, "residual_blocks": 1},
    "vocoder": {"dim": 32, "inner": 64, "blocks": 2},
    "autoregressive": DECODER,
    "diffusion": {
        "dim": 32, "heads": 2, "layers": 1, "latent_dim": 32, "latent_blocks": 1, "codes": 16, "code_blocks": 1
    },
    "clvp": {
        "text_tokens": IDS, "speech_tokens": 16, "dim": 32, "depth": 1, "heads": 2, "head_dim": 16, "rotary_dim": 8
    },
}  # fmt: skip
STAGES: dict[str, dict[str, Any]] = {
    "dvae": {"rows": 4, "frames": 48, "start_at": 5},
    "vocoder": {"rows": 2, "frames": 24},
}
LOOP = {
    "steps": 12, "warmup": 3, "threads": 1, "bfloat16": False,
    "log_every": 1, "evaluate_every": 5, "checkpoint_every": 4,
}  # fmt: skip


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> toy_corpus.ToyCorpus:
    """One for the whole session; not to be changed."""
    return toy_corpus.make(tmp_path_factory.getbasetemp() / "toy_corpus")


@pytest.fixture
def values(toy: toy_corpus.ToyCorpus, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Make a stage's configuration: run folder ``tmp_path / "run"``, sections as given laid over the tiny ones."""

    def make(stage: str, /, **sections: Any) -> dict[str, Any]:
        made: dict[str, Any] = {
            "run": str(tmp_path / "run"),
            "features": str(toy.features),
            "mel_range": {"low": toy_corpus.MEL_RANGE.low, "high": toy_corpus.MEL_RANGE.high},
            "network": NETWORKS[stage],
            "stage": STAGES.get(stage, {}),
            "loop": LOOP,
        }
        if stage not in ("dvae", "vocoder"):
            made |= toy.paths() | {"pairs": {"budget": 120, "reference_frames": 32}}
        if stage == "diffusion":
            made |= {"decoder_network": DECODER}
        for name, section in sections.items():
            made[name] = made.get(name, {}) | section if isinstance(section, dict) else section
        return made

    return make


@pytest.fixture
def config_file(values: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Path]:
    """Write a stage's configuration."""

    def write(stage: str, /, **sections: Any) -> Path:
        path = tmp_path / f"{stage}.yaml"
        path.write_text(json.dumps(values(stage, **sections)))  # JSON is YAML
        return path

    return write


@pytest.fixture
def build(values: Callable[..., dict[str, Any]]) -> Callable[..., Stage]:
    """Build a stage with fresh weights."""

    def make(stage: str, /, **sections: Any) -> Stage:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return from_mapping(RUNS[stage], values(stage, **sections)).build()

    return make


@pytest.fixture
def learn(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Train a stage on its first batch, again and again; returns the log."""

    def run(stage: Stage, /, **loop: Any) -> list[dict[str, Any]]:
        batch = stage.batch(0)
        stage.batch = lambda step: batch._replace(step=step) if hasattr(batch, "step") else batch  # type: ignore
        config = LoopConfig(**(LOOP | {"evaluate_every": 10**6, "checkpoint_every": 10**6} | loop))  # type: ignore
        Trainer(stage, config, tmp_path / "learned").run()
        return [line for line in read_log(tmp_path / "learned") if "rate" in line]

    return run


def read_log(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, without what the clock says."""
    lines = [json.loads(line, parse_constant=_refuse) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds_per_step"} for line in lines]


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")
