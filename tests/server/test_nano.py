"""Speech of nano in every format: lossy ones can be compared with it, unlike with the noise of the toy model."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest
from heard import check_alike, decode
from server_process import start

import chelys
from chelys.server.encoding import FORMATS

TEXT = "The old boat drifted past the mill. Nobody could say why."


@pytest.mark.slow
def test_every_format_sounds_like_what_was_said(tmp_path: Path) -> None:
    running = start(Path("nano"), tmp_path, "--preset", "ultra_fast")
    try:
        said = chelys.load().speak(TEXT, voice="rowan", preset="ultra_fast", seed=4).audio
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
        for format in FORMATS:
            answer = client.audio.speech.create(
                model="tts-1", voice="rowan", input=TEXT, response_format=format, extra_body={"seed": 4}
            )
            check_alike(decode(answer.content, format), said, format)
    finally:
        assert running.stop() == 0
        running.client.close()
