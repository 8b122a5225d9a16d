"""Engines: they map a stage over items, by processes on this machine or by a Ray cluster (extra ``cluster``).

A worker that dies (killed, out of memory, crashed in a decoder) takes no other work with it: the items in progress are
tried again, each alone, and an item that kills two workers is listed as failed. Workers do not outlive a killed parent.
"""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import islice
from typing import Any, Protocol

from chelys.data.prepare.work import Item, PrepareStage, Store, key
from chelys.errors import ConfigError, MissingExtra
from chelys.machine import end_with_parent

log = logging.getLogger(__name__)

NO_SPACE = "no space left on the disk"
_LOW_SPACE = 1 << 20  # bytes
_RAY_BATCH = 10_000  # items handed to Ray at a time, so that the plan of a large corpus is never in memory as a whole

#: Called with (items done, items found so far or None).
Progress = Callable[[int, int | None], None]


class Engine(Protocol):
    """Does all items of a stage that are not done."""

    def run(
        self, stage: PrepareStage, items: Iterable[Item], store: Store, progress: Progress | None = None
    ) -> dict[str, str]:
        """Map the stage over the items that are not done; returns the key of each failed item -> the reason."""
        ...


def perform(stage: PrepareStage, item: Item, store: Store) -> str | None:
    """Do one item and keep its rows; returns None, or the reason why it failed."""
    name = key(stage, item)
    if store.has(stage.name, name):
        return None
    try:
        store.write(stage.name, name, stage.work(item, store))
    except OSError as error:
        return NO_SPACE if error.errno == errno.ENOSPC else f"{error.strerror or error}"
    except Exception as error:  # a strange file can make a library raise anything: list it, go on with the others
        if shutil.disk_usage(store.out).free < _LOW_SPACE:  # libsndfile does not say why it failed
            return NO_SPACE
        log.debug("%s failed", stage.name, exc_info=True)
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return None


def missing(stage: PrepareStage, items: Iterable[Item], store: Store) -> Iterator[tuple[str, Item]]:
    """Items that are not done, each once, with their keys."""
    seen = set()
    for item in items:
        name = key(stage, item)
        if name not in seen and not store.has(stage.name, name):
            seen.add(name)
            yield name, item


class _Tally:
    """Counts finished items and collects failures."""

    def __init__(self, progress: Progress | None) -> None:
        self.failed: dict[str, str] = {}
        self.done, self.progress = 0, progress

    def add(self, name: str, reason: str | None) -> None:
        self.done += 1
        if reason:
            self.failed[name] = reason
        if self.progress:
            self.progress(self.done, None)


class Local:
    """Processes on this machine; with 0 workers this process does the work."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def run(
        self, stage: PrepareStage, items: Iterable[Item], store: Store, progress: Progress | None = None
    ) -> dict[str, str]:
        tally = _Tally(progress)
        todo = missing(stage, items, store)
        if self.workers == 0:
            for name, item in todo:
                tally.add(name, perform(stage, item, store))
            return tally.failed
        suspects: list[tuple[str, Item]] = []
        running: dict[Future[str | None], tuple[str, Item]] = {}
        while True:
            broken = False
            for name, item in islice(todo, self.workers - len(running)):
                try:
                    running[self._workers(self.workers).submit(perform, stage, item, store)] = name, item
                except BrokenProcessPool:  # a worker died between two items
                    suspects.append((name, item))
                    broken = True
            if not running and not broken:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                task = running.pop(future)
                try:
                    tally.add(task[0], future.result())
                except BrokenProcessPool:
                    suspects.append(task)
                    broken = True
            if broken:
                suspects += running.values()
                running.clear()
                self._end()
        for name, item in suspects:  # each alone: the dead worker may have been another item's
            tally.add(name, self._alone(stage, item, store))
        if suspects:
            self._end()
        return tally.failed

    def _alone(self, stage: PrepareStage, item: Item, store: Store) -> str | None:
        for _ in range(2):
            try:
                return self._workers(1).submit(perform, stage, item, store).result()
            except BrokenProcessPool:
                self._end()
        return "the worker was killed, twice"

    def _workers(self, count: int) -> ProcessPoolExecutor:
        if self._pool is None:
            # Fresh interpreters: a fork would inherit the locks of threads that libraries run in this process.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start_worker)
        return self._pool

    def _end(self) -> None:
        if self._pool is None:
            return
        workers = list((getattr(self._pool, "_processes", None) or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:  # an interrupted run does not wait for items in progress: they are done again
            with suppress(OSError, ValueError):
                worker.terminate()
        for worker in workers:
            with suppress(OSError, ValueError, AssertionError):
                worker.join(10)
        self._pool = None


def _start_worker() -> None:
    """Leave interrupts to the main process, use one thread, and end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores already
    end_with_parent()


class Ray:
    """A Ray cluster, with the same results as ``Local``; Ray itself repeats the work of a lost machine.

    OUT and RAW must be where all machines see them under the same names. Without an address (as ``ray.init`` takes it)
    one is started on this machine, or the one is used that the environment names.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise MissingExtra("cluster", error) from error
        self.workers = workers
        self._started = not ray.is_initialized()
        if self._started:
            try:
                ray.init(address=address, num_cpus=workers if address is None else None, log_to_driver=False,
                         include_dashboard=False, configure_logging=False)  # fmt: skip
            except (ConnectionError, ValueError) as error:
                raise ConfigError(f"cannot reach the Ray cluster {address!r} ({error})") from error
        ray.data.DataContext.get_current().enable_progress_bars = False

    def __enter__(self) -> Ray:
        return self

    def __exit__(self, *error: object) -> None:
        if self._started:
            import ray

            ray.shutdown()

    def run(
        self, stage: PrepareStage, items: Iterable[Item], store: Store, progress: Progress | None = None
    ) -> dict[str, str]:
        import ray.data

        def work(row: dict[str, Any]) -> dict[str, Any]:
            return {"key": row["item"][0], "failed": perform(stage, row["item"][1], store) or ""}

        tally = _Tally(progress)
        todo = missing(stage, items, store)
        while part := list(islice(todo, _RAY_BATCH)):
            data = ray.data.from_items([{"item": task} for task in part], override_num_blocks=len(part))
            for row in data.map(work, concurrency=self.workers).iter_rows():
                tally.add(row["key"], row["failed"] or None)
        return tally.failed
