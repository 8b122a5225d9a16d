"""Shards hold what was kept, in the same bytes each time, and stay as they are when recordings come in."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import made_up
import numpy as np
import pytest
import soundfile as sf
from made_up import talk

from chelys.data.prepare import shard_writer
from chelys.data.prepare.engine import Local
from chelys.data.prepare.metadata import read_clips
from chelys.data.prepare.pipeline import PrepareSettings, prepare

Settings = Callable[..., PrepareSettings]


def members(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]


def test_what_is_in_a_shard(raw: Path, tmp_path: Path, settings: Settings) -> None:
    out = tmp_path / "out"
    prepare(raw, out, settings(pack={"clips": 100}), engine=Local(0))
    clips = {c.id: c for c in read_clips(out)}
    files = members(out / "shards" / "000000.tar")
    assert list(files) == [f"{name}.{kind}" for name in clips for kind in ("flac", "json")]
    for name, clip in clips.items():
        audio, rate = sf.read(io.BytesIO(files[f"{name}.flac"]), dtype="int16")
        kept, _ = sf.read(out / (clip.audio or ""), dtype="int16",
                          start=round(clip.audio_start * rate), stop=round(clip.audio_end * rate))  # fmt: skip
        np.testing.assert_array_equal(audio, kept)
        said = json.loads(files[f"{name}.json"])
        assert (said["text"], said["source"], said["similar"]) == (clip.text, clip.source, clip.similar)
    with tarfile.open(out / "shards" / "000000.tar") as tar:
        assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in tar} == {(0, 0, 0, 0o644, "")}


def test_training_reads_them(raw: Path, tmp_path: Path, settings: Settings) -> None:
    from chelys.data.shards import open_shards

    prepare(raw, tmp_path / "out", settings(), engine=Local(0))
    index = open_shards(tmp_path / "out")
    assert len(index) == 6 and index.left_out() == {}
    prepare(raw, tmp_path / "out", settings(pack={"clips": 2}), engine=Local(0))
    assert len(open_shards(tmp_path / "out")) == 6


def test_new_recordings_leave_other_shards_alone(tmp_path: Path, settings: Settings) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    for i in range(9):
        sf.write(raw / f"b{i}.wav", talk([0.8, 0.7], seed=i), made_up.RATE)
    few = settings(pack={"clips": 4})
    prepare(raw, out, few, engine=Local(0))
    before = {p.read_bytes() for p in (out / "shards").glob("*.tar")}
    sf.write(raw / "a.wav", talk([1.3, 1.1], seed=99), made_up.RATE)
    assert prepare(raw, out, few, engine=Local(0)).kept == 20
    after = {p.read_bytes() for p in (out / "shards").glob("*.tar")}
    assert len(before) >= 4 and len(before - after) <= 2
    index = [json.loads(line) for line in (out / "shards" / "index.jsonl").read_text().splitlines()]
    assert [e["shard"] for e in index] == sorted(p.name for p in (out / "shards").glob("*.tar"))
    assert sum(e["clips"] for e in index) == 20
    assert [e["bytes"] for e in index] == [(out / "shards" / e["shard"]).stat().st_size for e in index]
    made = list((out / "work" / "pack").rglob("*.tar"))
    assert len(made) == len(index), "shards that are in use no more are gone"


def test_without_links(raw: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("this file system has none")

    prepare(raw, tmp_path / "with", settings(), engine=Local(0))
    monkeypatch.setattr(os, "link", refuse)
    for _ in range(2):
        prepare(raw, tmp_path / "without", settings(), engine=Local(0))
        assert {p.name: p.read_bytes() for p in (tmp_path / "without" / "shards").iterdir()} == {
            p.name: p.read_bytes() for p in (tmp_path / "with" / "shards").iterdir()
        }


def test_a_shard_that_fails_leaves_the_old_ones(
    raw: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepare(raw, out, settings(), engine=Local(0))
    before = {p: p.read_bytes() for p in (out / "shards").iterdir()}
    sf.write(raw / "new.wav", talk([1.3, 1.1], seed=98), made_up.RATE)

    def fail(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_writer, "_flac", fail)
    summary = prepare(raw, out, settings(), engine=Local(0))
    assert "no space left on the disk" in summary.failed
    assert {p: p.read_bytes() for p in (out / "shards").iterdir()} == before
