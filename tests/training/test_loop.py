"""The loop: rates, averages, clipping, the log, and faults that end a run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from chelys.errors import ConfigError, UserError
from chelys.training import optimizer as optimizer_module
from chelys.training.config import LoopConfig
from chelys.training.task import Task, TaskData
from chelys.training.trainer import Trainer

QUICK: dict[str, Any] = {
    "threads": 1, "precision": "float32", "pictures": False, "tensorboard": False, "warmup": 0, "log_every": 1
}  # fmt: skip


class Points(TaskData):
    """Eight random points a step."""

    def rows(self, step: int) -> int:
        return 8

    def load(self, step: int, rows: range) -> tuple[int, Tensor]:
        return step, torch.randn(8, 3, generator=torch.Generator().manual_seed(step))[rows.start : rows.stop]

    def clip_ids(self, step: int) -> list[str]:
        return ["a clip", "another"]


class Line(Task):
    """Fits a plane to random points, with dropout on the way; a second module watches every other step."""

    name = "line"

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.plane, self.watcher = nn.Linear(3, 2), nn.Linear(2, 1)
        self.plane.register_buffer("steps_seen", torch.tensor(0))
        self.modules: dict[str, nn.Module] = {"plane": self.plane, "watcher": self.watcher}
        self.data, self.dropout = Points(), 0.5
        self.seen: list[dict[str, Any]] = []

    def training_step(self, module: str, batch: tuple[int, Tensor], generator: torch.Generator) -> Mapping[str, Tensor]:
        step, points = batch
        noise = 0.1 * torch.randn(8, 3, generator=generator)
        guess = nn.functional.dropout(self.plane(points + noise), self.dropout)
        if module == "plane":
            return {"near": (guess - points[:, :2]).square().mean(), "small": 0.1 * guess.abs().mean()}
        return {"watch": self.watcher(guess.detach()).square().mean()} if step % 2 else {}

    def after_step(self, step: int, batch: Any, generator: torch.Generator) -> dict[str, float]:
        self.plane.steps_seen += 1
        gradients = [p.grad for p in self.plane.parameters() if p.grad is not None]
        self.seen.append(
            {
                "weights": {k: v.clone() for k, v in self.plane.state_dict().items()},
                "gradient": float(torch.cat([g.flatten() for g in gradients]).norm()),
            }
        )
        return {"seen": float(self.plane.steps_seen)}

    def evaluate(self) -> dict[str, float]:
        assert not self.plane.training
        return {"weight": float(self.plane.weight.detach()[0, 0])}


def run(folder: Path, stage: Task | None = None, **loop: Any) -> Trainer:
    trainer = Trainer(stage or Line(), LoopConfig(**(QUICK | loop)), folder)
    trainer.run()
    return trainer


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


# ---- rates and averages ---------------------------------------------------------------------------------------------


def test_rate_rises_in_a_line_and_falls_in_half_a_cosine() -> None:
    config = LoopConfig(steps=110, learning_rate=2.0, warmup=10, min_lr_ratio=0.1)
    assert [config.lr(step) for step in range(10)] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert config.lr(10) == 2.0
    assert config.lr(60) == pytest.approx((2.0 + 0.2) / 2)
    assert config.lr(35) == pytest.approx(0.2 + 1.8 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert config.lr(110) == pytest.approx(0.2)
    rates = [config.lr(step) for step in range(10, 110)]
    assert rates == sorted(rates, reverse=True)
    constant = LoopConfig(steps=50, learning_rate=2.0, warmup=0, min_lr_ratio=1.0)
    assert {constant.lr(step) for step in range(50)} == {2.0}


def test_other_schedules() -> None:
    constant = LoopConfig(steps=50, learning_rate=2.0, warmup=2, schedule="constant")
    assert [constant.lr(step) for step in range(4)] == [1.0, 2.0, 2.0, 2.0] and constant.lr(49) == 2.0
    falling = LoopConfig(
        steps=50, learning_rate=2.0, warmup=0, schedule="milestones", milestones=(10, 20), gamma=0.5
    )  # fmt: skip
    assert [falling.lr(step) for step in (0, 9, 10, 19, 20, 49)] == [2.0, 2.0, 1.0, 1.0, 0.5, 0.5]


def test_the_rate_is_in_force_for_every_player(tmp_path: Path) -> None:
    stage = Line()
    trainer = Trainer(stage, LoopConfig(**QUICK | {"steps": 6, "learning_rate": 1e-2, "warmup": 3}), tmp_path)
    rates: list[float] = []
    losses = stage.training_step

    def watch(name: str, *rest: Any) -> Mapping[str, Tensor]:
        rates.append({group["lr"] for group in trainer.modules[name].optimizer.param_groups}.pop())
        return losses(name, *rest)

    stage.training_step = watch  # type: ignore[method-assign]
    trainer.run()
    expected = [trainer.config.lr(step) for step in range(6)]
    assert rates[::2] == rates[1::2] == expected
    assert [line["learning_rate"] for line in read(tmp_path) if "learning_rate" in line] == pytest.approx(
        expected, abs=1e-7
    )


def test_matrices_decay_and_vectors_do_not() -> None:
    trainer = Trainer(Line(), LoopConfig(**QUICK | {"weight_decay": 0.3, "betas": (0.7, 0.8)}), Path("unused"))
    matrices, vectors = trainer.modules["plane"].optimizer.param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0.0)
    assert [p.ndim for p in matrices["params"]] == [2] and [p.ndim for p in vectors["params"]] == [1]
    assert matrices["betas"] == (0.7, 0.8)


@pytest.mark.parametrize(("longest", "steps"), [(0.6, 30), (0.999, 12)])  # at its full length, and on the way there
def test_average_of_the_weights(tmp_path: Path, longest: float, steps: int) -> None:
    stage = Line()
    expected = {k: v.clone() for k, v in stage.plane.state_dict().items()}
    trainer = run(tmp_path, stage, steps=steps, ema_decay=longest)
    for step, seen in enumerate(stage.seen):
        decay = min(longest, (1 + step) / (10 + step))
        for key, value in seen["weights"].items():
            expected[key] = decay * expected[key] + (1 - decay) * value if value.is_floating_point() else value
    for key, value in trainer.ema.items():
        torch.testing.assert_close(value, expected[key])
    assert not torch.allclose(trainer.ema["weight"], stage.plane.weight)
    assert trainer.ema["steps_seen"] == steps, "what is counted is not averaged"


def test_no_average(tmp_path: Path) -> None:
    stage = Line()
    trainer = run(tmp_path, stage, steps=5, ema_decay=0.0)
    assert torch.equal(trainer.ema["weight"], stage.plane.weight)


def test_evaluation_sees_the_average_and_leaves_no_trace(tmp_path: Path) -> None:
    trainer = run(tmp_path / "often", steps=12, evaluate_every=3)
    held_out = [line["held_out/weight"] for line in read(tmp_path / "often") if "held_out/weight" in line]
    assert len(held_out) == 4
    assert held_out[-1] == pytest.approx(float(trainer.ema["weight"][0, 0]), abs=1e-6)
    seldom = run(tmp_path / "seldom", steps=12, evaluate_every=100)
    for key, value in seldom.task.network.state_dict().items():
        assert torch.equal(trainer.task.network.state_dict()[key], value), key


def test_gradients_are_clipped(tmp_path: Path) -> None:
    stage = Line()
    run(tmp_path, stage, steps=8, max_grad_norm=0.05)
    lines = [line for line in read(tmp_path) if "learning_rate" in line]
    for line, seen in zip(lines, stage.seen, strict=True):
        assert line["plane_grad_norm"] > 0.05 and seen["gradient"] == pytest.approx(0.05, rel=1e-3)
    free = Line()
    run(tmp_path / "free", free, steps=8, max_grad_norm=1e6)
    assert all(seen["gradient"] > 0.05 for seen in free.seen)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_precision(tmp_path: Path, precision: str) -> None:
    stage = Line()
    seen = set()
    losses = stage.training_step

    def watch(*arguments: Any) -> Mapping[str, Tensor]:
        seen.add(stage.plane(torch.zeros(1, 3)).dtype)
        return losses(*arguments)

    stage.training_step = watch  # type: ignore[method-assign]
    run(tmp_path, stage, steps=2, precision=precision)
    assert seen == {getattr(torch, precision)}
    assert {p.dtype for p in stage.plane.parameters()} == {torch.float32}


@pytest.fixture
def small_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with a loss scale that the gradients of a line bear."""
    monkeypatch.setattr(optimizer_module, "INIT_SCALE", 256.0)


