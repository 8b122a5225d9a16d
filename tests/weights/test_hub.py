"""Fetching from a hub that is played by folders of this machine; and no hub at all."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.utils import OfflineModeIsEnabled

from chelys.errors import ModelError, OutputError
from chelys.tortoise.name_tables import TABLES
from chelys.weights import checks, hub
from chelys.weights.catalog import find_model
from chelys.weights.folder import load_model, read_config

COMMIT = "c0ffee"
FIRST, SECOND = hub.SOURCES


class Hub:
    """Repositories in folders, a cache in another one, and a count of what was asked."""

    def __init__(self, root: Path) -> None:
        self.root, self.cache = root / "hub", root / "cache"
        self.asked: list[str] = []
        self.downloads: list[str] = []
        self.fault: Exception | None = None
        self.damaged = 0  # so many of the next downloads

    def put(self, repository: str, name: str, file: Path) -> None:
        path = self.root / repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, path)

    def model_info(self, repository: str, revision: str | None = None, **settings: Any) -> Any:
        self.asked.append(repository)
        if self.fault:
            raise self.fault
        folder = self.root / repository
        if not folder.is_dir():
            raise huggingface_hub.utils.RepositoryNotFoundError(
                "404: not found\n\nSecond line.", response=SimpleNamespace(headers={}, request=None)
            )
        files = [path for path in folder.rglob("*") if path.is_file()]
        siblings = [
            SimpleNamespace(
                rfilename=path.relative_to(folder).as_posix(),
                size=path.stat().st_size,
                lfs=SimpleNamespace(sha256=hashlib.sha256(path.read_bytes()).hexdigest()),
            )
            for path in files
        ]
        return SimpleNamespace(sha=COMMIT, siblings=siblings)

    def _place(self, repository: str, name: str) -> Path:
        return self.cache / repository.replace("/", "--") / "snapshots" / COMMIT / name

    def hf_hub_download(self, repository: str, name: str, *, revision: str, force_download: bool = False) -> str:
        place = self._place(repository, name)
        if force_download or not place.is_file():
            if self.fault:
                raise self.fault
            self.downloads.append(f"{repository}/{name}")
            place.parent.mkdir(parents=True, exist_ok=True)
            data = (self.root / repository / name).read_bytes()
            place.write_bytes(data[: len(data) // 2] if self.damaged > 0 else data)
            self.damaged -= 1
        return str(place)

    def try_to_load_from_cache(self, repository: str, name: str, *, revision: str) -> str | None:
        place = self._place(repository, name)
        return str(place) if place.is_file() else None

    def snapshot_download(self, repository: str, *, local_files_only: bool = False, **settings: Any) -> str:
        place = self.cache / repository.replace("/", "--") / "snapshots" / COMMIT
        if not place.is_dir():
            if local_files_only:
                raise FileNotFoundError("not in the cache")
            self.downloads.append(repository)
            shutil.copytree(self.root / repository, place)
        return str(place)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """The hub, empty."""
    played = Hub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: played)
    for name in ("hf_hub_download", "try_to_load_from_cache", "snapshot_download"):
        monkeypatch.setattr(huggingface_hub, name, getattr(played, name))
    return played


@pytest.fixture
def both(played: Hub, tiny: Path) -> Hub:
    """As the two repositories are: the first lacks CVVP, the second the streaming decoder."""
    for network in TABLES:
        file = tiny / TABLES[network].file
        if network != "cvvp":
            played.put(FIRST.repository, FIRST.file(network), file)
        if network != "hifigan":
            played.put(SECOND.repository, SECOND.file(network), file)
    return played


def refusal(name: str = "tortoise-v2") -> str:
    with pytest.raises(ModelError) as raised:
        find_model(name)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_it_is_fetched_and_converted_once(both: Hub, caplog: pytest.LogCaptureFixture) -> None:
    folder = find_model("tortoise-v2")
    assert folder == hub.models_folder() / "tortoise-v2"
    model = load_model(folder)
    assert model.config.origin == f"{FIRST.repository}@{COMMIT}"
    assert model.has("hifigan") and model.has("cvvp") and model.config.dvae is None
    fetched = [name.rpartition("/")[0] for name in both.downloads]
    assert fetched.count(f"{SECOND.repository}/.models") == 1 and fetched.count(FIRST.repository) == 8
    assert not any("dvae" in name for name in both.downloads)
    assert "fetching" in caplog.text and "converting" in caplog.text
    both.fault = AssertionError("the hub was asked again")
    both.asked.clear()
    assert find_model("tortoise-v2") == folder and both.asked == []


def test_the_second_source_is_asked_when_the_first_has_not_all(both: Hub) -> None:
    (both.root / FIRST.repository / "clvp2.pth").unlink()
    config = read_config(find_model("tortoise-v2"))
    assert config.origin == f"{SECOND.repository}@{COMMIT}" and config.hifigan is not None


def test_the_second_source_is_asked_when_the_first_is_gone(both: Hub) -> None:
    shutil.rmtree(both.root / FIRST.repository)
    config = read_config(find_model("tortoise-v2"))
    assert config.origin == f"{SECOND.repository}@{COMMIT}" and config.hifigan is None and config.cvvp is not None


def test_none_has_it(played: Hub) -> None:
    message = refusal()
    for source in hub.SOURCES:
        assert f"{source.repository}: the hub answers 404: not found" in message
    assert "run 'chelys convert SRC DST' and give '--model DST'" in message


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (OfflineModeIsEnabled("a long story\nof many lines"), "HF_HUB_OFFLINE is set"),
        (ConnectionError("no route\nto host"), "the hub cannot be reached"),
        (TimeoutError(), "the hub cannot be reached"),
    ],
)
def test_no_network(both: Hub, fault: Exception, said: str) -> None:
    both.fault = fault
    message = refusal()
    assert f"({said}): go online, or get its .pth files" in message
    assert FIRST.repository in message and SECOND.repository in message
    assert both.asked == [FIRST.repository]  # the other one would not answer either
    assert not hub.models_folder().exists()


def test_what_was_fetched_before_needs_no_network(both: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversion that failed, for want of room or so, goes on offline."""
    with monkeypatch.context() as patch:
        patch.setattr(hub, "convert", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            find_model("tortoise-v2")
    both.fault = OfflineModeIsEnabled("offline")
    config = read_config(find_model("tortoise-v2"))
    assert config.origin == f"{FIRST.repository}@{COMMIT}" and config.cvvp is None and config.hifigan is not None


def test_a_download_that_came_damaged_is_fetched_again(both: Hub, caplog: pytest.LogCaptureFixture) -> None:
    both.damaged = 1
    load_model(find_model("tortoise-v2"))
    assert "is not what the hub has: fetching it again" in caplog.text
    assert len(both.downloads) == len(set(both.downloads)) + 1


def test_downloads_that_keep_coming_damaged_are_given_up(both: Hub) -> None:
    both.damaged = 1000
    assert "comes damaged" in refusal()
    assert not hub.models_folder().exists()


def test_a_download_that_breaks_off(both: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **settings: Any) -> str:
        raise ConnectionError("peer closed\nconnection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", broken)
    assert "fetching autoregressive.pth broke off (peer closed), and goes on when tried again" in refusal()


def test_too_little_disk_for_the_download(both: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match="fetching tortoise-v2 takes .* MB in .*, and 0.0 MB are free"):
        find_model("tortoise-v2")
    assert both.downloads == []


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
