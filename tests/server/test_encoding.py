"""Every format is decoded again, whole and streamed, and compared with the samples."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile as sf
from heard import RATE, check_alike, decode

from chelys.server.encoding import FORMATS, Format, encode, encoder


def sound(seconds: float = 3.0) -> np.ndarray:
    """A gliding tone with a tremolo and some noise, ``(n,)`` float32."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * (220 + 40 * time) * time) * (1 + np.sin(2 * np.pi * 3 * time))
    return (0.3 * tone + 0.003 * np.random.default_rng(0).standard_normal(len(time))).astype(np.float32)


def streamed(audio: np.ndarray, format: Format, block: int = 6000) -> list[bytes]:
    made = encoder(RATE, format)
    return [*(made.feed(audio[i : i + block]) for i in range(0, len(audio), block)), made.finish()]


@pytest.mark.parametrize("format", FORMATS)
def test_a_whole_file_decodes_to_what_was_said(format: Format) -> None:
    check_alike(decode(encode(sound(), RATE, format), format), sound(), format)


@pytest.mark.parametrize("format", FORMATS)
def test_a_streamed_file_decodes_to_what_was_said(format: Format) -> None:
    check_alike(decode(b"".join(streamed(sound(), format)), format), sound(), format)


@pytest.mark.parametrize("format", FORMATS)
def test_audio_leaves_the_encoder_soon(format: Format) -> None:
    """Half a second after it was fed, most of what was fed can be heard."""
    made = encoder(RATE, format)
    data = made.feed(sound(0.5))
    assert len(decode(data, format)) > 0.3 * RATE


@pytest.mark.parametrize("format", ("wav", "flac", "mp3", "opus"))
def test_a_whole_file_knows_its_length(format: Format) -> None:
    info = sf.info(io.BytesIO(encode(sound(), RATE, format)))
    assert (info.samplerate, info.frames) == (RATE, 3 * RATE)
