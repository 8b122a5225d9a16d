"""The store: what went in comes out, whoever else is there; damage is said, and never read."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chelys.audiobook.store import StageStore, key_of
from chelys.errors import UserError
from chelys.inference.sound_recipe import differing

INPUTS = {"phonemes": "həlˈO", "voice": "f00", "options": {"steps": 3, "guidance": 0.5}}
ARRAYS = {"audio": np.linspace(-1, 1, 2000, dtype=np.float32), "codes": np.arange(7, dtype=np.int16)}


def test_what_went_in_comes_out(tmp_path: Path) -> None:
    with StageStore(tmp_path / "store") as store:
        assert store.get("wave", INPUTS) is None
        store.put("wave", INPUTS, ARRAYS, {"seconds": 1.5, "name": "é"})
        assert store.get("codes", INPUTS) is None  # another stage
    with StageStore(tmp_path / "store") as store:
        kept = store.get("wave", json.loads(json.dumps(INPUTS)))
        assert kept is not None and kept.about == {"seconds": 1.5, "name": "é"}
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(kept.arrays[name], array)
            assert kept.arrays[name].dtype == array.dtype
        status = store.status()
        assert status.stages["wave"][0] == status.computed == 1 and status.bytes > 8000


def test_each_input_changes_the_key() -> None:
    others = [{**INPUTS, "phonemes": "x"}, {**INPUTS, "options": {"steps": 4, "guidance": 0.5}}, {**INPUTS, "more": 1}]
    assert len({key_of("wave", inputs) for inputs in [INPUTS, *others]} | {key_of("codes", INPUTS)}) == 5
    assert key_of("wave", dict(reversed(INPUTS.items()))) == key_of("wave", INPUTS)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "another entry"])
def test_damage_is_said_and_computed_again(tmp_path: Path, damage: str) -> None:
    warnings: list[str] = []
    with StageStore(tmp_path / "store", on_warning=warnings.append) as store:
        store.put("wave", INPUTS, ARRAYS)
        path = store._path(key_of("wave", INPUTS))
        data = bytearray(path.read_bytes())
        if damage == "flipped":
            data[-100] ^= 1
        elif damage == "another entry":
            store.put("wave", {**INPUTS, "phonemes": "x"}, ARRAYS)
            data = bytearray(store._path(key_of("wave", {**INPUTS, "phonemes": "x"})).read_bytes())
        path.write_bytes({"cut": data[:-9], "empty": b""}.get(damage, data))
        assert store.get("wave", INPUTS) is None and not path.exists()
        assert len(warnings) == 1 and "damaged" in warnings[0] and "\n" not in warnings[0]
        store.put("wave", INPUTS, ARRAYS)
        assert store.get("wave", INPUTS) is not None and len(warnings) == 1


def test_a_store_of_another_version_and_other_folders_are_refused(tmp_path: Path) -> None:
    with StageStore(tmp_path / "store"):
        pass
    (tmp_path / "store" / "store.json").write_text('{"chelys_store": 99}')
    with pytest.raises(UserError, match="form 99"):
        StageStore(tmp_path / "store")
    (tmp_path / "store" / "store.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        StageStore(tmp_path / "store")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        StageStore(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_the_size_is_bounded_and_what_was_used_last_stays(tmp_path: Path) -> None:
    entry = {"audio": np.zeros(25_000, np.float32)}  # 100 kB
    with StageStore(tmp_path / "store", max_bytes=1_000_000) as store:
        for number in range(30):
            store.put("wave", {"number": number}, entry)
            assert store.get("wave", {"number": 0}) is not None  # used all the time
        status = store.status()
        assert 500_000 < status.bytes <= 1_000_000
        assert store.get("wave", {"number": 29}) is not None and store.get("wave", {"number": 5}) is None
        assert sum(path.stat().st_size for path in store.folder.glob("entries/*/*.safetensors")) == status.bytes
        removed, freed = store.gc(300_000)
        assert removed > 0 and store.status().bytes == status.bytes - freed <= 300_000


def test_a_folder_that_was_shared_or_lost_its_index_is_known_again(tmp_path: Path) -> None:
    with StageStore(tmp_path / "store") as store:
        store.put("wave", INPUTS, ARRAYS)
        index = store._index
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    (tmp_path / "copy" / index.name).unlink()
    with StageStore(tmp_path / "copy") as store:  # as another machine sees it
        assert store.status().bytes == 0 and store.get("wave", INPUTS) is not None
        assert store.status().stages["wave"][0] == 1 and store.status().computed == 0
    warnings: list[str] = []
    index.write_bytes(b"no database at all" * 99)
    with StageStore(tmp_path / "store", on_warning=warnings.append) as store:
        assert store.status().stages["wave"][0] == 1 and "index" in warnings[0]


def test_a_store_that_cannot_be_written_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with StageStore(tmp_path / "store", on_warning=warnings.append) as store:
        monkeypatch.setattr("chelys.audiobook.store.write_bytes", full)
        store.put("wave", INPUTS, ARRAYS)
        store.put("codes", INPUTS, ARRAYS)
        assert len(warnings) == 1 and "No space left" in warnings[0]
        assert store.get("wave", INPUTS) is None and not store.computed()


def write_many(folder: Path, first: int) -> None:
    with StageStore(folder) as store:
        for number in range(40):
            store.put("wave", {"number": (first + number) % 50}, ARRAYS)
            assert store.get("wave", {"number": (first + number) % 50}) is not None


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    workers = [
        multiprocessing.get_context("fork").Process(target=write_many, args=(tmp_path / "store", first))
        for first in (0, 25)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    with StageStore(tmp_path / "store") as store:
        assert store.status().stages["wave"][0] == 50 and sum(store.computed().values()) == 80
        assert sqlite3.connect(store._index).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_new_index_waits_for_its_writer(tmp_path: Path) -> None:
    """Two processes begin a store at once: one is about to write to the index as the other switches to its log."""
    with StageStore(tmp_path / "store") as store:
        index = store._index
    other = sqlite3.connect(index, isolation_level=None, check_same_thread=False)
    assert other.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.2, other.rollback)
    timer.start()
    with StageStore(tmp_path / "store") as store:
        assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    timer.join()
    other.close()


def claim_and_wait(folder: Path, claimed: Any) -> None:
    with StageStore(folder) as store:
        assert store.claim("wave", INPUTS)
        claimed.set()
        time.sleep(60)


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    claimed = context.Event()
    worker = context.Process(target=claim_and_wait, args=(tmp_path / "store", claimed))
    worker.start()
    assert claimed.wait(30)
    looks = 0

    def kill_at_last() -> bool:
        nonlocal looks
        looks += 1
        if looks == 3:
            worker.kill()
        return False

    with StageStore(tmp_path / "store") as store:
        assert not store.claim("wave", INPUTS) and store.claim("codes", INPUTS)
        assert store.get_or_claim("wave", INPUTS, kill_at_last) is None and looks >= 3
        with StageStore(tmp_path / "store") as other:
            assert not other.claim("wave", INPUTS)
            store.put("wave", INPUTS, ARRAYS)
            assert other.get_or_claim("wave", INPUTS) is not None and not other.claim("codes", INPUTS)
            store.release()
            assert other.claim("codes", INPUTS)
    worker.join()
    assert not list((tmp_path / "store").glob("entries/*/*.lock"))


def test_an_index_of_another_version_is_made_anew(tmp_path: Path) -> None:
    with StageStore(tmp_path / "store") as store:
        store.put("wave", INPUTS, ARRAYS)
        index = store._index
    for path in index.parent.glob(f"{index.name}*"):
        path.unlink()
    with sqlite3.connect(index) as db:
        db.execute("CREATE TABLE entries (name TEXT, what TEXT)")
    db.close()
    warnings: list[str] = []
    with StageStore(tmp_path / "store", on_warning=warnings.append) as store:
        assert store.status().stages["wave"][0] == 1
    assert warnings == ["the index of the store was of another version of chelys: made anew from its files"]
    with StageStore(tmp_path / "store", on_warning=warnings.append):
        assert len(warnings) == 1


def test_entries_are_found_by_words_and_keys(tmp_path: Path) -> None:
    with StageStore(tmp_path / "store") as store:
        store.put("codes", INPUTS, ARRAYS, {"label": "Hello, you."})
        store.put("wave", {**INPUTS, "options": {"steps": 9, "guidance": 0.5}, "rate": 1}, ARRAYS, {"label": "Hello!"})
        found = store.find("hello")
        assert [one[0] for one in found] == ["wave", "codes"]
        assert [one for one in store.find(found[1][1][:8])] == [found[1]]
        assert store.find("nothing") == []
        assert differing(found[1][2], found[0][2]) == {"options.steps": (3, 9), "rate": (None, 1)}
