"""Checkpoints: two are kept, a damaged one is passed over, and a run that starts anew leaves none of the old."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from chelys.errors import ConfigError
from chelys.train.checkpoint import newest_checkpoint, read_checkpoint, write_checkpoint
from chelys.train.run import run_stage


def write(folder: Path, *steps: int) -> None:
    for step in steps:
        write_checkpoint(folder, step, {"weight": torch.full((1000,), float(step)), "count": torch.tensor(step)})


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def damage(path: Path, kind: str) -> None:
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[:-100], "empty": b"", "noise": b"\xff" * 500, "header": whole[:40]}[kind])


def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    write(tmp_path, 5, 10, 900, 1000)
    assert names(tmp_path) == ["000000900.safetensors", "000001000.safetensors"]
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    step, tensors = read_checkpoint(newest)
    assert step == 1000 and torch.equal(tensors["weight"], torch.full((1000,), 1000.0))
    assert tensors["count"] == 1000 and tensors["count"].dtype == torch.int64


def test_no_checkpoint(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "none") is None


def test_what_was_half_written_is_not_seen(tmp_path: Path) -> None:
    write(tmp_path, 5)
    (tmp_path / "000000010.part").write_bytes(b"half")
    assert newest_checkpoint(tmp_path) == tmp_path / "000000005.safetensors"
    write(tmp_path, 10)
    assert names(tmp_path) == ["000000005.safetensors", "000000010.safetensors"]


@pytest.mark.parametrize("kind", ["truncated", "empty", "noise", "header"])
def test_a_damaged_one_is_passed_over_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    write(tmp_path, 5, 10)
    damage(tmp_path / "000000010.safetensors", kind)
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(tmp_path) == tmp_path / "000000005.safetensors"
    (record,) = caplog.records
    assert "000000010.safetensors is damaged" in record.getMessage() and "one before" in record.getMessage()
    damage(tmp_path / "000000005.safetensors", kind)
    assert newest_checkpoint(tmp_path) is None


def test_a_damaged_one_is_gone_with_the_next(tmp_path: Path) -> None:
    write(tmp_path, 5, 10)
    damage(tmp_path / "000000010.safetensors", "truncated")
    write(tmp_path, 7)  # the run went on from step 5, and checkpoints more often now
    assert names(tmp_path) == ["000000005.safetensors", "000000007.safetensors"]


def steps_trained(config: Path, run: Path, **keywords: Any) -> list[int]:
    """Train; which steps it took."""
    told: list[int] = []
    run_stage("dvae", config, progress=lambda step, *_: told.append(step), **keywords)
    return told


def test_a_run_goes_on_from_the_one_before_the_damaged_one(
    config_file: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_file("dvae")
    assert steps_trained(config, tmp_path) == list(range(1, 13))
    weights = (tmp_path / "run" / "dvae.safetensors").read_bytes()
    checkpoints = tmp_path / "run" / "checkpoints"
    assert names(checkpoints) == ["000000008.safetensors", "000000012.safetensors"]
    damage(checkpoints / "000000012.safetensors", "truncated")
    with caplog.at_level(logging.WARNING):
        assert steps_trained(config, tmp_path) == [9, 10, 11, 12]
    assert "000000012.safetensors is damaged" in caplog.text
    assert (tmp_path / "run" / "dvae.safetensors").read_bytes() == weights


def test_starting_anew_forgets_the_run_before(config_file: Callable[..., Path], tmp_path: Path) -> None:
    config = config_file("dvae")
    steps_trained(config, tmp_path)

    def stop(step: int, *_: Any) -> None:
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage("dvae", config, resume=False, progress=stop)
    assert names(tmp_path / "run" / "checkpoints") == ["000000004.safetensors"]
    assert steps_trained(config, tmp_path) == list(range(5, 13)), "from the new run's checkpoint, not the old one's"


def test_another_network_cannot_resume(config_file: Callable[..., Path], tmp_path: Path) -> None:
    steps_trained(config_file("dvae"), tmp_path)
    wider = config_file("dvae", network={"hidden": 24})
    with pytest.raises(ConfigError, match=r"000000012.*--no-resume.*does not fit the configured network") as caught:
        run_stage("dvae", wider)
    assert "\n" not in str(caught.value)
    assert steps_trained(wider, tmp_path, resume=False) == list(range(1, 13))
