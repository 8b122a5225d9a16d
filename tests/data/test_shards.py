"""Shards: every sample once an epoch, whoever reads, wherever the run was broken off; bad samples are left out."""

from __future__ import annotations

import io
import json
import logging
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from chelys.data import shards as shards_module
from chelys.data.shards import ShardReader, open_shards
from chelys.errors import ManifestError

RATE = 8000


def sample(name: str, seconds: float, **changes: Any) -> dict[str, bytes]:
    """Files of a sample as ``chelys data prepare`` packs them; None takes one away."""
    wave = np.full(round(seconds * RATE), len(name) / 100, np.float32)
    flac, npy = io.BytesIO(), io.BytesIO()
    sf.write(flac, wave, RATE, format="FLAC")
    np.save(npy, np.arange(round(seconds * 10), dtype=np.uint16))
    about = {"id": name, "text": f"This is {name}.", "speaker": "ada", "seconds": seconds, "similar": []}
    files = {
        f"{name}.flac": flac.getvalue(), f"{name}.codes.npy": npy.getvalue(), f"{name}.json": json.dumps(about).encode()
    }  # fmt: skip
    for suffix, content in changes.items():
        files[f"{name}.{suffix}"] = content
    return {key: value for key, value in files.items() if value is not None}


def write_shard(path: Path, files: dict[str, bytes], format: int = tarfile.USTAR_FORMAT) -> None:
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five shards of unequal sizes, 101 samples of 0.2 to 3 s; not to be changed."""
    folder = tmp_path_factory.mktemp("prepared") / "shards"
    folder.mkdir()
    rng = np.random.default_rng(0)
    number = 0
    for shard, count in enumerate((30, 7, 25, 1, 38)):
        files = {}
        for _ in range(count):
            files |= sample(f"clip-{number:05d}", round(float(rng.uniform(0.2, 3.0)), 3))
            number += 1
        write_shard(folder / f"{shard:06d}.tar", files)
    return folder


def test_a_sample_is_what_was_packed(shards: Path) -> None:
    index = open_shards(shards.parent)  # the folder that 'prepare' wrote will do
    assert len(index) == 101 and index.left_out() == {}
    reader = ShardReader(index)
    for number in (100, 0, 37, 62):
        found = reader.read(number)
        assert found.id == f"clip-{number:05d}" and found.about["text"] == f"This is {found.id}."
        seconds = found.about["seconds"]
        assert found.audio is not None and found.audio.dtype == np.float32 and found.rate == RATE
        np.testing.assert_allclose(found.audio, np.full(round(seconds * RATE), 0.1), atol=1e-4)
        np.testing.assert_array_equal(found.codes, np.arange(round(seconds * 10)))


def test_what_is_not_wanted_is_not_decoded(tmp_path: Path) -> None:
    write_shard(tmp_path / "x.tar", sample("a", 0.5, flac=b"no flac"))
    index = open_shards(tmp_path)
    found = ShardReader(index, frozenset({"codes.npy"})).read(0)
    assert found.audio is None and found.codes is not None
    with pytest.raises(ManifestError):
        ShardReader(index, frozenset({"flac"})).read(0)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_others(tmp_path: Path, format: int) -> None:
    """Files in another order, folders, long and wide names: what the names share up to the first dot is a sample."""
    wide = "deep/" + "n" * 60 + "/" + "ü" * (10 if format == tarfile.USTAR_FORMAT else 90)
    files = {
        "a.json": sample("a", 0.5)["a.json"], "a.flac": sample("a", 0.5)["a.flac"], "a.txt": b"A.",
        **{name.replace("b", wide, 1): content for name, content in sample("b", 0.75).items()},
        "c.codes.npy": sample("c", 1.0)["c.codes.npy"], "c.json": sample("c", 1.0)["c.json"],
    }  # fmt: skip
    write_shard(tmp_path / "x.tar", files, format)
    reader = ShardReader(open_shards(tmp_path))
    a, b, c = (reader.read(number) for number in range(3))
    assert (a.id, b.id, c.id) == ("a", "b", "c")
    assert a.codes is None and a.audio is not None and len(a.audio) == RATE / 2
    assert b.codes is not None and b.audio is not None and len(b.audio) == RATE * 0.75
    assert c.audio is None and c.rate == 0 and c.codes is not None and len(c.codes) == 10


def test_what_is_wrong_in_a_shard_is_counted_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {
        **sample("good", 0.5),
        **sample("nojson", 0.5, json=None),
        **sample("halfjson", 0.5, json=b'{"id": "ha'),
        **sample("list", 0.5, json=b"[1]"),
        **sample("nosound", 0.5, **{"flac": None, "codes.npy": None}),
        **sample("noid", 0.5, json=b'{"seconds": 1}'),
        **sample("endless", 0.5, json=b'{"id": "endless", "text": "", "seconds": 1e400}'),
        **sample("last", 0.5),
    }
    write_shard(tmp_path / "a.tar", files)
    write_shard(tmp_path / "b.tar", sample("fine", 0.5) | sample("cut", 0.5))
    with tarfile.open(tmp_path / "b.tar") as tar:
        middle = tar.getmember("cut.codes.npy").offset_data + 5
    os.truncate(tmp_path / "b.tar", middle)
    (tmp_path / "c.tar").write_bytes(b"no tar at all" * 1000)
    (tmp_path / "d.tar").write_bytes(b"")
    with tarfile.open(tmp_path / "e.tar", "w") as tar:
        link = tarfile.TarInfo("passwd.flac")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with caplog.at_level(logging.WARNING):
        index = open_shards(tmp_path)
    reader = ShardReader(index)
    assert [reader.read(n).id for n in range(len(index))] == ["good", "last", "fine"]
    assert index.left_out() == {
        "without a description that can be read": 3,
        "without sound or codes": 2,
        "without id or text": 1,
        "without seconds": 1,
        "lost where a shard is damaged": 3,
    }
    assert "samples of" in caplog.text and "3 without a description" in caplog.text


def test_a_sample_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    files = sample("a", 0.5) | sample("b", 0.5, flac=b"fLaC" + bytes(500)) | sample("c", 0.5)
    write_shard(tmp_path / "x.tar", files)
    reader = ShardReader(open_shards(tmp_path))
    assert [reader.read(number).id for number in (0, 2)] == ["a", "c"]
    with pytest.raises(ManifestError, match="^[^\n]*x.tar, byte [^\n]*$"):
        reader.read(1)


def test_codes_are_never_unpickled(tmp_path: Path) -> None:
    trap = io.BytesIO()
    np.save(trap, np.array([{"never": "loaded"}], dtype=object), allow_pickle=True)
    write_shard(tmp_path / "x.tar", sample("a", 0.5, **{"codes.npy": trap.getvalue()}))
    with pytest.raises(ManifestError, match="an array of another kind"):
        ShardReader(open_shards(tmp_path)).read(0)


def test_the_index_is_kept_and_made_anew_where_shards_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        write_shard(tmp_path / f"{name}.tar", sample(name, 0.5))
    scanned: list[str] = []
    scan = shards_module._scan
    monkeypatch.setattr(shards_module, "_scan", lambda path: (scanned.append(path.name), scan(path))[1])

    def names() -> list[str]:
        scanned.clear()
        index = open_shards(tmp_path)
        return [ShardReader(index).read(n).id for n in range(len(index))]

    assert names() == ["a", "b", "c"] and scanned == ["a.tar", "b.tar", "c.tar"]
    assert names() == ["a", "b", "c"] and scanned == []
    write_shard(tmp_path / "b.tar", sample("b1", 0.5) | sample("b2", 0.75))
    write_shard(tmp_path / "d.tar", sample("d", 0.5))
    (tmp_path / "a.tar").unlink()
    assert names() == ["b1", "b2", "c", "d"] and scanned == ["b.tar", "d.tar"]
    assert len(list(tmp_path.glob("offsets*"))) == 2, "the index of before is gone"
    for spoiled in tmp_path.glob("offsets*"):
        spoiled.write_bytes(spoiled.read_bytes()[:20])
        assert names() == ["b1", "b2", "c", "d"] and len(scanned) == 3


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", sample("a", 0.5))
    tmp_path.chmod(0o555)
    try:
        assert len(open_shards(tmp_path)) == 1 and len(open_shards(tmp_path)) == 1
    finally:
        tmp_path.chmod(0o755)


def test_an_index_that_cannot_be_kept_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shard(tmp_path / "a.tar", sample("a", 0.5))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("chelys.files.os.fsync", full)
    assert len(open_shards(tmp_path)) == 1 and os.listdir(tmp_path) == ["a.tar"]


def test_a_shard_that_changed_under_a_run_is_said(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", sample("a", 0.5))
    reader = ShardReader(open_shards(tmp_path))
    (tmp_path / "a.tar").write_bytes(bytes(4096))
    with pytest.raises(ManifestError, match="a.tar, byte 0: no sample lies there any more"):
        reader.read(0)


def test_no_shards(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no shards in .*: make them with 'chelys data prepare"):
        open_shards(tmp_path)
    write_shard(tmp_path / "a.tar", sample("a", 0.5, json=None))
    with pytest.raises(ManifestError, match="no usable sample .*: 1 without a description"):
        open_shards(tmp_path)
