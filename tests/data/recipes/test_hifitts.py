"""Hi-Fi TTS's layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chelys.errors import ManifestError


def line(name: str, **changes: Any) -> str:
    """A line as the corpus has it."""
    entry = {
        "audio_filepath": f"audio/{name}", "text": "it cost two", "duration": 9.99,
        "text_no_preprocessing": "It cost 2.", "text_normalized": "It cost two.",
    }  # fmt: skip
    return json.dumps(entry | changes) + "\n"


def test_readers_qualities_and_splits(put: Callable[..., Path], run: Callable[..., Any]) -> None:
    put("92_manifest_clean_train.json", line("92_clean/10425/whale_0001.flac"))
    put("92_manifest_clean_dev.json", line("92_clean/777/whale_0001.flac", text_normalized=None))
    put("11614_manifest_other_test.json", line("11614_other/12352/prince_0002.flac"))
    put("audio/92_clean/10425/whale_0001.flac", 0.5, 44_100)
    put("audio/92_clean/777/whale_0001.flac", 0.75, 44_100)
    put("audio/11614_other/12352/prince_0002.flac", 1.0, 44_100)
    found = run("hifitts")
    assert {
        id_: (e["text"], e["speaker"], e["split"], e["seconds"], e["licence"]) for id_, e in found.by_id().items()
    } == {
        "92_10425_whale_0001": ("It cost two.", "92", "clean-train", 0.5, "CC-BY-4.0"),  # seconds are measured
        "92_777_whale_0001": ("it cost two", "92", "clean-dev", 0.75, "CC-BY-4.0"),
        "11614_12352_prince_0002": ("It cost two.", "11614", "other-test", 1.0, "CC-BY-4.0"),
    }
    assert not found.faults


def test_what_is_wrong_is_listed_and_nothing_leads_outside(
    put: Callable[..., Path], run: Callable[..., Any], corpus: Path
) -> None:
    put("../secret.flac")
    put("audio/92_clean/1/good.flac")
    put(
        "92_manifest_clean_train.json",
        line("92_clean/1/good.flac") + line("92_clean/1/gone.flac") + "{'not': 'json'}\n[1]\n"
        + line("92_clean/1/a.flac", text=" ", text_normalized="") + line("../../secret.flac")
        + line("", audio_filepath=5),
    )  # fmt: skip
    found = run("hifitts")
    assert [e["id"] for e in found.lines] == ["92_1_good"]
    name = "92_manifest_clean_train.json"
    assert found.left_out() == {
        ("audio/92_clean/1/gone.flac", "missing audio"),
        (f"{name}:3", "broken line"),
        (f"{name}:4", "broken line"),
        (f"{name}:5", "no transcript"),
        ("audio/../../secret.flac", "leads outside"),
        (f"{name}:7", "broken line"),
    }


def test_another_layout_is_said(run: Callable[..., Any]) -> None:
    with pytest.raises(ManifestError, match="hi_fi_tts_v0"):
        run("hifitts")
