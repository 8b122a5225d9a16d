"""Who does the work: processes on this machine.

An engine maps a stage over items. A worker that dies (killed, out of memory, crashed in a decoder) takes nobody with
it: what was being worked on is tried again, alone, and what kills two workers that way is listed as failed.
"""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import islice
from typing import Protocol

from chelys.data.prepare.work import Item, Stage, Store, key

log = logging.getLogger(__name__)

NO_SPACE = "no space left on the disk"
_LITTLE = 1 << 20  # bytes

#: Called with (items done, items found so far or None).
Progress = Callable[[int, int | None], None]


class Engine(Protocol):
    """Does all items of a stage that are not done."""

    def run(
        self, stage: Stage, items: Iterable[Item], store: Store, progress: Progress | None = None
    ) -> dict[str, str]:
        """Map the stage over the items.

        Args:
            stage: What to do.
            items: To what; those done before are passed over.
            store: Where results go.
            progress: Told how far it is.

        Returns:
            Key of each item that failed -> why.
        """
        ...


def perform(stage: Stage, item: Item, store: Store) -> str | None:
    """Do one item and keep its rows.

    Returns:
        None, or why it failed.
    """
    name = key(stage, item)
    if store.has(stage.name, name):
        return None
    try:
        store.write(stage.name, name, stage.work(item, store))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return NO_SPACE
        return f"{error.strerror or error}"
    except Exception as error:  # whatever a strange file makes a library do: listed, and the others go on
        if shutil.disk_usage(store.out).free < _LITTLE:  # libsndfile does not say what it failed for
            return NO_SPACE
        log.debug("%s failed", stage.name, exc_info=True)
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return None


def missing(stage: Stage, items: Iterable[Item], store: Store) -> Iterator[tuple[str, Item]]:
    """Items that are not done, each once, with their keys."""
    seen = set()
    for item in items:
        name = key(stage, item)
        if name not in seen and not store.has(stage.name, name):
            seen.add(name)
            yield name, item


class Local:
    """Processes on this machine.

    Args:
        workers: How many; 0 works in this very process.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def run(
        self, stage: Stage, items: Iterable[Item], store: Store, progress: Progress | None = None
    ) -> dict[str, str]:
        """See ``Engine``."""
        failed: dict[str, str] = {}
        done = 0

        def note(name: str, reason: str | None) -> None:
            nonlocal done
            done += 1
            if reason is not None:
                failed[name] = reason
            if progress:
                progress(done, None)

        if self.workers == 0:
            for name, item in missing(stage, items, store):
                note(name, perform(stage, item, store))
            return failed
        suspects: list[tuple[str, Item]] = []
        todo = missing(stage, items, store)
        running: dict[Future[str | None], tuple[str, Item]] = {}
        while True:
            broken = False
            for name, item in islice(todo, self.workers - len(running)):
                try:
                    running[self._workers(self.workers).submit(perform, stage, item, store)] = name, item
                except BrokenProcessPool:  # a worker died while nobody looked
                    suspects.append((name, item))
                    broken = True
            if not running and not broken:
                break
            broken = self._reap(running, note, suspects) or broken
            if broken:
                suspects += running.values()
                running.clear()
                self._end()
        for name, item in suspects:  # each alone: the dead worker may have been the neighbour's
            note(name, self._alone(stage, item, store))
        if suspects:
            self._end()
        return failed

    def _alone(self, stage: Stage, item: Item, store: Store) -> str | None:
        for _ in range(2):
            try:
                return self._workers(1).submit(perform, stage, item, store).result()
            except BrokenProcessPool:
                self._end()
        return "the worker was killed, twice"

    @staticmethod
    def _reap(
        running: dict[Future[str | None], tuple[str, Item]],
        note: Callable[[str, str | None], None],
        suspects: list[tuple[str, Item]],
    ) -> bool:
        """Take what is done out of ``running``; whether the pool broke."""
        broken = False
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            task = running.pop(future)
            try:
                note(task[0], future.result())
            except BrokenProcessPool:
                suspects.append(task)
                broken = True
        return broken

    def _workers(self, count: int) -> ProcessPoolExecutor:
        if self._pool is None:
            # Fresh interpreters: a fork would inherit the threads' locks of whatever library runs in this one.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start_worker)
        return self._pool

    def _end(self) -> None:
        if self._pool is None:
            return
        workers = list((getattr(self._pool, "_processes", None) or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:  # what is being worked on in an interrupted run is done again, not waited for
            with suppress(OSError, ValueError):
                worker.terminate()
        for worker in workers:
            with suppress(OSError, ValueError, AssertionError):
                worker.join(10)
        self._pool = None


def _start_worker() -> None:
    """An interrupt is the main process's to answer, and a worker does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores already
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
