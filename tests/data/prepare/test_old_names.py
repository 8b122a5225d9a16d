"""Settings, rules, module names and folders of the release before still work, with a warning."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from chelys.config import from_mapping
from chelys.data.prepare.measure import Bounds, read_rules
from chelys.data.prepare.metadata import ClipMetadata, read_clips
from chelys.data.prepare.pipeline import PrepareSettings
from chelys.data.prepare.transcribe import FasterWhisper, Transcription
from chelys.data.prepare.work import find_object
from chelys.deprecation import ChelysDeprecationWarning


def test_settings() -> None:
    old = {"segment": {"cut": {"pause": 0.4, "least": 1.0, "most": 9.0}}, "transcribe": {"beam": 4}}
    with pytest.warns(ChelysDeprecationWarning) as warned:
        made = from_mapping(PrepareSettings, old)
    assert {str(one.message).rpartition(" ")[2] for one in warned} >= {"segmenter", "min_silence", "beam_size"}
    segmenter = made.segment.segmenter
    assert (segmenter.min_silence, segmenter.min_seconds, segmenter.max_seconds) == (0.4, 1.0, 9.0)
    assert made.transcribe.beam_size == 4


def test_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("snr_db: {least: 10}\nseconds: {most: 12}\n")
    with pytest.warns(ChelysDeprecationWarning) as warned:
        rules = read_rules(tmp_path / "rules.yaml")
    assert rules == {"snr_db": Bounds(min=10), "seconds": Bounds(max=12)}
    assert "snr_db: least is deprecated" in str(warned[0].message)


def test_metadata_of_an_old_folder(tmp_path: Path) -> None:
    clip = {"id": "a", "source": "a.wav", "start": 0.0, "end": 1.0, "seconds": 1.0}
    (tmp_path / "ledger.jsonl").write_text(json.dumps(clip) + "\n")
    with pytest.warns(ChelysDeprecationWarning, match="use clips.jsonl"):
        assert list(read_clips(tmp_path)) == [ClipMetadata("a", "a.wav", 0.0, 1.0, 1.0)]


def test_modules_and_names() -> None:
    with pytest.warns(ChelysDeprecationWarning):
        assert import_module("chelys.data.prepare.ledger").read_ledger is read_clips
        assert import_module("chelys.data.prepare.settings").PrepareSettings is PrepareSettings
        assert import_module("chelys.data.prepare.transcribe").Heard is Transcription
        assert find_object("chelys.data.prepare.whisper:FasterWhisper") is FasterWhisper
