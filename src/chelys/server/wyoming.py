"""Wyoming, the protocol of Home Assistant's voices: ``describe``, ``synthesize``, and texts that come piece by piece.

Events are read here and not by the package ``wyoming``, because it reads as many bytes as a client announces.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import wyoming.tts as tts
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, async_write_event
from wyoming.info import Attribution, Describe, Info, TtsProgram, TtsVoice
from wyoming.ping import Ping, Pong

import chelys
from chelys.audio.io import to_pcm
from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import UserError
from chelys.server import synthesis
from chelys.server.app import Server
from chelys.server.requests import SpeechRequest

log = logging.getLogger("chelys.server")

_SAMPLES_PER_CHUNK = 2048
_LONGEST_HEAD = 1 << 16
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*\s")


async def listen(server: Server, address: str) -> asyncio.Server:
    """Take connections at ``tcp://HOST:PORT``. Raises UserError if that cannot be."""
    place = urlsplit(address)
    try:
        if place.scheme != "tcp" or not place.hostname or place.port is None:
            raise ValueError("give tcp://HOST:PORT")
        return await asyncio.start_server(
            lambda reader, writer: _Connection(server, reader, writer).run(),
            place.hostname, place.port, limit=_LONGEST_HEAD,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise UserError(f"cannot listen at {address}: {error}") from error


class _Connection:
    """One client. Its texts are spoken one after the other."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.texts: asyncio.Queue[tuple[str, str | None, bool] | None] = asyncio.Queue(maxsize=64)
        self.streaming = False  # between synthesize-start and synthesize-stop
        self.rest, self.length = "", 0  # of a text that comes in pieces
        self.voice: str | None = None

    async def run(self) -> None:
        speaking = asyncio.ensure_future(self._speak_all())
        reading = asyncio.ensure_future(self._read_all())
        try:
            await asyncio.wait((speaking, reading), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (speaking, reading):
                task.cancel()
            for result in await asyncio.gather(speaking, reading, return_exceptions=True):
                if isinstance(result, Exception) and not isinstance(result, (OSError, EOFError, ValueError)):
                    log.error("a Wyoming connection failed", exc_info=result)
            self.writer.close()

    # ---- what the client says -----------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        while (event := await self._read()) is not None:
            await self._handle(event)

    async def _read(self) -> Event | None:
        """The next event; None at the end. Raises ValueError if it is none, or too large."""
        line = await self.reader.readline()
        if not line:
            return None
        head = json.loads(line)
        sizes = [head.get(key) or 0 for key in ("data_length", "payload_length")] if isinstance(head, dict) else []
        most = self.server.settings.max_chars * 12 + _LONGEST_HEAD
        if len(sizes) != 2 or not all(isinstance(size, int) and 0 <= size <= most for size in sizes):
            raise ValueError("no event")
        data = head.get("data") or {}
        if sizes[0]:
            data = {**data, **json.loads(await self.reader.readexactly(sizes[0]))}
        await self.reader.readexactly(sizes[1])
        return Event(type=str(head.get("type")), data=data)

    async def _handle(self, event: Event) -> None:
        kind, data = event.type, event.data
        if Describe.is_type(kind):
            await self._write(await asyncio.to_thread(self._info))
        elif Ping.is_type(kind):
            await self._write(Pong(text=Ping.from_event(event).text).event())
        elif tts.Synthesize.is_type(kind) and not self.streaming:  # within a stream it repeats the whole text
            await self.texts.put((_text(data), _voice(data), True))
        elif tts.SynthesizeStart.is_type(kind):
            self.streaming, self.rest, self.voice, self.length = True, "", _voice(data), 0
        elif tts.SynthesizeChunk.is_type(kind) and self.streaming:
            await self._add(_text(data))
        elif tts.SynthesizeStop.is_type(kind) and self.streaming:
            self.streaming = False
            await self.texts.put((self.rest, self.voice, True))
            await self.texts.put(None)

    async def _add(self, text: str) -> None:
        """Speak the sentences that are whole."""
        self.length += len(text)
        if self.length > self.server.settings.max_chars:
            raise ValueError("the text is too long")
        self.rest += text
        ends = [match.end() for match in _SENTENCE_END.finditer(self.rest)]
        if ends:
            whole, self.rest = self.rest[: ends[-1]], self.rest[ends[-1] :]
            await self.texts.put((whole, self.voice, False))

    # ---- what is sent -------------------------------------------------------------------------------------------

    async def _speak_all(self) -> None:
        begun = False
        while True:
            item = await self.texts.get()
            if item is None:
                await self._write(tts.SynthesizeStopped().event())
                continue
            text, voice, last = item
            if not begun:
                await self._write(AudioStart(rate=OUTPUT_RATE, width=2, channels=1).event())
            begun = not last
            if text.strip():
                await self._speak(text, voice)
            if last:
                await self._write(AudioStop().event())

    async def _speak(self, text: str, voice: str | None) -> None:
        server, job = self.server, None
        try:
            request = SpeechRequest.model_validate({"input": text, "voice": voice})
            job, _ = await server.submit(request)
            async for chunk in job:
                samples = to_pcm(chunk.audio)
                for start in range(0, len(samples), _SAMPLES_PER_CHUNK):
                    data = samples[start : start + _SAMPLES_PER_CHUNK].tobytes()
                    await self._write(AudioChunk(rate=OUTPUT_RATE, width=2, channels=1, audio=data).event())
        except (UserError, synthesis.Busy, synthesis.Stopping, synthesis.DeadlinePassed) as error:
            await self._write(Error(text=str(error), code=type(error).__name__).event())
        finally:
            if job is not None:
                job.cancel()

    async def _write(self, event: Event) -> None:
        await async_write_event(event, self.writer)

    def _info(self) -> Event:
        by = Attribution(name="chelys", url="")
        voices = [
            TtsVoice(
                name=voice["id"], languages=["en"], attribution=by, installed=True, description=None, version=None
            )
            for voice in self.server.voices.names() if voice["kind"] != "alias"
        ]  # fmt: skip
        program = TtsProgram(
            name="chelys", voices=voices, attribution=by, installed=True, version=chelys.__version__,
            description=f"Text to speech with {self.server.synthesizer.model.config.name}",
            supports_synthesize_streaming=True,
        )  # fmt: skip
        return Info(tts=[program]).event()


def _text(data: Mapping[str, Any]) -> str:
    text = data.get("text")
    if not isinstance(text, str):
        raise ValueError("no text")
    return text


def _voice(data: Mapping[str, Any]) -> str | None:
    voice = data.get("voice")
    name = voice.get("name") if isinstance(voice, dict) else None
    return name if isinstance(name, str) else None
