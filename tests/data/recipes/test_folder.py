"""A folder of clips: transcripts beside them, or a table in one of several manners."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chelys.errors import ManifestError


def test_transcripts_beside_the_clips(put: Callable[..., Path], run: Callable[..., Any]) -> None:
    put("one.wav", 0.5)
    put("one.txt", " Two\n lines. ")
    put("ann/mine.flac", 0.75)
    put("ann/mine.lab", "\ufeffFrom a lab.")
    put('ann/deep er/it\'s "it".mp3', 1.0)
    put('ann/deep er/it\'s "it".json', json.dumps({"text": "An object.", "speaker": "bob", "license": "CC0-1.0"}))
    put("bo\u0301b/日本.wav", 1.0)
    put("bo\u0301b/日本.txt", "Wide.".encode("utf-16"))
    put(".hidden/no.wav")
    found = run("folder", licence="CC-BY-4.0")
    assert [(e["id"], e["text"], e["speaker"], e["licence"]) for e in found.lines] == [
        ("one", "Two lines.", "the corpus", "CC-BY-4.0"),
        ("ann_mine", "From a lab.", "ann", "CC-BY-4.0"),
        ("ann_deep_er_it_s_it", "An object.", "bob", "CC0-1.0"),
        ("bo_b_日本", "Wide.", "bo\u0301b", "CC-BY-4.0"),
    ]
    assert found.faults == []


def test_what_is_wrong_is_listed(put: Callable[..., Path], run: Callable[..., Any], corpus: Path) -> None:
    put("good.wav")
    put("good.txt", "Good.")
    put("mute.wav")
    put("blank.wav")
    put("blank.txt", "\n")
    put("latin.wav")
    put("latin.txt", b"caf\xe9")
    put("broken.wav")
    put("broken.json", '{"text": "half')
    put("numbers.wav")
    put("numbers.json", "[1, 2]")
    put("zero.wav", b"")
    put("zero.txt", "Nothing.")
    put("headonly.wav", 0.0)
    put("headonly.txt", "No samples.")
    outside = put("../outside.wav")
    (corpus / "link.wav").symlink_to(outside)
    put("link.txt", "A link.")
    (corpus / "dangling.wav").symlink_to(corpus / "nowhere.wav")
    put("dangling.txt", "A link to nothing.")
    found = run("folder")
    assert [e["id"] for e in found.lines] == ["good"]
    assert found.left_out() == {
        ("mute.wav", "no transcript"),
        ("blank.txt", "no transcript"),
        ("latin.txt", "encoding"),
        ("broken.json", "broken line"),
        ("broken.wav", "no transcript"),
        ("numbers.wav", "no transcript"),
        ("zero.wav", "unreadable audio"),
        ("headonly.wav", "unreadable audio"),
        ("link.wav", "leads outside"),
        ("dangling.wav", "missing audio"),
    }
    assert all("\n" not in fault["detail"] for fault in found.faults)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf8_is_listed(put: Callable[..., Path], run: Callable[..., Any], corpus: Path) -> None:
    good = put("good.wav")
    put("good.txt", "Good.")
    for suffix in (".wav", ".txt"):
        Path(os.fsdecode(os.fsencode(corpus) + b"/caf\xe9" + suffix.encode())).write_bytes(good.read_bytes()[:40])
    put("tab\there\nand there.wav")
    put("tab\there\nand there.txt", "A name on two lines.")
    found = run("folder")
    assert [e["id"] for e in found.lines] == ["good", "tab_here_and_there"]
    assert [fault["kind"] for fault in found.faults] == ["encoding"]


def test_paths_that_become_the_same_id_are_told_apart(put: Callable[..., Path], run: Callable[..., Any]) -> None:
    for name in ("a/b", "a_b", "a b"):
        put(f"{name}.wav")
        put(f"{name}.txt", name)
    put("a_b.flac")
    found = run("folder")
    assert {e["id"]: e["text"] for e in found.lines} == {"a_b": "a b", "a_b-2": "a_b", "a_b-3": "a_b", "a_b-4": "a/b"}


TABLES = {
    "metadata.csv": [
        "one|One.\ntwo|2|Two.\n",
        'file_name,transcription,speaker\none.wav,"One, ""two"".",ann\nwavs/two.wav,Two.,bob\n',
        "Path;Text;Speaker_ID\none.wav;One.;ann\ntwo;Two.;7\n",
    ],
    "metadata.tsv": ["audio\ttext\tsplit\none.wav\tOne.\ttrain\ntwo.wav\tTwo.\tdev\n"],
    "metadata.jsonl": [
        '{"file_name": "one.wav", "text": "One."}\n{"audio": "two", "sentence": "Two.", "speaker": 7}\n'
    ],
}


@pytest.mark.parametrize(("name", "table"), [(name, table) for name, tables in TABLES.items() for table in tables])
def test_tables(put: Callable[..., Path], run: Callable[..., Any], name: str, table: str) -> None:
    put(name, table)
    put("one.wav")
    put("wavs/two.wav", 0.75)
    one, two = run("folder").lines
    assert one["text"] in ("One.", 'One, "two".') and two["text"] == "Two."
    assert (one["id"], two["id"], two["seconds"]) == ("one", "wavs_two", 0.75)
    assert one.get("split") == ("train" if "split" in table else None)
    assert (one["speaker"], two["speaker"]) == (
        ("ann", "bob") if "ann,bob" in table or "ann\nwavs" in table
        else ("ann", "7") if "ann" in table
        else ("the corpus", "7") if "7" in table
        else ("the corpus", "the corpus")
    )  # fmt: skip


def test_lines_of_a_table_that_cannot_be_used(put: Callable[..., Path], run: Callable[..., Any]) -> None:
    put("metadata.csv", "file_name,text\ngood.wav,Good.\ngone.wav,Gone.\nalone\n,No name.\nmute.wav,\n../up.wav,Up.\n")
    put("good.wav")
    put("mute.wav")
    put("unnamed.wav")
    put("../up.wav")
    found = run("folder")
    assert [e["id"] for e in found.lines] == ["good"]
    assert found.left_out() == {
        ("gone.wav", "missing audio"),
        ("metadata.csv:4", "broken line"),
        ("metadata.csv:5", "broken line"),
        ("metadata.csv:6", "no transcript"),
        ("../up.wav", "leads outside"),
        ("unnamed.wav", "no transcript"),
    }


def test_a_header_without_a_column_for_the_text_is_said(put: Callable[..., Path], run: Callable[..., Any]) -> None:
    put("metadata.csv", "file_name,pitch\na.wav,7\n")
    with pytest.raises(ManifestError, match="has columns file_name, pitch: name them file_name, text"):
        run("folder")
