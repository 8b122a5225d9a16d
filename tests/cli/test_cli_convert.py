"""``chelys convert``, and ``--model tortoise-v2`` where there is neither network nor weights."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_published
import torch


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Published files in small."""
    return tiny_published.make(tmp_path / "published")


@pytest.fixture
def run(process: Callable[..., Any], tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """``chelys`` in a process of its own: status, standard output, standard error."""

    def run(*arguments: str | Path, **settings: str) -> tuple[int, str, str]:
        environment = {"CHELYS_MODELS": str(tmp_path / "models"), "HF_HOME": str(tmp_path / "hf"), **settings}
        started = process(*map(str, arguments), fake=False, env={"OMP_NUM_THREADS": "1", **environment})
        output, errors = started.communicate(timeout=300)
        return started.returncode, output.decode(), errors.decode()

    return run


def test_there_and_back(
    run: Callable[..., Any], invoke: Callable[..., Any], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, output, errors = run("convert", source, "model")
    assert (status, errors) == (0, "") and output.startswith("model  11 files, ") and output.endswith(" MB\n")
    assert invoke("convert", "model", "back", "-q").output == ""
    for path in source.iterdir():
        ours, theirs = (torch.load(p, weights_only=True) for p in (tmp_path / "back" / path.name, path))
        ours, theirs = ours.get("model_g", ours), theirs.get("model_g", theirs)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    half = ("half", "--dtype", "float16", "--weight-norm", "fold", "--without", "dvae,cvvp")
    assert invoke("convert", source, *half).exit_code == 0
    assert {p.name for p in (tmp_path / "model").iterdir()} - {p.name for p in (tmp_path / "half").iterdir()} == {
        "dvae.safetensors",
        "cvvp.safetensors",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone", "model"], "no folder at gone"),
        (["empty", "model"], "empty lacks autoregressive.pth, clvp2.pth, diffusion_decoder.pth, vocoder.pth"),
        (["published", "published"], "published is not empty"),
        (["published", "model", "--dtype", "int8"], "unknown dtype 'int8': choose from float32, float16, bfloat16"),
        (["published", "model", "--weight-norm", "lose"], "unknown weight norm 'lose': choose keep or fold"),
        (["published", "model", "--without", "clvp"], "cannot leave out 'clvp'"),
        (["published"], "Missing argument 'DST'"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    invoke: Callable[..., Any], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str],
    said: str,
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = invoke("convert", *arguments)
    assert result.exit_code == 2 and result.stdout == "" and result.stderr.startswith(f"chelys: error: {said}")
    assert result.stderr.count("\n") == 1 and sorted(tmp_path.rglob("*")) == before


class Planted:
    def __reduce__(self) -> Any:
        return (os.system, ("echo owned > owned",))


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_malicious_file_is_refused_in_one_line(
    invoke: Callable[..., Any], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = source / "vocoder.pth"
    torch.save(Planted(), path) if form == "torch" else path.write_bytes(pickle.dumps(Planted()))
    before = sorted(tmp_path.rglob("*"))
    result = invoke("convert", source, "model")
    assert (result.exit_code, result.stdout) == (2, "") and "vocoder.pth is refused, it would run" in result.stderr
    assert result.stderr.count("\n") == 1 and sorted(tmp_path.rglob("*")) == before


def test_help(invoke: Callable[..., Any]) -> None:
    result = invoke("convert", "--help")
    assert result.exit_code == 0 and "Example: chelys convert" in result.stdout


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        ("tortoise-v2", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ("tortoise-v2", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "the hub cannot be reached"),
        ("some/model", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "the hub cannot be reached"),
    ],
)
def test_no_network_and_no_weights_is_one_helpful_line(
    run: Callable[..., Any], tmp_path: Path, model: str, settings: dict[str, str], said: str
) -> None:
    status, output, errors = run("speak", "Hello.", "--model", model, "-o", "a.wav", **settings)
    assert (status, output) == (2, "") and errors.count("\n") == 1 and errors.startswith("chelys: error: ")
    assert said in errors and model in errors
    if model == "tortoise-v2":
        assert "run 'chelys convert SRC DST' and give '--model DST'" in errors
    assert not (tmp_path / "a.wav").exists() and not (tmp_path / "models").exists()


def test_tortoise_is_taken_from_the_folder_of_models(run: Callable[..., Any], source: Path, tmp_path: Path) -> None:
    run("convert", source, tmp_path / "models" / "tortoise-v2")
    shutil.rmtree(source)
    status, _, errors = run("voices", "list", "--model", "tortoise-v2", HF_HUB_OFFLINE="1")
    assert (status, errors) == (0, "")
