"""Shards: every sample once an epoch, whoever reads, wherever the run was broken off; bad samples are left out."""

from __future__ import annotations

import io
import json
import logging
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from chelys.data import shard_index
from chelys.data.dataset import Clip
from chelys.data.sampler import is_held_out
from chelys.data.shard_index import open_shards
from chelys.data.shards import Place, Plan, Reader, Sample, ShardBatch, ShardBatches, ShardConfig, ShardLoader
from chelys.errors import ConfigError, ManifestError

RATE = 8000
ALL = ShardConfig(seconds=12.0, window=2, held_out=0)


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


def ids(batch: ShardBatch) -> list[str]:
    return [sample.id for sample in batch.samples]


def epoch_of(batches: Iterator[ShardBatch], wanted: int) -> list[ShardBatch]:
    """The batches of one epoch among those of a reader that never ends."""
    found = []
    for batch in batches:
        if batch.epoch > wanted:
            return found
        if batch.epoch == wanted:
            found.append(batch)
    return found


def test_a_sample_is_what_was_packed(shards: Path) -> None:
    index = open_shards(shards.parent)  # the folder that 'prepare' wrote will do
    assert len(index) == 101 and index.left_out() == {}
    reader = Reader(index)
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
    found = Reader(index, frozenset({"codes.npy"})).read(0)
    assert found.audio is None and found.codes is not None
    with pytest.raises(ManifestError):
        Reader(index, frozenset({"flac"})).read(0)


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
    reader = Reader(open_shards(tmp_path))
    a, b, c = (reader.read(number) for number in range(3))
    assert (a.id, b.id, c.id) == ("a", "b", "c")
    assert a.codes is None and a.audio is not None and len(a.audio) == RATE / 2
    assert b.codes is not None and b.audio is not None and len(b.audio) == RATE * 0.75
    assert c.audio is None and c.rate == 0 and c.codes is not None and len(c.codes) == 10


@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_and_their_workers_read_each_sample_once_an_epoch(shards: Path, workers: int) -> None:
    plan = Plan(open_shards(shards), ALL, seed=1)
    alone = list(islice(ShardBatches(plan), 60))
    taken: list[list[ShardBatch]] = []
    for rank in (0, 1):
        loader = ShardLoader(plan, rank=rank, ranks=2, workers=workers)
        taken.append(list(islice(loader, 30)))
    assert len({id(batch) for rank in taken for batch in rank}) == 60
    merged = [batch for step in zip(*taken, strict=True) for batch in step]
    assert [(b.epoch, b.position, ids(b)) for b in merged] == [(b.epoch, b.position, ids(b)) for b in alone]
    for epoch in (0, 1):
        counts = Counter(name for batch in merged if batch.epoch == epoch for name in ids(batch))
        assert len(counts) == 101 and set(counts.values()) == {1}, "each sample once, none lost"
    assert {b.epoch for b in merged} >= {0, 1, 2}


@pytest.mark.parametrize(
    ("broken_off", "ranks", "workers"),
    [
        (9, (2, 2), (2, 2)),
        (5, (2, 3), (2, 0)),
        *((steps, ranks, (0, 0)) for steps in (1, 5, 9, 17) for ranks in ((2, 2), (2, 3), (3, 1))),
    ],
)
def test_a_run_goes_on_from_any_step_on_any_number_of_ranks(
    shards: Path, broken_off: int, ranks: tuple[int, int], workers: tuple[int, int]
) -> None:
    """The steps before the break and after it read what an unbroken run reads; any rank's state will do."""
    plan = Plan(open_shards(shards), ALL, seed=2)
    whole = [ids(batch) for batch in islice(ShardBatches(plan), 90)]
    before, states = [], []
    for rank in range(ranks[0]):
        loader = ShardLoader(plan, rank=rank, ranks=ranks[0], workers=workers[0])
        before.append([ids(batch) for batch in islice(loader, broken_off)])  # workers have read ahead by now
        states.append(json.loads(json.dumps(loader.state_dict())))
    steps = 6
    for state in states:
        after = []
        for rank in range(ranks[1]):
            loader = ShardLoader(plan, rank=rank, ranks=ranks[1], workers=workers[1] if state is states[0] else 0)
            loader.load_state_dict(state)
            after.append([ids(batch) for batch in islice(loader, steps)])
        sequence = [b for step in zip(*before, strict=True) for b in step]
        sequence += [b for step in zip(*after, strict=True) for b in step]
        assert sequence == whole[: ranks[0] * broken_off + ranks[1] * steps]


def test_the_order_is_of_the_seed_and_the_epoch(shards: Path) -> None:
    def order(seed: int, epoch: int) -> list[list[str]]:
        batches = iter(ShardBatches(Plan(open_shards(shards), ALL, seed), place=Place(epoch, 0)))
        return [ids(batch) for batch in epoch_of(batches, epoch)]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1) and order(1, 0) != order(2, 0)
    first, second = (
        {frozenset(batch) for batch in order(1, epoch) if len(batch) > 1} for epoch in (0, 1)
    )  # fmt: skip
    assert len(first & second) < len(first) / 2, "others meet"


def test_batches_keep_the_budget_and_hold_like_lengths(shards: Path) -> None:
    index = open_shards(shards)
    plan = Plan(index, ShardConfig(seconds=12.0, window=5, held_out=0), seed=1)
    chosen = [rows for epoch, _, rows in islice(plan.batches(Place()), 30) if epoch == 0]
    seconds = [index.entries["seconds"][rows] for rows in chosen]
    cost = [len(s) * s.max() for s in seconds]
    assert max(cost) <= 12.0 and np.mean(cost) > 9
    assert sum(s.sum() for s in seconds) / sum(cost) > 0.85, "little padding"
    alone = next(Plan(index, ShardConfig(seconds=0.1, held_out=0), seed=1).batches(Place()))[2]
    assert len(alone) == 1, "a sample beyond the budget stands alone"


