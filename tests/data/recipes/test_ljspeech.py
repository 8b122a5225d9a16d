"""LJSpeech's layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chelys.data.manifest import read_manifest
from chelys.errors import ManifestError


def test_clips_and_their_spelled_texts(put: Callable[..., Path], run: Callable[..., Any], corpus: Path) -> None:
    put("README", "The LJ Speech Dataset")
    put("metadata.csv", 'LJ001-0001|In 1470, "B".|In fourteen seventy, "B".\r\nLJ001-0002|Only one text|\n')
    put("wavs/LJ001-0001.wav", 0.75, 22_050)
    put("wavs/LJ001-0002.wav", 0.5)
    made, lines, faults = run("ljspeech")
    assert lines == [
        {
            "id": "LJ001-0001", "audio": "../corpora/the corpus/wavs/LJ001-0001.wav",
            "text": 'In fourteen seventy, "B".', "speaker": "LJ", "seconds": 0.75, "licence": "public domain",
        },
        {
            "id": "LJ001-0002", "audio": "../corpora/the corpus/wavs/LJ001-0002.wav",
            "text": "Only one text", "speaker": "LJ", "seconds": 0.5, "licence": "public domain",
        },
    ]  # fmt: skip
    assert (made.clips, made.speakers, made.left_out, made.faults, faults) == (2, 1, {}, None, [])
    assert made.hours == pytest.approx(1.25 / 3600)
    assert [Path(u.audio).resolve() for u in read_manifest(made.manifest)] == [
        (corpus / "wavs" / f"LJ001-000{i}.wav").resolve() for i in (1, 2)
    ]


def test_what_is_wrong_is_listed_line_by_line(put: Callable[..., Path], run: Callable[..., Any]) -> None:
    metadata = (
        b"good|a|a\ngone|b|b\nbroken\nempty||\nlatin|caf\xe9|caf\xe9\ntoo|many|bars|here\n\nnothing|c|c\ntext|d|d\n"
    )
    put("metadata.csv", metadata + b"good|a|a\n")
    put("wavs/good.wav")
    put("wavs/nothing.wav", b"")
    put("wavs/text.wav", "These are words.\n" * 99)
    put("wavs/extra.wav")
    _, lines, faults = run("ljspeech")
    assert [line["id"] for line in lines] == ["good"]
    assert {(fault["where"], fault["kind"]) for fault in faults} == {
        ("wavs/gone.wav", "missing audio"),
        ("metadata.csv:3", "broken line"),
        ("metadata.csv:4", "no transcript"),
        ("metadata.csv:5", "encoding"),
        ("metadata.csv:6", "broken line"),
        ("wavs/nothing.wav", "unreadable audio"),
        ("wavs/text.wav", "unreadable audio"),
        ("wavs/extra.wav", "no transcript"),
        ("wavs/good.wav", "named twice"),
    }


def test_another_layout_is_said(put: Callable[..., Path], run: Callable[..., Any]) -> None:
    put("wavs/a.wav")
    with pytest.raises(ManifestError, match="no metadata.csv in .*LJSpeech-1.1"):
        run("ljspeech")
