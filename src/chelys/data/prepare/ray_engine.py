"""Who does the work: a Ray cluster (extra ``cluster``).

OUT and RAW must lie where all machines see them under the same names. What is done to an item is what ``Local`` does,
so the results are the same; Ray itself tries again what a lost machine was doing.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from chelys.data.prepare.engine import Progress, missing, perform
from chelys.data.prepare.work import Item, Stage, Store
from chelys.errors import ConfigError, MissingExtra

_AT_ONCE = 10_000  # items handed over at a time, so that the plan of a large corpus never lies in memory as a whole


class Ray:
    """Maps stages by Ray Data.

    Args:
        address: Of the cluster, as ``ray.init`` takes it; None starts one on this machine, or takes the one that the
            environment names.
        workers: Items worked on at a time; None leaves that to Ray.
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
        self, stage: Stage, items: Iterable[Item], store: Store, progress: Progress | None = None
    ) -> dict[str, str]:
        """See ``Engine``."""
        import ray.data

        def work(row: dict[str, Any]) -> dict[str, Any]:
            return {"key": row["item"][0], "failed": perform(stage, row["item"][1], store) or ""}

        failed: dict[str, str] = {}
        done = 0
        todo = missing(stage, items, store)
        while part := list(islice(todo, _AT_ONCE)):
            data = ray.data.from_items([{"item": task} for task in part], override_num_blocks=len(part))
            for row in data.map(work, concurrency=self.workers).iter_rows():
                done += 1
                if row["failed"]:
                    failed[row["key"]] = row["failed"]
                if progress:
                    progress(done, None)
        return failed
