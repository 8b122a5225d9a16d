"""Manifests: what is written is read, and a malformed line is named by its number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chelys.data.manifest import Utterance, read_manifest, write_manifest
from chelys.errors import ManifestError

GOOD = {"id": "a", "audio": "a.wav", "text": "Calm.", "speaker": "ada", "seconds": 1.0}
UTTERANCES = [
    Utterance("a", "a.wav", "Calm moon.", "ada", 1.25),
    Utterance("b", "deep/b.flac", 'Ein „Mönd“\u2028über\x85 \\ "zwei" Zeilen\n.', "Bö b", 2.0, start=0.5, end=2.5),
    Utterance("c", "/far/c.wav", "", "ada", 0.0, end=3.0),
]


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "manifest.jsonl"
    write_manifest(path, UTTERANCES)
    assert list(read_manifest(path, root=tmp_path)) == UTTERANCES, "with a root, paths stay as they are"
    assert [u.audio for u in read_manifest(path)] == [
        str(tmp_path / "new" / "a.wav"), str(tmp_path / "new" / "deep" / "b.flac"), "/far/c.wav"
    ]  # fmt: skip
    assert [p.name for p in path.parent.iterdir()] == ["manifest.jsonl"]


def test_paths_are_absolute_wherever_the_reader_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(tmp_path / "here" / "m.jsonl", UTTERANCES[:1])
    monkeypatch.chdir(tmp_path)
    assert next(read_manifest(Path("here/m.jsonl"))).audio == str(tmp_path / "here" / "a.wav")


def test_defaults_are_left_out_of_the_lines(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.jsonl", UTTERANCES)
    first, second, _ = (json.loads(line) for line in (tmp_path / "m.jsonl").read_text("utf8").split("\n")[:-1])
    assert first == {"id": "a", "audio": "a.wav", "text": "Calm moon.", "speaker": "ada", "seconds": 1.25}
    assert (second["start"], second["end"]) == (0.5, 2.5)


def test_a_manifest_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken():
        yield UTTERANCES[0]
        raise RuntimeError("the teacher fell silent")

    path = tmp_path / "m.jsonl"
    write_manifest(path, UTTERANCES[:1])
    before = path.read_bytes()
    with pytest.raises(RuntimeError):
        write_manifest(path, broken())
    assert path.read_bytes() == before


def test_unknown_keys_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text("\n" + json.dumps(GOOD | {"pitch": 210, "end": None}) + "\r\n \n")
    assert list(read_manifest(path, root=tmp_path)) == [Utterance("a", "a.wav", "Calm.", "ada", 1.0)]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{'id': 1}", "not JSON"),
        ('{"id": "a", "audio": "a.wav"', "not JSON"),
        ("[1, 2]", "not an object"),
        ('"a.wav"', "not an object"),
        ("null", "not an object"),
        (json.dumps({"id": "a", "text": "", "seconds": 1}), "lacks audio, speaker"),
        (json.dumps(GOOD | {"audio": 5}), "audio is 5; it must be a string"),
        (json.dumps(GOOD | {"text": None}), "text is null; it must be a string"),
        (json.dumps(GOOD | {"seconds": "1.0"}), 'seconds is "1.0"; it must be a number'),
        (json.dumps(GOOD | {"seconds": True}), "seconds is true"),
        (json.dumps(GOOD | {"start": -0.5}), "start is -0.5; it must be a number of seconds, 0 to 10000000"),
        (json.dumps(GOOD | {"end": float("nan")}), "not JSON (NaN is no number)"),
        (json.dumps(GOOD | {"start": 2.0, "end": 1.0}), "end is 1.0; it must come after start, 2.0"),
        (b'{"id": "\xff"}', "not UTF-8"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str | bytes, complaint: str) -> None:
    path = tmp_path / "m.jsonl"
    good = json.dumps(GOOD).encode()
    path.write_bytes(b"\n".join([good, b"", line if isinstance(line, bytes) else line.encode(), good]))
    with pytest.raises(ManifestError) as caught:
        list(read_manifest(path))
    message = str(caught.value)
    assert message.startswith(f"{path}:3: ") and complaint in message and "\n" not in message


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no manifest at .*none.jsonl"):
        list(read_manifest(tmp_path / "none.jsonl"))
