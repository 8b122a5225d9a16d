"""What synthesis returns: as bytes, into files and file objects, and how it shows itself."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from chelys.audio.io import FORMATS, to_pcm
from chelys.errors import OutputError
from chelys.inference.speech import Candidate, Chunk, Speech

RATE = 24_000
TONE = (0.4 * np.sin(2 * np.pi * 300 * np.arange(RATE) / RATE)).astype(np.float32)
TEXT = "Hello <b>there</b>, " + "and so on " * 30
CANDIDATE = Candidate(TONE, 0.75, [[1, 2, 3]])
SPEECH = Speech(TONE, RATE, [CANDIDATE], {"text": TEXT, "voice": "heart", "seed": 7}, [])


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_bytes_of_every_format_are_the_speech(format: str, tmp_path: Path) -> None:
    data = SPEECH.to_bytes(format)
    if format == "pcm":
        assert data == to_pcm(TONE).tobytes()
    else:
        audio, rate = sf.read(io.BytesIO(data), dtype="float32")
        assert rate == RATE and abs(len(audio) - len(TONE)) <= 1152  # one frame of MP3
        assert np.corrcoef(audio[: len(TONE)], TONE[: len(audio)])[0, 1] > 0.98
    for target in (io.BytesIO(), (tmp_path / "unnamed").open("wb")):
        SPEECH.save(target, format)
        assert target.tell() == len(data) and not target.closed
        target.close()
    SPEECH.save(tmp_path / f"speech.{format}")
    SPEECH.save(str(tmp_path / "without-suffix"), format)
    assert (tmp_path / f"speech.{format}").stat().st_size == (tmp_path / "without-suffix").stat().st_size == len(data)


def test_a_file_object_is_given_a_wav_unless_told_otherwise() -> None:
    target = io.BytesIO()
    SPEECH.save(target)
    assert target.getvalue() == SPEECH.to_bytes() == SPEECH.to_bytes("wav")


def test_what_cannot_be_written_to_is_refused_in_one_line(tmp_path: Path) -> None:
    for target, format in ((tmp_path / "a.xyz", None), (tmp_path / "a.wav", "aac"), (io.BytesIO(), "aac"), (7, None)):
        with pytest.raises(OutputError) as error:
            SPEECH.save(target, format)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)
    with pytest.raises(OutputError, match="unknown format 'aac': choose one of wav"):
        SPEECH.to_bytes("aac")
    assert not list(tmp_path.iterdir())


def test_results_show_themselves_in_one_short_line() -> None:
    chunk = Chunk(TONE, RATE, TEXT, [CANDIDATE])
    for shown in map(repr, (SPEECH, CANDIDATE, chunk)):
        assert "\n" not in shown and len(shown) < 160 and "array" not in shown
    assert repr(SPEECH).startswith("<Speech: 1.00 s at 24000 Hz, voice heart, seed 7, 'Hello <b>there</b>, and")


def test_a_notebook_shows_a_player() -> None:
    shown = SPEECH._repr_html_()
    data = re.search(r'<audio controls src="data:audio/flac;base64,([^"]+)"', shown)
    assert data is not None and "<b>" not in shown
    audio, _ = sf.read(io.BytesIO(base64.b64decode(data[1])), dtype="float32")
    np.testing.assert_allclose(audio, TONE, atol=1 / 32768)
