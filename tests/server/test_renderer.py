"""A renderer in a process of its own says what this process says, and nothing is lost with it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from chelys.inference.generation import generate
from chelys.inference.rendering import SentencePlan
from chelys.inference.synthesizer import Synthesizer
from chelys.machine import one_thread
from chelys.server.metrics import Metrics
from chelys.server.renderer import RendererLost, RenderProcess
from chelys.server.scheduler import Scheduler

TEXT = "Hello there. One two three."


def until(condition, seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.fixture(scope="module")
def process(tts: Synthesizer) -> Iterator[RenderProcess]:
    made = RenderProcess(tts, threads=1)
    assert not made.ready
    made.start()
    until(lambda: made.ready)
    yield made
    made.close()


def plan_of(tts: Synthesizer, **options: object) -> SentencePlan:
    return tts.plan(TEXT, seed=2, preset="ultra_fast", candidates=3, keep=2, **options)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("blended", [False, True])
def test_its_samples_are_those_of_this_process(tts: Synthesizer, process: RenderProcess, blended: bool) -> None:
    voice = tts.resolve_voice(None)
    if blended:
        voice = voice.blend(tts.resolve_voice(tts.voice_names[-1]), 0.5)
    with one_thread():
        plan = plan_of(tts, voice=voice)
        candidates = generate(tts.reader, [plan.prompt] * 3, plan.options, plan.generators)
        there = process.finish(plan, candidates, latents=tts.keeps_latents(plan))
        here = tts.finish(plan, candidates)
    assert np.array_equal(there.audio, here.audio)
    assert there.scores == here.scores and [c.codes for c in there.candidates] == [c.codes for c in here.candidates]
    assert there.text == here.text and there.warnings == here.warnings


def test_what_it_raises_is_raised_here(tts: Synthesizer, process: RenderProcess) -> None:
    plan = plan_of(tts)
    with pytest.raises(RuntimeError, match="Traceback"):
        process.finish(plan, [], latents=False)
    candidates = generate(tts.reader, [plan.prompt] * 3, plan.options, plan.generators)
    assert len(process.finish(plan, candidates, latents=True).audio)  # it goes on


def test_the_server_goes_on_without_it(tts: Synthesizer) -> None:
    scheduler = Scheduler(tts, Metrics(), max_rows=8, max_requests=9, renderers=1, threads=1, grace_s=1, processes=True)

    async def speak() -> np.ndarray:
        job = scheduler.submit(tts.plan(TEXT, seed=2, preset="ultra_fast", candidates=2), 60)
        return np.concatenate([chunk.audio async for chunk in job])

    with one_thread():
        said = tts.speak(TEXT, seed=2, preset="ultra_fast", candidates=2).audio
    scheduler.start()
    try:
        (process,) = scheduler.processes
        until(lambda: process.ready)
        assert "chelys_renderer_0_process_resident_memory_bytes" in scheduler.metrics.text().decode()
        assert np.array_equal(asyncio.run(speak()), said)
        os.kill(process.pid, signal.SIGTERM)  # as systemd tells all processes of a service
        assert np.array_equal(asyncio.run(speak()), said) and process.ready
        os.kill(process.pid, signal.SIGKILL)
        assert np.array_equal(asyncio.run(speak()), said)
        assert not process.ready
        with pytest.raises(RendererLost):
            process.finish(plan_of(tts), [], latents=False)
    finally:
        scheduler.stop()


def test_of_large_models_there_is_one_copy(tts: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RenderProcess.worthwhile(tts)
    monkeypatch.setattr("chelys.server.renderer.MAX_WEIGHTS", 1000)
    assert not RenderProcess.worthwhile(tts)
    monkeypatch.undo()
    monkeypatch.setattr(tts, "device", torch.device("cuda"))
    assert not RenderProcess.worthwhile(tts)