def test_a_window_bounds_what_is_mixed(shards: Path) -> None:
    index = open_shards(shards)
    plan = Plan(index, ShardConfig(seconds=12.0, window=1, held_out=0), seed=1)
    met = [{index.shard_of(int(row)).name for row in rows} for _, _, rows in islice(plan.batches(Place()), 20)]
    assert {len(names) for names in met} == {1}


def test_held_out_and_too_long_samples_are_not_trained_on(shards: Path) -> None:
    index = open_shards(shards)
    plan = Plan(index, ShardConfig(seconds=12.0, longest=2.0, held_out=7), seed=1)
    read = Counter(int(row) for epoch, _, rows in islice(plan.batches(Place()), 40) if epoch == 0 for row in rows)
    clips = [Clip(f"clip-{n:05d}", "", "", "", 0, 0) for n in range(101)]
    short = {n for n in range(101) if index.entries["seconds"][n] <= 2.0}
    held_out = {n for n in range(101) if is_held_out(clips[n], one_in=7)}
    assert held_out & short and set(read) == short - held_out
    assert set(plan.held_out().tolist()) == short & held_out, "as every stage holds them out, by name"
    with pytest.raises(ManifestError, match="all are held out, or longer than 0.1 s"):
        Plan(index, ShardConfig(longest=0.1), seed=1)


def test_what_is_wrong_in_a_shard_is_counted_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {
        **sample("good", 0.5),
        **sample("nojson", 0.5, json=None),
        **sample("halfjson", 0.5, json=b'{"id": "ha'),
        **sample("list", 0.5, json=b"[1]"),
        **sample("nosound", 0.5, **{"flac": None, "codes.npy": None}),
        **sample("noid", 0.5, json=b'{"seconds": 1}'),
        **sample("endless", 0.5, json=b'{"id": "endless", "text": "", "seconds": Infinity}'),
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
    reader = Reader(index)
    assert [reader.read(n).id for n in range(len(index))] == ["good", "last", "fine"]
    assert index.left_out() == {
        "without a description that can be read": 3,
        "without sound or codes": 2,
        "without id or text": 1,
        "without seconds": 1,
        "lost where a shard is damaged": 3,
    }
    assert "samples of" in caplog.text and "3 without a description" in caplog.text


def test_a_sample_that_cannot_be_decoded_is_left_out_of_its_batch(tmp_path: Path) -> None:
    files = sample("a", 0.5) | sample("b", 0.5, flac=b"fLaC" + bytes(500)) | sample("c", 0.5)
    write_shard(tmp_path / "x.tar", files)
    batch = next(iter(ShardLoader(Plan(open_shards(tmp_path), ALL, seed=1))))
    assert sorted(ids(batch)) == ["a", "c"]
    (line,) = batch.left_out
    assert "x.tar, byte" in line and "\n" not in line


def test_codes_are_never_unpickled(tmp_path: Path) -> None:
    trap = io.BytesIO()
    np.save(trap, np.array([{"never": "loaded"}], dtype=object), allow_pickle=True)
    write_shard(tmp_path / "x.tar", sample("a", 0.5, **{"codes.npy": trap.getvalue()}))
    with pytest.raises(ManifestError, match="allow_pickle=False"):
        Reader(open_shards(tmp_path)).read(0)


def test_the_index_is_kept_and_made_anew_where_shards_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        write_shard(tmp_path / f"{name}.tar", sample(name, 0.5))
    scanned: list[str] = []
    scan = shard_index._scan
    monkeypatch.setattr(shard_index, "_scan", lambda path: (scanned.append(path.name), scan(path))[1])

    def names() -> list[str]:
        scanned.clear()
        index = open_shards(tmp_path)
        return [Reader(index).read(n).id for n in range(len(index))]

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
    reader = Reader(open_shards(tmp_path))
    (tmp_path / "a.tar").write_bytes(bytes(4096))
    with pytest.raises(ManifestError, match="a.tar, byte 0: no sample lies there any more"):
        reader.read(0)


def test_no_shards(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no shards in .*: make them with 'chelys data prepare"):
        open_shards(tmp_path)
    write_shard(tmp_path / "a.tar", sample("a", 0.5, json=None))
    with pytest.raises(ManifestError, match="no usable sample .*: 1 without a description"):
        open_shards(tmp_path)


def test_a_place_in_other_shards_is_refused(shards: Path) -> None:
    index = open_shards(shards)
    state = ShardLoader(Plan(index, ALL, seed=1)).state_dict()
    for plan in (Plan(index, ALL, seed=2), Plan(index, ShardConfig(seconds=9.0, window=2, held_out=0), seed=1)):
        with pytest.raises(ConfigError, match="in the middle of other shards"):
            ShardLoader(plan).load_state_dict(state)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ShardConfig(seconds=0), "must be more than 0"),
        (lambda: ShardConfig(window=0), "window is 0"),
        (lambda: ShardBatches(None, rank=2, ranks=2), "rank is 2 of 2; it must be 0 to 1"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_make_no_sense(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()


def lengths(sample: Sample) -> tuple[str, int]:
    return sample.id, os.getpid()


def test_workers_prepare_samples(shards: Path) -> None:
    loader = ShardLoader(Plan(open_shards(shards), ALL, seed=1), workers=2, prepare=lengths)
    made = [pair for batch in islice(loader, 4) for pair in batch.samples]
    assert len({pid for _, pid in made}) == 2 and os.getpid() not in {pid for _, pid in made}
