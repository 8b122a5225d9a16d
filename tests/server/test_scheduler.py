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
def test_sampling_waits_while_too_much_is_sampled(tts: Synthesizer, first_codes: int) -> None:
    """Rows of a job that is cancelled are freed then, too, and nothing is lost for the others."""
    metrics = Metrics()
    scheduler = Scheduler(tts, metrics, max_rows=8, max_requests=9, renderers=1, threads=1, grace_s=1)
    plans = tts.plan("Hello there, one two three. " * 12, seed=2, preset="ultra_fast", candidates=2)
    free, seen = threading.Event(), threading.Event()

    def hold() -> None:
        seen.set()
        free.wait(20)

    def steps() -> float:
        return metrics.steps._value.get()

    async def check() -> None:
        held = asyncio.ensure_future(scheduler.call(hold))
        await _wait(seen.is_set)
        job, other = scheduler.submit(plans, 60), scheduler.submit(plans[:1], 60, first_codes=first_codes)
        await _wait(lambda: len(scheduler._sampled) > 2)
        await asyncio.sleep(0.3)
        before = steps()
        await asyncio.sleep(0.3)
        assert steps() == before and len(scheduler._sampled) < len(plans)
        job.cancel()
        await _wait(lambda: metrics.rows._value.get() == 0)
        assert not held.done()
        free.set()
        assert [chunk.text async for chunk in other][0] == plans[0].sentence.text
        await held

    scheduler.start()
    try:
        asyncio.run(check())
    finally:
        free.set()
        scheduler.stop()
    assert not scheduler.alive
