"""A worker may die; nobody else's work is lost with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import made_up
import pytest

from chelys.data.prepare.engine import Local
from chelys.data.prepare.work import Item, Store, key

STAGE = made_up.Trap()


def items(*what: str, mark: Path | None = None) -> list[Item]:
    return [Item({"do": one, "number": i}, {"mark": str(mark)}) for i, one in enumerate(what)]


def test_failures_are_listed_and_the_rest_is_done(tmp_path: Path) -> None:
    store = Store(tmp_path)
    todo = items("work", "raise", "fill", "work", "work")
    told: list[int] = []
    failed = Local(0).run(STAGE, todo, store, lambda done, total: told.append(done))
    assert failed == {
        key(STAGE, todo[1]): "RuntimeError: a strange file",
        key(STAGE, todo[2]): "no space left on the disk",
    }
    assert [store.read(STAGE.name, key(STAGE, item)) for item in todo] == [
        [{"did": "work"}], None, None, [{"did": "work"}], [{"did": "work"}]
    ]  # fmt: skip
    assert told == [1, 2, 3, 4, 5]
    assert not list(store.partial.iterdir())


def test_a_library_that_does_not_say_that_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=4096)
    monkeypatch.setattr("chelys.data.prepare.engine.shutil.disk_usage", lambda _: full)
    failed = Local(0).run(STAGE, items("raise", "work"), Store(tmp_path))
    assert list(failed.values()) == ["no space left on the disk"]


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (one,) = items("work")
    store.write(STAGE.name, key(STAGE, one), [{"did": "before"}])
    assert Local(0).run(STAGE, [one, one], store, lambda *_: pytest.fail("nothing was to be done")) == {}
    assert store.read(STAGE.name, key(STAGE, one)) == [{"did": "before"}]


def test_a_killed_worker_is_replaced_and_its_item_tried_once_more(tmp_path: Path) -> None:
    store = Store(tmp_path / "out")
    todo = items("work", "die once", "work", "die", "work", "work", mark=tmp_path / "died")
    with Local(2) as engine:
        failed = engine.run(STAGE, todo, store)
    assert failed == {key(STAGE, todo[3]): "the worker was killed, twice"}
    done = [store.has(STAGE.name, key(STAGE, item)) for item in todo]
    assert done == [True, True, True, False, True, True]
    assert (tmp_path / "died").exists()


def test_settings_version_and_content_make_the_key(tmp_path: Path) -> None:
    one, other = items("work", "work")
    assert key(STAGE, one) != key(STAGE, other)
    assert key(STAGE, one) == key(STAGE, Item(one.content, {"mark": "elsewhere"}))
    assert key(STAGE, one) != key(made_up.Trap(version=2), one)
