"""What docs/serving.md shows to be called is called, at the address that it gives."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import soundfile as sf
from server_process import start

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


def block(language: str, begin: str) -> str:
    (found,) = re.findall(rf"^```{language}\n({begin}.*?)^```$", PAGE.read_text("utf8"), re.M | re.S)
    return found


@pytest.mark.slow
def test_the_calls_of_the_page(toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        running = start(toy_folder, tmp_path / "server", "--port", "8880")
    except AssertionError as error:
        pytest.skip(f"port 8880 is taken: {error}")
    try:
        for make in (
            lambda: subprocess.run(["bash", "-e", "-c", block("bash", "curl")], cwd=tmp_path, check=True),
            lambda: exec(block("python", "from openai"), {}),
        ):
            monkeypatch.chdir(tmp_path)
            make()
            assert sf.info(tmp_path / "hello.mp3").samplerate == 24_000
            (tmp_path / "hello.mp3").unlink()
    finally:
        assert running.stop() == 0
        running.client.close()


def test_every_setting_stands_on_the_page() -> None:
    from chelys.server.settings import ServerSettings

    table = PAGE.read_text("utf8").split("## Settings")[1].split("## Load")[0]
    assert {name for name in ServerSettings.model_fields if f"`{name}`" not in table} == set()