def test_float16_learns_what_float32_does(tmp_path: Path, small_scale: None) -> None:
    scaled = run(tmp_path / "half", steps=12, precision="float16", learning_rate=1e-2)
    plain = run(tmp_path / "full", steps=12, learning_rate=1e-2)
    lines = read(tmp_path / "half")
    assert lines[0]["plane_loss_scale"] == 256
    gradients = [line["plane_grad_norm"] for line in read(tmp_path / "full") if "learning_rate" in line]
    assert [line["plane_grad_norm"] for line in lines if "learning_rate" in line] == pytest.approx(
        gradients, rel=0.02
    ), "without the scale"
    torch.testing.assert_close(scaled.ema["weight"], plain.ema["weight"], rtol=0.02, atol=2e-3)


class Steep(Line):
    """A line whose gradients of some steps are too large for the loss scale."""

    def __init__(self, first: int, past: int) -> None:
        super().__init__()
        self.steep, self.now = range(first, past), False
        self.plane.weight.register_hook(lambda gradient: gradient * math.inf if self.now else gradient)

    def training_step(self, module: str, batch: tuple[int, Tensor], generator: torch.Generator) -> Mapping[str, Tensor]:
        self.now = batch[0] in self.steep
        return super().training_step(module, batch, generator)


def test_float16_passes_over_steps_that_overflow(tmp_path: Path, small_scale: None) -> None:
    stage = Steep(3, 6)
    run(tmp_path, stage, steps=8, precision="float16", checkpoint_every=4)
    lines = [line for line in read(tmp_path) if "learning_rate" in line]
    scale = [line["plane_loss_scale"] for line in lines]
    assert scale == [256.0] * 3 + [128.0, 64.0, 32.0, 32.0, 32.0]
    assert ["plane_skipped" in line for line in lines] == [3 <= step < 6 for step in range(8)]
    before = [seen["weights"]["weight"] for seen in stage.seen]
    assert torch.equal(before[2], before[5]) and not torch.equal(before[5], before[6])
    resumed = Steep(3, 6)
    (tmp_path / "checkpoints" / "000000008.safetensors").unlink()
    run(tmp_path, resumed, steps=8, precision="float16", checkpoint_every=4)
    assert torch.equal(resumed.plane.weight, stage.plane.weight), "the scale, too, goes on"


