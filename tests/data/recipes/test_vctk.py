"""VCTK's layouts: 0.92 with two microphones, and the older one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chelys.errors import ManifestError


def test_one_microphone_of_two(put: Callable[..., Path], run: Callable[..., Any]) -> None:
    put("speaker-info.txt", "ID  AGE  GENDER  ACCENTS  REGION COMMENTS\np225  23  F    English    Southern  England\n")
    put("wav48_silence_trimmed/log.txt", "p225/p225_001_mic1.flac 0.5")
    put("wav48_silence_trimmed/p225/p225_001_mic1.flac", 0.5, 48_000)
    put("wav48_silence_trimmed/p225/p225_001_mic2.flac", 0.75, 48_000)
    put("wav48_silence_trimmed/p226/p226_002_mic2.flac", 1.0, 48_000)  # its first microphone is missing
    put("wav48_silence_trimmed/p315/p315_001_mic1.flac")
    put("wav48_silence_trimmed/s5/s5_001_mic1.flac", 1.25)
    put("wav48_silence_trimmed/s5/s6_001_mic1.flac")
    put("txt/p225/p225_001.txt", "Please call Stella.\n")
    put("txt/p226/p226_002.txt", "Ask her to bring\n these things.")
    put("txt/s5/s5_001.txt", "Please call Stella.")
    found = run("vctk")
    assert [(e["id"], e["text"], e["speaker"], e["seconds"]) for e in found.lines] == [
        ("p225_001", "Please call Stella.", "p225", 0.5),
        ("p226_002", "Ask her to bring these things.", "p226", 1.0),
        ("s5_001", "Please call Stella.", "s5", 1.25),
    ]
    assert {e["licence"] for e in found.lines} == {"CC-BY-4.0"} and not any("split" in e for e in found.lines)
    assert found.left_out() == {
        ("txt/p315/p315_001.txt", "no transcript"),
        ("wav48_silence_trimmed/s5/s6_001_mic1.flac", "not of the layout"),
    }


def test_the_older_layout(put: Callable[..., Path], run: Callable[..., Any]) -> None:
    put("wav48/p225/p225_001.wav", 0.5, 48_000)
    put("txt/p225/p225_001.txt", "Please call Stella.")
    (line,) = run("vctk").lines
    assert (line["id"], line["speaker"], line["audio"]) == (
        "p225_001", "p225", "../corpora/the corpus/wav48/p225/p225_001.wav"
    )  # fmt: skip


def test_another_layout_is_said(run: Callable[..., Any]) -> None:
    with pytest.raises(ManifestError, match="no wav48_silence_trimmed"):
        run("vctk")
