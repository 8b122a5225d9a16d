"""A check of a manifest finds every fault that was planted, and nothing in a good one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

from chelys.cli.main import app
from chelys.data.check import KINDS, CheckLimits, CheckResult, FilePart, analyse, check
from chelys.data.manifest import read_manifest
from chelys.errors import ManifestError, UserError

RATE = 24_000
#: Words of one letter or more, to make texts of a wanted length that nobody says twice.
WORDS = ["calm", "moon", "seven", "slow", "river", "polo", "garden", "three", "lamp", "summer"]


def hum(seconds: float, seed: int = 0, gain: float = 0.1) -> np.ndarray:
    """Noise, float32: like speech and unlike a tone it is seldom near its peak."""
    return (gain * np.random.default_rng(seed).normal(size=round(seconds * RATE))).astype(np.float32)


def words(count: int, seed: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, size=count)).capitalize() + "."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "corpus"
    made.mkdir()
    return made


@pytest.fixture
def add(folder: Path) -> Callable[..., None]:
    """Add a clip to the manifest: a good one of 12 letters or so a second, but for what is changed."""

    def write(id_: str, lasting: float = 2.0, wave: np.ndarray | None = None, rate: int = RATE, **changes: Any) -> None:
        seed = len(list(folder.iterdir()))
        audio = hum(lasting, seed) if wave is None else wave
        sf.write(folder / f"{id_}.wav", audio, rate)
        entry = {
            "id": id_, "audio": f"{id_}.wav", "text": words(max(1, round(lasting * 2.5)), seed), "speaker": "ada",
            "seconds": len(audio) / rate, "pitch": 180,
        }  # fmt: skip
        with (folder / "m.jsonl").open("a", encoding="utf8") as lines:
            lines.write(json.dumps(entry | changes) + "\n")

    return write


def faults(folder: Path, **limits: Any) -> dict[str, dict[str, str]]:
    """Id (or number of the line) -> its faults."""
    return {
        line.utterance.id if line.utterance else str(line.number): line.faults
        for line in checked(folder, **limits).bad
    }  # fmt: skip


def checked(folder: Path, **limits: Any) -> CheckResult:
    return check(folder / "m.jsonl", CheckLimits(**limits), workers=1)


def test_a_good_corpus_has_no_fault(folder: Path, add: Callable[..., None]) -> None:
    for number in range(4):
        add(f"clip{number}", lasting=1.0 + number)
    seen: list[tuple[int, int]] = []
    found = check(folder / "m.jsonl", workers=1, progress=lambda *done: seen.append(done))
    assert found.bad == [] and found.counts() == {} and seen[-1] == (4, 4)


def test_every_planted_fault_is_found_and_nothing_else(folder: Path, add: Callable[..., None]) -> None:
    first = hum(2.0, 99)
    add("good", wave=first, text="The first text of all.")
    add("gone")
    (folder / "gone.wav").unlink()
    add("words")
    (folder / "words.wav").write_text("no sound\n" * 999)
    add("zero")
    (folder / "zero.wav").write_bytes(b"")
    add("cut", lasting=3.0)
    os.truncate(folder / "cut.wav", 90_000)
    add("nan")
    sf.write(folder / "nan.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    add("silent", wave=np.zeros(2 * RATE, np.float32))
    add("brief", lasting=0.4)
    add("endless", lasting=21.5)
    add("clipped", wave=np.clip(hum(2.0, 5, gain=1.0), -1, 1))
    add("telephone", wave=hum(2.0, 6)[::3], rate=8000)
    add("liar", seconds=2.5)
    add("twice", wave=hum(2.0, 7), id="good")
    add("copy", wave=first)
    add("again", text="the FIRST text, of all!")
    add("other", text="The first text of all.", speaker="bob")
    add("prompt", text=words(30, 1))
    add("mumble", lasting=6.0, text="Calm moon.")
    add("signs", text="?! ...")
    add("blank", text=" ")
    with (folder / "m.jsonl").open("ab") as lines:
        lines.write(b'{"id": 5}\n\n{"half": \n\xff\xfe\n[]\n')
    found = faults(folder)
    assert {name: set(kinds) for name, kinds in found.items()} == {
        "gone": {"missing"},
        "words": {"corrupt"},
        "zero": {"corrupt"},
        "cut": {"corrupt"},
        "nan": {"corrupt"},
        "silent": {"silent"},
        "brief": {"too short"},
        "endless": {"too long"},
        "clipped": {"clipped"},
        "telephone": {"wrong rate"},
        "liar": {"wrong seconds"},
        "good": {"repeated id"},
        "copy": {"repeated audio"},
        "again": {"repeated text"},
        "prompt": {"misfit"},
        "mumble": {"misfit"},
        "signs": {"unspeakable"},
        "blank": {"unspeakable"},
        "21": {"malformed"},
        "23": {"malformed"},
        "24": {"malformed"},
        "25": {"malformed"},
    }
    assert {kind for kinds in found.values() for kind in kinds} == set(KINDS), "the table has each of them"
    assert all("\n" not in detail for kinds in found.values() for detail in kinds.values())
    assert found["copy"] == {"repeated audio": "as in line 1"} and found["telephone"] == {"wrong rate": "8000 Hz"}
    assert "ends early" in found["cut"]["corrupt"]


def test_pieces_of_one_recording(folder: Path) -> None:
    sf.write(folder / "long.flac", np.concatenate([hum(2.0, 1), np.zeros(2 * RATE, np.float32), hum(2.0, 2)]), RATE)
    with (folder / "m.jsonl").open("w") as lines:
        for id_, start, end in (
            ("a", 0.0, 2.0),
            ("pause", 2.1, 3.9),
            ("b", 4.0, None),
            ("late", 5.0, 9.0),
            ("off", 7, 9),
        ):
            entry = {"id": id_, "audio": "long.flac", "text": words(5, ord(id_[0])), "speaker": "ada", "start": start,
                     "end": end, "seconds": (end or 6.0) - start}  # fmt: skip
            lines.write(json.dumps(entry) + "\n")
    found = faults(folder)
    assert {name: set(kinds) for name, kinds in found.items()} == {
        "pause": {"silent"}, "late": {"corrupt"}, "off": {"corrupt"}
    }  # fmt: skip
    assert found["late"]["corrupt"] == "the clip ends at 9.00 s, the file at 6.00 s"


def test_copies_in_another_format_are_the_same_sound(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac"):
        sf.write(tmp_path / name, np.round(hum(1.0) * 32768).astype(np.int16), RATE)
    first, second = (analyse(tmp_path / name, [FilePart(0, None)], 20)[0] for name in ("a.wav", "a.flac"))
    assert first.digest and first.digest == second.digest


def test_a_long_file_is_not_listened_to_beyond_need(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", hum(60.0), RATE)
    (heard,) = analyse(tmp_path / "a.wav", [FilePart(0, None)], 20)
    assert heard.seconds == 21.0 and heard.fault is None


def test_the_pace_of_a_speaker_is_learnt(folder: Path, add: Callable[..., None]) -> None:
    """A text that fits mankind need not fit this speaker, who is slow."""
    for number in range(24):
        add(f"clip{number:02d}", lasting=4.0, text=words(5, 100 + number))
    add("swapped", lasting=4.0, text=words(15, 7))
    add("quick", lasting=4.0, text=words(15, 8), speaker="bob")
    found = faults(folder)
    assert set(found) == {"swapped", "quick"}, "of one clip alone bob's pace is not known; the corpus's holds"
    assert "letters in 4.00 s" in found["swapped"]["misfit"] and "in a second are usual" in found["swapped"]["misfit"]


@pytest.mark.parametrize("there", ["corpus", "elsewhere/deep"])
def test_a_manifest_without_the_bad_clips(folder: Path, add: Callable[..., None], tmp_path: Path, there: str) -> None:
    add("good")
    add("bad", wave=np.zeros(RATE, np.float32))
    add("fine", audio=str(folder / "fine.wav"))
    found = checked(folder)
    fixed = tmp_path / there / "good.jsonl"
    found.write_good(fixed)
    assert [u.id for u in read_manifest(fixed)] == ["good", "fine"]
    assert all(Path(u.audio).is_file() for u in read_manifest(fixed))
    entries = [json.loads(line) for line in fixed.read_text().splitlines()]
    assert [e["pitch"] for e in entries] == [180, 180], "what chelys does not know is kept"
    assert not Path(entries[0]["audio"]).is_absolute() and Path(entries[1]["audio"]).is_absolute()
    assert check(fixed, workers=1).bad == []


def test_nothing_good_is_said(folder: Path, add: Callable[..., None]) -> None:
    add("bad", wave=np.zeros(RATE, np.float32))
    with pytest.raises(ManifestError, match="no clip of .* is without a fault"):
        checked(folder).write_good(folder / "good.jsonl")
    assert not (folder / "good.jsonl").exists()


def test_what_is_allowed_is_no_fault(folder: Path, add: Callable[..., None]) -> None:
    add("a", wave=hum(2.0, 1)[::3], rate=8000, text="The same.")
    add("b", wave=hum(2.0, 2)[::3], rate=8000, text="The same.")
    assert set(faults(folder, rate=8000)) == {"b"}
    assert faults(folder, allowed=frozenset({"repeated text", "wrong rate"})) == {}


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"min_seconds": 3.0, "max_seconds": 2.0}, "clips of 3 to 2 s"),
        ({"allowed": frozenset({"cliped"})}, "unknown kind of fault 'cliped': choose from malformed, missing"),
    ],
)
def test_limits_that_make_no_sense(limits: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        CheckLimits(**limits)


@pytest.mark.parametrize(("content", "says"), [(None, "no manifest at"), ("\n", "is empty")])
def test_no_manifest(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "m.jsonl").write_text(content)
    with pytest.raises(ManifestError, match=says):
        checked(tmp_path)


def test_the_verb(folder: Path, add: Callable[..., None], tmp_path: Path) -> None:
    add("good")
    command = ["data", "check", str(folder / "m.jsonl"), "--workers", "1"]
    clean = CliRunner().invoke(app, command)
    assert clean.exit_code == 0 and clean.stdout.split() == "1 of 1 clips are good".split()
    assert sorted(os.listdir(folder)) == ["good.wav", "m.jsonl"]
    add("bad", wave=np.zeros(RATE, np.float32))
    result = CliRunner().invoke(app, [*command, "--fix", str(tmp_path / "fixed.jsonl")])
    assert result.exit_code == 1
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [["1", "silent"], ["1", "of"]]
    assert str(folder / "m.bad.jsonl") in result.stderr
    (bad,) = (folder / "m.bad.jsonl").read_text().splitlines()
    assert json.loads(bad) == {
        "line": 2, "id": "bad", "audio": str(folder / "bad.wav"), "faults": {"silent": "peak 0 of full scale"}
    }  # fmt: skip
    assert [u.id for u in read_manifest(tmp_path / "fixed.jsonl")] == ["good"]
    assert CliRunner().invoke(app, [*command, "--allow", "silent", "--allow", "wrong seconds"]).exit_code == 0
    assert not (folder / "m.bad.jsonl").exists(), "a list of what is no longer bad would mislead"
    assert CliRunner().invoke(app, [*command, "--allow", "quiet"]).exit_code == 2