def test_float16_gives_up_when_no_scale_helps(tmp_path: Path, small_scale: None) -> None:
    with pytest.raises(UserError, match="line: step 13: the gradient is not finite"):
        run(tmp_path, Steep(3, 99), steps=40, precision="float16")
    with pytest.raises(UserError, match="line: step 3: the gradient is not finite"):
        run(tmp_path / "other", Steep(3, 99), steps=40, precision="bfloat16")


def test_a_player_without_losses_sits_out(tmp_path: Path) -> None:
    stage = Line()
    before = stage.watcher.weight.detach().clone()
    run(tmp_path / "one", stage, steps=1)
    assert torch.equal(stage.watcher.weight, before)
    run(tmp_path / "two", stage, steps=2)
    assert not torch.equal(stage.watcher.weight, before)
    lines = [line for line in read(tmp_path / "two") if "learning_rate" in line]
    assert ["watch" in line for line in lines] == ["watcher_grad_norm" in line for line in lines] == [False, True]


# ---- the log --------------------------------------------------------------------------------------------------------


def test_log_lines(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    trainer = Trainer(Line(), LoopConfig(**QUICK | {"steps": 7, "log_every": 3, "evaluate_every": 5}), tmp_path)
    trainer.progress = lambda step, steps, metrics: told.append((step, steps))
    trainer.run()
    lines = read(tmp_path)
    assert [(line["step"], "held_out/weight" in line) for line in lines] == [
        (3, False), (5, True), (6, False), (7, False), (7, True)
    ]  # fmt: skip
    assert lines[0].keys() == {
        "step", "learning_rate", "near", "small", "plane_grad_norm", "seen", "seconds_per_step"
    }  # fmt: skip
    assert told == [(3, 7), (6, 7), (7, 7)]


class Stop(Exception):
    """Stands for whatever ends a process."""


def broken_off(folder: Path, at: int, **loop: Any) -> None:
    """Run until the log line of a step is written, and no further."""
    trainer = Trainer(Line(), LoopConfig(**QUICK | loop), folder)

    def stop(step: int, steps: int, metrics: dict[str, float]) -> None:
        if step == at:
            raise Stop

    trainer.progress = stop
    with pytest.raises(Stop):
        trainer.run()


def test_resuming_cuts_the_log_at_the_checkpoint(tmp_path: Path) -> None:
    loop = {"steps": 10, "checkpoint_every": 4, "evaluate_every": 2}
    broken_off(tmp_path, 7, **loop)
    assert max(line["step"] for line in read(tmp_path)) == 7
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 8, "learning_rate": 0.0')  # torn in mid-write
    stage = Line()
    at_start: list[list[int]] = []
    load = stage.data.load

    def watch(step: int, rows: range) -> tuple[int, Tensor]:
        at_start.append([line["step"] for line in read(tmp_path)])
        return load(step, rows)

    stage.data.load = watch  # type: ignore[method-assign]
    run(tmp_path, stage, **loop)
    assert at_start[0] == [1, 2, 2, 3, 4, 4], "no line beyond the checkpoint of step 4"
    assert [line["step"] for line in read(tmp_path)] == [1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8, 8, 9, 10, 10]


def test_a_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    loop = {"steps": 10, "checkpoint_every": 4}
    whole = run(tmp_path / "whole", **loop)
    broken_off(tmp_path / "parts", 6, **loop)
    torch.manual_seed(99)  # the process is another one: its global generator stands elsewhere
    parts = run(tmp_path / "parts", **loop)

    def lines(folder: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in line.items() if k != "seconds_per_step"} for line in read(folder)]

    assert lines(tmp_path / "whole") == lines(tmp_path / "parts")
    for name, module in whole.task.modules.items():
        for key, value in parts.task.modules[name].state_dict().items():
            assert torch.equal(value, module.state_dict()[key]), (name, key)
    for key, value in parts.ema.items():
        assert torch.equal(value, whole.ema[key]), key


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    run(tmp_path, steps=5)
    log = (tmp_path / "log.jsonl").read_bytes()
    stage = Line()
    trainer = run(tmp_path, stage, steps=5)
    assert stage.seen == [] and trainer.step == 5
    assert (tmp_path / "log.jsonl").read_bytes() == log


