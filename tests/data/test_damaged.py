"""Feature folders, shards and manifests that are damaged or hostile: one line, never a traceback, a hang or a bomb."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_corpus import ToyCorpus

from chelys.data.check import check
from chelys.data.dataset import Codes, Features
from chelys.data.features import extract
from chelys.data.manifest import Utterance, read_manifest, write_manifest
from chelys.data.shards import ShardFeatures, open_shards
from chelys.errors import ManifestError, UserError


def cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, size)


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return damage


def change(**values: object) -> Callable[[Path], None]:
    """Other values in the first line of the index."""

    def damage(folder: Path) -> None:
        first, *rest = (folder / "index.jsonl").read_text().splitlines(keepends=True)
        (folder / "index.jsonl").write_text(json.dumps(json.loads(first) | values) + "\n" + "".join(rest))

    return damage


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def drop_a_clip(folder: Path) -> None:
    lines = (folder / "index.jsonl").read_text().splitlines(keepends=True)
    (folder / "index.jsonl").write_text("".join(lines[:-1]))


DAMAGES = {
    "mel cut within a frame": cut("mel.f16", 1001),
    "mel cut at a frame": cut("mel.f16", 2000),
    "mel empty": cut("mel.f16", 0),
    "mel gone": without("mel.f16"),
    "index torn": cut("index.jsonl", 200),
    "index empty": cut("index.jsonl", 0),
    "index gone": without("index.jsonl"),
    "index of lists": write("index.jsonl", b"[1]\n"),
    "index no UTF-8": write("index.jsonl", b"\xff\xfe\n"),
    "statistics torn": cut("statistics.json", 10),
    "statistics empty": cut("statistics.json", 0),
    "statistics a list": write("statistics.json", b"[]"),
    "statistics deep": write("statistics.json", b"[" * 100_000),
    "statistics texts": write("statistics.json", b'{"bands": "x"}'),
    "bands of the other spec": write("statistics.json", b'{"bands": 80}'),
    "a clip less": drop_a_clip,
    "a clip too many": change(frames=4000),
    "a negative place": change(first=-4),
    "a text for a number": change(frames="4"),
    "a number for a text": change(text=1),
    "half a code": change(frames=3),
    "an unknown key": change(more=1),
    "a huge number": change(frames=10**18),
    "a number beyond 63 bits": change(frames=2**64 - 4),
    "bad clips torn": write("bad_clips.jsonl", b'{"id": '),
    "bad clips of others": write("bad_clips.jsonl", b'{"name": 1}\n'),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_feature_folder_is_said_to_be_damaged(
    damage: Callable[[Path], None], toy: ToyCorpus, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(toy.features, tmp_path / "features"))
    Features(folder)
    damage(folder)
    with pytest.raises(ManifestError, match="damaged") as refusal:
        Features(folder)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array at all"])
def test_damaged_codes_are_said_to_be_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "codes.npy").write_bytes(content)
    with pytest.raises(ManifestError, match="damaged"):
        Codes(tmp_path / "codes.npy")
    np.save(tmp_path / "codes.npy", np.zeros((2, 3)))
    with pytest.raises(ManifestError, match="holds no codes"):
        Codes(tmp_path / "codes.npy")


# ---- manifests ------------------------------------------------------------------------------------------------------

GOOD = {"id": "a", "audio": "a.wav", "text": "Calm.", "speaker": "ada", "seconds": 1.0}
STRANGE = {
    "deep": b'{"id": ' + b"[" * 100_000,
    "5000 digits": b'{"id": "a", "seconds": ' + b"1" * 5000 + b"}",
    "start 1e308": json.dumps(GOOD | {"start": 1e308, "end": 1.5e308}).encode(),
    "start 10^18": json.dumps(GOOD | {"start": 10**18}).encode(),
    "seconds 1e400": b'{"id": "a", "audio": "a", "text": "a", "speaker": "a", "seconds": 1e400}',
    "id twice": b'{"id": "a", "id": "b", "audio": "a", "text": "a", "speaker": "a", "seconds": 1}',
    "long line": json.dumps(GOOD | {"text": "a" * 2_000_000}).encode(),
}


@pytest.mark.parametrize("line", STRANGE.values(), ids=STRANGE)
def test_a_strange_line_is_refused_and_named(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n" + line + b"\n")
    with pytest.raises(ManifestError) as refusal:
        list(read_manifest(path))
    message = str(refusal.value)
    assert (":2:" in message or "line 2" in message) and "\n" not in message and len(message) < 1000


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_pipes_folders_and_impossible_names_are_bad_clips_and_nothing_hangs(toy: ToyCorpus, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    names = ["pipe.wav", "folder.wav", "n" * 5000, "a\0b", "/dev/zero", "\udcff.wav"]
    good = next(iter(read_manifest(toy.manifest)))
    strange = [Utterance(f"\ud800{i}", name, "Say \ud800 it.", "\udfff", 1.0) for i, name in enumerate(names)]
    write_manifest(tmp_path / "m.jsonl", [good, *strange])
    extract([tmp_path / "m.jsonl"], tmp_path / "out", workers=1)
    features = Features(tmp_path / "out")
    assert [clip.id for clip in features.clips] == [good.id] and len(features.bad_clips) == len(names)
    result = check(tmp_path / "m.jsonl", workers=1)
    assert [bool({"corrupt", "missing"} & line.faults.keys()) for line in result.lines] == [False] + [True] * 6
    for manifest in (tmp_path / "pipe.wav", tmp_path / "folder.wav", Path("/dev/zero")):
        with pytest.raises(ManifestError, match="not a regular file"):
            list(read_manifest(manifest))


def test_a_speaker_of_lone_surrogates_can_be_written_and_read(toy: ToyCorpus, tmp_path: Path) -> None:
    good = list(read_manifest(toy.manifest))[:2]
    odd = [Utterance(f"\ud800{i}", u.audio, u.text, "\udfff", u.seconds) for i, u in enumerate(good)]
    write_manifest(tmp_path / "m.jsonl", odd)
    extract([tmp_path / "m.jsonl"], tmp_path / "out", workers=1)
    assert [clip.speaker for clip in Features(tmp_path / "out").clips] == ["\udfff"] * 2


# ---- shards ---------------------------------------------------------------------------------------------------------


def add(tar: tarfile.TarFile, name: str, content: bytes, **head: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.pax_headers = head.pop("pax", {})  # type: ignore[assignment]
    tar.addfile(info, io.BytesIO(content))


def sample(tar: tarfile.TarFile, name: str, codes: np.ndarray, **about: object) -> None:
    npy = io.BytesIO()
    np.save(npy, codes)
    add(tar, f"{name}.codes.npy", npy.getvalue())
    add(tar, f"{name}.json", json.dumps({"id": name, "text": "Hello.", "speaker": "ada", **about}).encode())


CODES = np.arange(40, dtype=np.uint16)


@pytest.mark.parametrize(
    "pax",
    [
        {"GNU.sparse.map": "1,x,3"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "x"},
        {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "-1,-2"},
        {"size": str(2**70)},
        {"size": "-5"},
        {"mtime": "never"},
        {"path": "\0" * 90},
    ],
)
def test_a_tar_of_strange_heads_costs_what_lies_behind_them_and_no_more(pax: dict[str, str], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        sample(tar, "good", CODES, seconds=1.8)
        add(tar, "bad.json", b"{}", pax=pax)
        sample(tar, "more", CODES, seconds=1.8)
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        sample(tar, "fine", CODES, seconds=1.8)
    index = open_shards(tmp_path)
    names = [index.texts["id"][n] for n in range(len(index))]
    assert "fine" in names and len(index.left_out()) <= 2


def test_impossible_samples_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        sample(tar, "good", CODES, seconds=1.8)
        sample(tar, "short", CODES, seconds=1e-300)
        sample(tar, "huge", np.array([2**63], np.uint64), seconds=1.0)
        head = b"\x93NUMPY\x01\x00" + (76).to_bytes(2, "little")
        head += b"{'descr': '<u2', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(75) + b"\n"
        add(tar, "claims.codes.npy", head + b"ab")
        add(tar, "claims.json", b'{"id": "claims", "text": "", "seconds": 2}')
    index = open_shards(tmp_path)
    assert index.entries["codes"].tolist() == [40, 0, 0] and index.left_out() == {"without seconds": 1}
    ShardFeatures(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_a_pipe_named_as_a_shard_is_no_shard(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        sample(tar, "good", CODES, seconds=1.8)
    os.mkfifo(tmp_path / "b.tar")
    assert len(open_shards(tmp_path)) == 1
    (tmp_path / "c.tar").mkdir()
    assert len(open_shards(tmp_path)) == 1


@pytest.mark.parametrize("key", ["offset", "size", "seconds"])
@pytest.mark.parametrize("value", [-1, 2**62])
def test_an_index_that_points_out_of_its_shards_is_made_again(key: str, value: int, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        sample(tar, "good", CODES, seconds=1.8)
    before = open_shards(tmp_path).entries
    path = next(tmp_path.glob("offsets-*.npz"))
    arrays = dict(np.load(path))
    arrays["entries"] = arrays["entries"].copy()
    arrays["entries"][key] = value
    np.savez(path, **arrays)
    try:
        found = open_shards(tmp_path)
    except UserError:
        pytest.fail("it was believed")
    if key != "seconds" or value < 0:
        assert (found.entries == before).all()
