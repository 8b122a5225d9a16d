"""LibriTTS's layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chelys.errors import ManifestError

CLIPS = {"dev-clean/84/121123/84_121123_000007_000001": 0.5, "train-clean-100/19/198/19_198_000000_000002": 0.75}


@pytest.fixture
def tree(put: Callable[..., Path]) -> None:
    put("LICENSE.txt", "CC BY 4.0")
    put("SPEAKERS.txt", ";ID | SEX | SUBSET | MINUTES | NAME\n19 | F | train-clean-100 | 25.19 | Kara\n")
    put("dev-clean/84/121123/84_121123.trans.tsv", "84_121123_000007_000001\tGo 2!\tGo two!\n")
    put("dev-clean/84/121123/84_121123.book.tsv", "84_121123_000007_000001\tGo 2!\n")
    for name, seconds in CLIPS.items():
        put(f"{name}.wav", seconds, 24_000)
        put(f"{name}.original.txt", "Go 2!")
        put(f"{name}.normalized.txt", "Go two!\n")


@pytest.mark.parametrize("below", ["", "train-clean-100", ".."])
def test_the_corpus_a_subset_or_the_folder_around_it(
    tree: None, corpus: Path, run: Callable[..., Any], below: str
) -> None:
    found = run("libritts", corpus / below)
    expected = {Path(name).name: (name.split("/"), seconds) for name, seconds in CLIPS.items()}
    if below == "train-clean-100":
        del expected["84_121123_000007_000001"]
    assert found.by_id().keys() == expected.keys() and not found.faults
    for id_, ((subset, speaker, _, _), seconds) in expected.items():
        line = found.by_id()[id_]
        assert (line["text"], line["speaker"], line["split"]) == ("Go two!", speaker, subset)
        assert (line["seconds"], line["licence"]) == (seconds, "CC-BY-4.0")


def test_what_is_wrong_is_listed(tree: None, put: Callable[..., Path], run: Callable[..., Any]) -> None:
    put("dev-clean/84/121123/84_121123_000008_000000.wav")  # no text
    put("dev-clean/84/121123/84_121123_000009_000000.wav")
    put("dev-clean/84/121123/84_121123_000009_000000.original.txt", "The original stands in.")
    put("dev-clean/84/121123/84_121123_000010_000000.wav")
    put("dev-clean/84/121123/84_121123_000010_000000.normalized.txt", "Caf\xe9".encode("latin1"))
    put("dev-clean/84/121123/84_121123_000011_000000.wav")
    put("dev-clean/84/121123/84_121123_000011_000000.normalized.txt", " \n")
    put("dev-clean/85/121123/84_121123_000012_000000.wav")  # another speaker's folder
    put("noise.wav")
    found = run("libritts")
    assert found.by_id()["84_121123_000009_000000"]["text"] == "The original stands in."
    assert found.made.clips == 3
    chapter = "dev-clean/84/121123/84_121123"
    assert found.left_out() == {
        (f"{chapter}_000008_000000.normalized.txt", "no transcript"),
        (f"{chapter}_000010_000000.normalized.txt", "encoding"),
        (f"{chapter}_000011_000000.normalized.txt", "no transcript"),
        ("dev-clean/85/121123/84_121123_000012_000000.wav", "not of the layout"),
        ("noise.wav", "not of the layout"),
    }


def test_another_layout_is_said(put: Callable[..., Path], run: Callable[..., Any]) -> None:
    put("wavs/a.wav")
    with pytest.raises(ManifestError, match="SUBSET/SPEAKER/CHAPTER"):
        run("libritts")
