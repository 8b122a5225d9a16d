"""Configurations are found by name, wherever one stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from chelys.configs import CONFIGS, find_config, read_config_file
from chelys.deprecation import ChelysDeprecationWarning
from chelys.errors import ConfigError


def test_a_configuration_of_chelys_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("nano/dvae") == find_config(Path("nano/dvae.yaml")) == CONFIGS / "nano" / "dvae.yaml"
    with pytest.warns(ChelysDeprecationWarning, match="--config configs/nano/dvae.yaml .*: use --config nano/dvae"):
        assert find_config("configs/nano/dvae.yaml") == CONFIGS / "nano" / "dvae.yaml"
    assert read_config_file(Path("nano/dvae"), ["loop.steps=7"])["loop"]["steps"] == 7


def test_a_file_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nano").mkdir()
    Path("nano/dvae").write_text("a: 1")
    assert find_config("nano/dvae") == Path("nano/dvae") and read_config_file(Path("nano/dvae")) == {"a": 1}


@pytest.mark.parametrize("name", ["nano/none", "none.yaml", "nano", "../configs/nano/dvae", "."])
def test_what_is_not_there_is_one_line_with_the_names_that_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        read_config_file(Path(name))
    assert "\n" not in str(error.value) and ("tortoise_v2/clvp" in str(error.value) or name == ".")
