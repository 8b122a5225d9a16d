"""Who waits for whom, in this process."""

from __future__ import annotations

import asyncio
import threading

import pytest

from chelys.inference.synthesizer import Synthesizer
from chelys.server.metrics import Metrics
from chelys.server.scheduler import Scheduler


async def _wait(condition, seconds: float = 20) -> None:
    async def until() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(until(), seconds)


@pytest.mark.parametrize("first_codes", [0, 10])
def test_the_thread_that_samples_renders_where_renderers_are_busy(tts: Synthesizer, first_codes: int) -> None:
    """And it frees the rows of a job that is cancelled."""
    metrics = Metrics()
    scheduler = Scheduler(tts, metrics, max_rows=8, max_requests=9, renderers=1, threads=1, grace_s=1)
    text = "Hello there, one two three. " * 12
    plans = tts.plan(text, seed=2, preset="ultra_fast", candidates=2)
    free, seen = threading.Event(), threading.Event()

    def hold() -> None:
        seen.set()
        free.wait(20)

    async def check() -> None:
        held = asyncio.ensure_future(scheduler.call(hold))
        await _wait(seen.is_set)
        job, other = scheduler.submit(plans, 60), scheduler.submit(plans[:3], 60, first_codes=first_codes)
        await job.__aiter__().__anext__()
        job.cancel()
        said = [chunk async for chunk in other]
        assert [chunk.text for chunk in said if chunk.text] == [plan.sentence.text for plan in plans[:3]]
        await _wait(lambda: metrics.rows._value.get() == 0)
        assert not held.done()
        free.set()
        await held

    scheduler.start()
    try:
        asyncio.run(check())
    finally:
        free.set()
        scheduler.stop()
    assert not scheduler.alive
