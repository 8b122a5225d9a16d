"""Checkpoints: the newest are kept, a damaged one is passed over, a full disk ends no run, and a run that starts anew
leaves none of the old."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from chelys.deprecation import ChelysDeprecationWarning
from chelys.errors import ConfigError, OutputError
from chelys.files import file_lock
from chelys.training.checkpoint import drop_checkpoints, newest_checkpoint, read_checkpoint, write_checkpoint
from chelys.training.run_stage import run_stage


def write(folder: Path, *steps: int) -> None:
    for step in steps:
        write_checkpoint(folder, step, {"weight": torch.full((1000,), float(step)), "count": torch.tensor(step)})


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def found(folder: Path) -> str | None:
    newest = newest_checkpoint(folder)
    return newest.path.name if newest else None


def damage(path: Path, kind: str) -> None:
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[:-100], "empty": b"", "noise": b"\xff" * 500, "header": whole[:40]}[kind])


def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    write(tmp_path, 5, 10, 900, 1000)
    assert names(tmp_path) == ["000000900.safetensors", "000001000.safetensors"]
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 1000 and torch.equal(newest.tensors["weight"], torch.full((1000,), 1000.0))
    assert newest.tensors["count"] == 1000 and newest.tensors["count"].dtype == torch.int64


def test_as_many_as_are_wanted_are_kept(tmp_path: Path) -> None:
    for step in range(1, 7):
        write_checkpoint(tmp_path, step, {"weight": torch.zeros(3)}, limit=4)
    assert names(tmp_path) == [f"{step:09d}.safetensors" for step in (3, 4, 5, 6)]


def test_a_copy_under_another_name_is_no_checkpoint_and_stays(tmp_path: Path) -> None:
    write(tmp_path, 5)
    for name in ("backup", "best-5", "٣"):
        shutil.copy(tmp_path / "000000005.safetensors", tmp_path / f"{name}.safetensors")
    assert found(tmp_path) == "000000005.safetensors"
    write(tmp_path, 6, 7)
    drop_checkpoints(tmp_path)
    assert names(tmp_path) == sorted(["backup.safetensors", "best-5.safetensors", "٣.safetensors"])


def test_two_runs_in_one_folder_are_kept_apart(config_file: Callable[..., Path], tmp_path: Path) -> None:
    config = config_file("dvae", loop={"steps": 2})
    (tmp_path / "run").mkdir()
    with file_lock(tmp_path / "run" / ".lock", "busy"), pytest.raises(OutputError, match="another process trains in"):
        run_stage("dvae", config)
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {".lock"}
    run_stage("dvae", config)


def test_no_checkpoint(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "none") is None


def test_what_was_half_written_is_not_seen(tmp_path: Path) -> None:
    write(tmp_path, 5)
    (tmp_path / ".chelys-0123456789abcdef.part").write_bytes(b"half")
    assert found(tmp_path) == "000000005.safetensors"
    write(tmp_path, 10)
    assert names(tmp_path) == ["000000005.safetensors", "000000010.safetensors"]


@pytest.mark.parametrize("kind", ["truncated", "empty", "noise", "header"])
def test_a_damaged_one_is_passed_over_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    write(tmp_path, 5, 10)
    damage(tmp_path / "000000010.safetensors", kind)
    with caplog.at_level(logging.WARNING):
        assert found(tmp_path) == "000000005.safetensors"
    (record,) = caplog.records
    assert "000000010.safetensors is damaged" in record.getMessage() and "one before" in record.getMessage()
    damage(tmp_path / "000000005.safetensors", kind)
    assert newest_checkpoint(tmp_path) is None


@pytest.mark.parametrize("where", ["weights", "names"])
def test_one_that_can_be_read_but_is_not_what_was_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    write(tmp_path, 5, 10)
    path = tmp_path / "000000010.safetensors"
    whole = bytearray(path.read_bytes())
    if where == "weights":
        whole[-1000] ^= 0x10  # one bit
    else:
        whole[whole.index(b"weight") : whole.index(b"weight") + 6] = b"height"
    path.write_bytes(whole)
    with pytest.raises(SafetensorError, match="sha256"):
        read_checkpoint(path)
    with caplog.at_level(logging.WARNING):
        assert found(tmp_path) == "000000005.safetensors"
    assert "000000010.safetensors is damaged" in caplog.text and "sha256" in caplog.text


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow beyond a page: writing fails in mid-file, as on a disk without room."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_ones_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, 5, 10)
    with caplog.at_level(logging.WARNING), full_disk():
        assert write_checkpoint(tmp_path, 15, {"weight": torch.zeros(10_000)}) is None
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith("the checkpoint of step 15 was not written (") and "\n" not in message
    assert "would resume from 000000010.safetensors" in message
    assert names(tmp_path) == ["000000005.safetensors", "000000010.safetensors"], "and nothing half-written"
    write(tmp_path, 20)  # room has been made
    assert names(tmp_path) == ["000000010.safetensors", "000000020.safetensors"]


def test_a_run_outlives_a_full_disk(
    config_file: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_file("dvae")
    steps_trained(config, tmp_path)
    weights = (tmp_path / "run" / "dvae.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "run")
    with caplog.at_level(logging.WARNING), full_disk(), pytest.raises(OutputError) as caught:
        steps_trained(config, tmp_path)
    assert caplog.text.count("the run goes on, and would resume from the start") == 3, "steps 4, 8 and 12"
    assert "dvae.safetensors" in str(caught.value) and "make room" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
    assert steps_trained(config, tmp_path) == list(range(1, 13))
    assert (tmp_path / "run" / "dvae.safetensors").read_bytes() == weights


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


def test_a_checkpoint_of_an_older_release_resumes(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Its tensors are under other names, and so are the keys of the run's configuration."""
    loop = {"steps": 6, "evaluate_every": 6, "checkpoint_every": 3}
    whole = run_stage("autoregressive", config_file("autoregressive", loop=loop), [f"run={tmp_path / 'whole'}"])
    old = tmp_path / "old"
    run_stage("autoregressive", config_file("autoregressive", loop=loop), [f"run={old}", "loop.steps=3"])
    newest = newest_checkpoint(old / "checkpoints")
    assert newest is not None
    before = {"module.": "player.", "ema.": "averaged."}
    tensors = newest.tensors
    for new, name in before.items():
        tensors = {name + k.removeprefix(new) if k.startswith(new) else k: v for k, v in tensors.items()}
    newest.path.unlink()
    write_checkpoint(old / "checkpoints", 3, tensors, metadata={"stage": "autoregressive", "processes": "1"})
    values = json.loads(config_file("autoregressive", loop=loop).read_text())
    values["loop"] |= {"average": 0.999, "clip": 1.0, "final": 0.05, "accumulate": 1, "recompute": False, "keep": 2}
    values["stage"] = {"code": 1.0, "text": 0.01, "strange_codes": 0.0}
    path = tmp_path / "old.yaml"
    path.write_text(json.dumps(values))
    steps: list[int] = []
    with pytest.warns(ChelysDeprecationWarning) as told:
        resumed = run_stage("autoregressive", path, [f"run={old}"], progress=lambda step, *_: steps.append(step))
    assert steps == [4, 5, 6], "from its checkpoint on"
    assert sorted(str(w.message).split(" is ")[0].split(": ")[-1] for w in told) == [
        "accumulate", "average", "clip", "code", "final", "keep", "recompute", "strange_codes", "text"
    ]  # fmt: skip
    for name, tensor in load_file(whole).items():
        assert torch.equal(load_file(resumed)[name], tensor), name
