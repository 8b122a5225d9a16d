"""Stopping early: what is best, why it ends, and that a killed run ends where it would have ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from chelys.training.config import EarlyStopping, LoopConfig
from chelys.training.task import Task, TaskData
from chelys.training.trainer import Trainer


def history(*metrics: tuple[float, float]) -> list[tuple[int, dict[str, float]]]:
    return [(10 * i, {"voice": voice, "base": base}) for i, (voice, base) in enumerate(metrics)]


STOPPING = EarlyStopping("voice", patience=2, limits={"base": 0.5})


@pytest.mark.parametrize(
    ("metrics", "best", "reason"),
    [
        ([(5, 1)], 0, ""),
        ([(5, 1), (4, 1.4)], 1, ""),
        ([(5, 1), (4, 1), (4.5, 1)], 1, ""),
        ([(5, 1), (4, 1), (4.5, 1), (4.1, 1)], 1, "voice has not fallen for 2 evaluations"),
        ([(5, 1), (6, 1), (7, 1)], 0, "voice has not fallen for 2 evaluations"),
        ([(5, 1), (4, 1.4), (3, 1.6)], 1, "base rose from 1 to 1.6, by more than 0.5 of it"),
        ([(5, 1), (4, float("nan"))], 0, "base rose from 1 to nan, by more than 0.5 of it"),
        ([(5, 1), (float("nan"), 1)], 0, "voice is not finite"),
        ([(5, 1), (4, 0.1), (3, 0.4)], 2, ""),
    ],
)
def test_best_and_reason(metrics: list[tuple[float, float]], best: int, reason: str) -> None:
    assert STOPPING.best(history(*metrics)) == best
    assert STOPPING.reason(history(*metrics)) == reason


class Ones(TaskData):
    def rows(self, step: int) -> int:
        return 2

    def load(self, step: int, rows: range) -> Tensor:
        return torch.ones(len(rows), 1)


class Fall(Task):
    """A number that falls with each step, judged as if its best were passed at -0.45."""

    name = "fall"

    def __init__(self) -> None:
        self.modules: dict[str, nn.Module] = {"fall": nn.Linear(1, 1, bias=False)}
        nn.init.zeros_(self.network.weight)
        self.data = Ones()

    def training_step(self, module: str, batch: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
        return {"value": self.network(batch).mean()}

    def evaluate(self) -> dict[str, float]:
        return {"voice": abs(float(self.network.weight) + 0.45)}


def trainer(folder: Path, **changes: Any) -> Trainer:
    loop: dict[str, Any] = {
        "steps": 30, "learning_rate": 0.1, "schedule": "constant", "warmup": 0, "weight_decay": 0.0, "ema_decay": 0.0,
        "evaluate_every": 1, "checkpoint_every": 2, "precision": "float32", "threads": 1, "pictures": False,
        "tensorboard": False,
    }  # fmt: skip
    return Trainer(Fall(), LoopConfig(**loop | changes), folder, stopping=EarlyStopping("held_out/voice", patience=3))


def test_the_run_ends_and_the_best_weights_are_left(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.run()
    assert made.step in (7, 8)  # the best is step 4 or 5, at -0.4 or -0.5
    assert made.weights()["weight"].item() == pytest.approx(-0.45, abs=0.051)
    assert made.task.network.weight.item() == pytest.approx(-0.1 * made.step, abs=1e-3)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "held_out/voice" in line] == list(range(made.step + 1))


def test_a_run_that_ended_does_not_go_on(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    first.run()
    again = trainer(tmp_path)
    again.run()
    assert again.step == first.step and torch.equal(again.weights()["weight"], first.weights()["weight"])


def test_a_run_that_was_stopped_by_force_ends_alike(tmp_path: Path) -> None:
    undisturbed = trainer(tmp_path / "a")
    undisturbed.run()
    broken = trainer(tmp_path / "b", log_every=1)

    def die(step: int, steps: int, metrics: dict[str, float]) -> None:
        if step == 6:  # after the best was found
            raise KeyboardInterrupt

    broken.progress = die
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    again = trainer(tmp_path / "b")
    again.run()
    assert again.step == undisturbed.step and again.evaluations == undisturbed.evaluations
    assert torch.equal(again.weights()["weight"], undisturbed.weights()["weight"])
    assert again.stop_reason == undisturbed.stop_reason != ""
