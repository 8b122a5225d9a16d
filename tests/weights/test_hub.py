"""Model folders of the hub, which is played by a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import Hub
from huggingface_hub.utils import OfflineModeIsEnabled

from chelys.errors import ModelError
from chelys.weights import hub
from chelys.weights.catalog import find_model
from chelys.weights.folder import load_model


def refusal(name: str = "tortoise-v2") -> str:
    with pytest.raises(ModelError) as raised:
        find_model(name)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_the_folder_of_models_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHELYS_MODELS", str(tmp_path / "elsewhere"))
    assert hub.models_folder() == tmp_path / "elsewhere"
    monkeypatch.delenv("CHELYS_MODELS")
    assert hub.models_folder().name == "models" and "chelys" in str(hub.models_folder())


# ---------------------------------------------------------------- model folders


@pytest.fixture
def shared(played: Hub, toy_folder: Path) -> Hub:
    """Somebody shares the toy model."""
    for file in toy_folder.rglob("*"):
        if file.is_file():
            played.put("some.one/toy-model_1", file.relative_to(toy_folder).as_posix(), file)
    return played


def test_a_shared_model_is_fetched(shared: Hub) -> None:
    folder = find_model("some.one/toy-model_1")
    assert load_model(folder).config.name == "toy" and (folder / "voices").is_dir()
    shared.fault = OfflineModeIsEnabled("offline")
    assert find_model("some.one/toy-model_1@main") == folder


def test_a_repository_that_is_no_model_is_told_before_it_is_fetched(shared: Hub) -> None:
    (shared.root / "some.one/toy-model_1/config.json").unlink()
    assert "it is no chelys model, for it has no config.json" in refusal("some.one/toy-model_1")
    assert shared.downloads == []


def test_a_model_that_the_hub_does_not_have(played: Hub) -> None:
    message = refusal("some/body")
    assert message.startswith("no model folder at some/body, and none of that name could be fetched from the hub: ")
    assert message.endswith("404: not found")


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """A hub that must not be asked."""
    monkeypatch.setattr(hub, "fetch_model", lambda name: pytest.fail(f"the hub was asked for {name}"))
    yield find_model


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "/etc/passwd",
        "a/../b",
        "a/b/c",
        "./a",
        "a/.b",
        ".a/b",
        "a//b",
        "a/b@",
        "a/b@x/y",
        "a/b@../c",
        "a b/c",
    ]
    + ["a/..", "~/a", "a\\b", "a/b\0", "tortoise-v2/", "x" * 150 + "/" + "y" * 150, "http://a/b"],
)
def test_a_path_is_no_name_of_the_hub(silent: Callable[..., Any], name: str) -> None:
    assert not hub.is_hub_name(name)
    with pytest.raises(ModelError, match="no model .*: name 'nano' or a folder that has a config.json, 'tortoise-v2'"):
        silent(name)


def test_a_folder_goes_before_a_name_of_the_hub(
    silent: Callable[..., Any], toy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy_folder.parents[1])
    name = f"{toy_folder.parent.name}/{toy_folder.name}"
    assert hub.is_hub_name(name) and silent(name) == Path(name)


def test_a_branch_that_moves_on_after_it_was_listed_is_downloaded_by_its_commit() -> None:
    asked: list[str | None] = []

    def download(revision: str | None) -> Path:
        asked.append(revision)
        return Path("snapshots") / ("old" if revision == "old" else "new") / "config.json"

    assert hub.of_commit("old", download, "main") == Path("snapshots/old/config.json") and asked == ["main", "old"]
    assert hub.of_commit("new", download, "main") == Path("snapshots/new/config.json") and asked == [
        "main",
        "old",
        "main",
    ]