def test_more_steps_go_on(tmp_path: Path) -> None:
    run(tmp_path, steps=5, min_lr_ratio=1.0)
    longer = run(tmp_path, steps=9, min_lr_ratio=1.0)
    whole = run(tmp_path / "whole", steps=9, min_lr_ratio=1.0)
    assert torch.equal(longer.task.network.weight, whole.task.network.weight)  # type: ignore[arg-type]


# ---- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path, value: float) -> None:
    stage = Line()
    losses = stage.training_step

    def broken(module: str, batch: Any, generator: torch.Generator) -> Mapping[str, Tensor]:
        found = dict(losses(module, batch, generator))
        return found | {"small": found["small"] * value} if batch[0] == 6 and found else found

    stage.training_step = broken  # type: ignore[method-assign]
    with pytest.raises(UserError) as caught:
        run(tmp_path, stage, steps=20, checkpoint_every=3)
    message = str(caught.value)
    assert message.startswith("line: step 6: the loss is not finite (near=") and f"small={value}" in message
    kept = tmp_path / "broken-000000006.safetensors"
    assert message.endswith(f"lower loop.learning_rate, or look at the batch in {kept}") and "\n" not in message
    assert torch.equal(load_file(kept)["batch.1"], stage.data.batch(6)[1])
    with safe_open(kept, "pt") as file:
        facts = file.metadata()
    assert (facts["stage"], facts["step"], json.loads(facts["clips"])) == ("line", "6", ["a clip", "another"])
    assert max(line["step"] for line in read(tmp_path)) == 6
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "000000003.safetensors", "000000006.safetensors"
    ]  # fmt: skip


def test_a_gradient_that_is_not_finite_ends_the_run_before_the_weights_are_lost(tmp_path: Path) -> None:
    stage = Line()
    losses = stage.training_step

    def broken(module: str, batch: Any, generator: torch.Generator) -> Mapping[str, Tensor]:
        found = dict(losses(module, batch, generator))
        steep = (0.0 * stage.plane.weight).sum().square().sqrt()  # 0, but its slope is no number
        return found | {"steep": steep} if batch[0] == 6 and module == "plane" else found

    stage.training_step = broken  # type: ignore[method-assign]
    with pytest.raises(UserError, match="line: step 6: the gradient is not finite; lower loop.learning_rate"):
        run(tmp_path, stage, steps=20)
    assert torch.isfinite(stage.plane.weight).all()


@pytest.mark.parametrize(
    "loop",
    [
        {"steps": 0}, {"log_every": 0}, {"evaluate_every": -1}, {"checkpoint_every": 0}, {"threads": -1},
        {"save_total_limit": 0},
        {"grad_accum_steps": 0}, {"ema_decay": 1.0}, {"learning_rate": 0.0}, {"max_grad_norm": math.inf},
        {"gamma": -1.0}, {"seed": -1}, {"device": "gpu"}, {"device": "cuda:x"},
        {"warmup": -1}, {"min_lr_ratio": 1.5}, {"betas": (0.9, 1.0)},
    ],
)  # fmt: skip
def test_values_out_of_range(loop: dict[str, Any]) -> None:
    (name,) = loop
    with pytest.raises(ConfigError, match=f"^{name} is "):
        LoopConfig(**loop)


@pytest.mark.parametrize("loop", [{"milestones": (3,)}, {"schedule": "milestones"}])
def test_values_that_contradict_one_another(loop: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="^schedule is .* and milestones is .*: give both") as caught:
        LoopConfig(**loop)
    assert "\n" not in str(caught.value)
