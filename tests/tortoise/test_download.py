"""Fetching from a hub that is played by folders of this machine; and no hub at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from fake_hub import COMMIT, Hub
from huggingface_hub.utils import OfflineModeIsEnabled

from chelys.errors import ModelError, OutputError
from chelys.tortoise import download
from chelys.tortoise.state_dicts import TABLES
from chelys.weights import checks, hub
from chelys.weights.catalog import find_model
from chelys.weights.folder import load_model, read_config

FIRST, SECOND = download.SOURCES


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
    for source in download.SOURCES:
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
        patch.setattr(download, "convert", lambda *a, **k: 1 / 0)
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
