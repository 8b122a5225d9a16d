"""Home Assistant's protocol, by its own client."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from server_process import Process, start

pytest.importorskip("wyoming")

from wyoming.audio import AudioChunk, AudioStart  # noqa: E402
from wyoming.client import AsyncClient  # noqa: E402
from wyoming.info import Describe, Info  # noqa: E402
from wyoming.tts import (  # noqa: E402
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeVoice,
)


@pytest.fixture(scope="module")
def address(toy_folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    running: Process = start(toy_folder, tmp_path_factory.mktemp("wyoming"), "--wyoming", "tcp://127.0.0.1:0")
    assert running.process.stdout is not None
    yield running.process.stdout.readline().rsplit(" ", 1)[1].strip()
    assert running.stop() == 0
    running.client.close()
    assert "Traceback" not in running.log.read_text()


def talk(address: str, conversation: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with AsyncClient.from_uri(address) as client:
            return await asyncio.wait_for(conversation(client), 60)

    return asyncio.run(run())


async def listen(client: AsyncClient, last: str) -> tuple[list[str], np.ndarray]:
    """Kinds of the events up to the last one, and the samples."""
    kinds, data = [], b""
    while not kinds or kinds[-1] != last:
        event = await client.read_event()
        assert event is not None
        if AudioStart.is_type(event.type):
            assert (event.data["rate"], event.data["width"], event.data["channels"]) == (24_000, 2, 1)
        if AudioChunk.is_type(event.type):
            data += AudioChunk.from_event(event).audio
        if event.type not in kinds:
            kinds.append(event.type)
    return kinds, np.frombuffer(data, "<i2")


def test_it_describes_its_voices(address: str) -> None:
    async def conversation(client: AsyncClient) -> Info:
        await client.write_event(Describe().event())
        event = await client.read_event()
        assert event is not None
        return Info.from_event(event)

    (program,) = talk(address, conversation).tts
    assert {voice.name for voice in program.voices} == {"low", "high"} and program.supports_synthesize_streaming


def test_it_speaks(address: str) -> None:
    async def conversation(client: AsyncClient) -> tuple[list[str], np.ndarray]:
        await client.write_event(Synthesize("Hello there.", SynthesizeVoice(name="high")).event())
        return await listen(client, "audio-stop")

    kinds, samples = talk(address, conversation)
    assert kinds == ["audio-start", "audio-chunk", "audio-stop"] and len(samples) > 2400 and np.abs(samples).max() > 300


def test_it_speaks_texts_that_come_in_pieces(address: str) -> None:
    async def conversation(client: AsyncClient) -> tuple[list[str], np.ndarray]:
        await client.write_event(SynthesizeStart(SynthesizeVoice(name="low")).event())
        for piece in ("Hello th", "ere. One, two", ", three! And"):
            await client.write_event(SynthesizeChunk(piece).event())
        started = await client.read_event()  # before the text is whole
        assert started is not None and AudioStart.is_type(started.type)
        await client.write_event(SynthesizeChunk(" more.").event())
        await client.write_event(
            Synthesize("Hello there. One, two, three! And more.").event()
        )  # as Home Assistant does
        await client.write_event(SynthesizeStop().event())
        return await listen(client, "synthesize-stopped")

    kinds, samples = talk(address, conversation)
    assert kinds == ["audio-chunk", "audio-stop", "synthesize-stopped"] and len(samples) > 3 * 2400


def test_mistakes_are_told(address: str) -> None:
    async def conversation(client: AsyncClient) -> tuple[list[str], np.ndarray]:
        await client.write_event(Synthesize("Hello.", SynthesizeVoice(name="/etc/passwd")).event())
        return await listen(client, "audio-stop")

    kinds, samples = talk(address, conversation)
    assert "error" in kinds and not len(samples)


@pytest.mark.parametrize(
    "data", [b"nonsense\n", b"[]\n", b'{"type": "describe", "data_length": 99999999999}\n', b"x" * 200_000]
)
def test_nonsense_ends_the_connection_and_nothing_else(address: str, data: bytes) -> None:
    async def run() -> bytes:
        host, port = re.fullmatch(r"tcp://(.+):(\d+)", address).groups()
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        return await asyncio.wait_for(reader.read(), 20)

    assert asyncio.run(run()) == b""
    test_it_describes_its_voices(address)
