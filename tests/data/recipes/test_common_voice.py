"""Common Voice's layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chelys.errors import ManifestError

HEADER = (
    "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender\taccents\tvariant\t"
    "locale\tsegment\n"
)


def row(client: str, number: int, sentence: str) -> str:
    return f"{client}\tcommon_voice_en_{number}.mp3\t9a\t{sentence}\t\t2\t0\ttwenties\t\t\t\ten\t\n"


def test_speakers_splits_and_quotation_marks(put: Callable[..., Path], run: Callable[..., Any]) -> None:
    rows = [row("c1", 1, '"Why?" he said.'), row("c1", 2, 'An odd " mark'), row("c2", 3, "Plain\u2028 words.")]
    put("validated.tsv", HEADER + "".join(rows))
    put("train.tsv", HEADER + rows[0])
    put("test.tsv", HEADER + rows[2])
    put("clip_durations.tsv", "clip\tduration[ms]\ncommon_voice_en_1.mp3\t4104\ncommon_voice_en_2.mp3\tlong\n")
    for number in (1, 2, 3):
        put(f"clips/common_voice_en_{number}.mp3", 1.0, 44_100)
    found = run("common-voice")
    lines = found.by_id()
    assert [(e["text"], e["speaker"], e.get("split")) for e in lines.values()] == [
        ('"Why?" he said.', "c1", "train"),
        ('An odd " mark', "c1", None),
        ("Plain\u2028 words.", "c2", "test"),
    ]
    assert lines["common_voice_en_1"]["seconds"] == 4.104, "as the corpus says"
    assert lines["common_voice_en_3"]["seconds"] == pytest.approx(1.0, abs=0.1), "measured"
    assert {e["licence"] for e in lines.values()} == {"CC0-1.0"}
    assert found.left_out() == {("clip_durations.tsv:3", "broken line")}


def test_the_folder_of_a_release(put: Callable[..., Path], run: Callable[..., Any]) -> None:
    put("en/validated.tsv", "client_id\tpath\tsentence\nc1\ten/clips/a\tEarly days.\n")  # as the first releases had it
    put("en/clips/a.mp3", 1.0, 44_100)
    assert [(e["id"], e["text"]) for e in run("common-voice").lines] == [("a", "Early days.")]
    put("cy/validated.tsv", HEADER)
    with pytest.raises(ManifestError, match="holds 2 languages: give the folder of one, such as .*cy"):
        run("common-voice")


def test_what_is_wrong_is_listed(put: Callable[..., Path], run: Callable[..., Any]) -> None:
    bad = ["\t\t\n", row("c", 5, " "), row("c", 6, "gone"), row("c", 7, "one\ttoo\tmany"), "c\tx.mp3\n"]
    put("validated.tsv", (HEADER + row("c1", 1, "Good.") + "".join(bad)).encode() + row("c", 8, "caf").encode("utf-16"))
    put("clips/common_voice_en_1.mp3", 1.0, 44_100)
    found = run("common-voice")
    assert [e["text"] for e in found.lines] == ["Good."]
    assert {
        ("validated.tsv:4", "no transcript"),
        ("clips/common_voice_en_6.mp3", "missing audio"),
        ("validated.tsv:6", "broken line"),
        ("validated.tsv:7", "broken line"),
        ("validated.tsv:8", "encoding"),
    } <= found.left_out()


def test_another_layout_is_said(run: Callable[..., Any]) -> None:
    with pytest.raises(ManifestError, match="no validated.tsv"):
        run("common-voice")
