"""The page in a browser, and OpenAI's client for JavaScript: what needs node, npm and chromium.

``CHELYS_PICTURES=docs/images`` keeps the screenshots; ``CHELYS_PICTURES_MODEL=nano`` takes them of nano.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import node_packages
import pytest
import soundfile as sf
import toy
from server_process import start

from chelys.audio.io import to_pcm
from chelys.inference.synthesizer import Synthesizer

HERE = Path(__file__).parent
PACKAGES = ("playwright-core@1.65.1", "axe-core@4.14.1", "openai@6.49.0")


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm packages."""
    return node_packages.install(tmp_path_factory.mktemp("npm"), *PACKAGES)


def node(script: str, modules: Path, *arguments: object) -> dict:
    return node_packages.run(HERE / script, modules, *arguments)


@pytest.mark.slow
def test_openais_client_for_javascript(server, node_modules: Path, tts: Synthesizer) -> None:
    found = node("openai_client.mjs", node_modules, server.url)
    said = to_pcm(tts.speak("Hello there. One, two, three! There, hello.", voice="low", seed=7).audio).tobytes()
    assert found["pcm"] == found["streamed"] == hashlib.sha256(said).hexdigest()
    assert min(found["bytes"].values()) > 1000 and found["pieces"] > 1
    assert found["error"]["status"] == 400 and found["error"]["name"] == "BadRequestError"
    assert "nobody" in found["error"]["message"] and "tts-1" in found["models"]


@pytest.mark.slow
def test_the_page_in_a_browser(toy_folder: Path, node_modules: Path, tmp_path: Path) -> None:
    node_packages.require_chromium()
    pictures = Path(os.environ.get("CHELYS_PICTURES", tmp_path)).resolve()
    clip = tmp_path / "clip.wav"
    sf.write(clip, toy.tone(180.0, 2.0), 24_000)
    running = start(Path(os.environ.get("CHELYS_PICTURES_MODEL", toy_folder)), tmp_path / "server")
    try:
        found = node("browser.mjs", node_modules, running.url, os.environ.get("CHELYS_PICTURES_CLIP", clip), pictures)
    finally:
        running.stop()
        running.client.close()
    assert found["errors"] == found["faults"] == found["foreign"] == [] and found["overflow"] == 0
    assert found["steps"][-1] == "voice deleted" and len(found["steps"]) == 7
    assert found["heard"] > 0.001 and found["played"] > 0
    told = "s of speech" if "CHELYS_PICTURES_CLIP" not in os.environ else "fit to make a voice"
    assert told in found["checked"] and "visitor is made" in found["check"]
    assert found["kept"] == "Take 3, kept" and found["focused"] == "Keep: Take 3"
    assert "--seed 6 " in found["keeping"]  # of the second of three takes, the third on the board
    assert len(set(found["scores"])) > 1
    lengths = found["lengths"]
    assert lengths[2] == lengths[3]  # rendered again: the same codes, so the same length
    assert "visitor" in found["command"] and "/v1/audio/speech" in found["curl"]
    assert sf.info(pictures / "take.wav").frames == lengths[2]
    (pictures / "take.wav").unlink()
