"""``POST /v1/audio/speech``: what is asked for, and the answer while it is being spoken."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response

from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import UserError
from chelys.inference.options import SpeechOptions
from chelys.inference.rendering import SentencePlan
from chelys.inference.speech import Chunk
from chelys.inference.streaming import FIRST_CODES, early_pieces
from chelys.inference.synthesizer import Synthesizer, random_seed
from chelys.server.encoding import MEDIA_TYPES, Format, encode, encoder
from chelys.server.guard import Message, Receive, Scope, Send
from chelys.server.metrics import Metrics
from chelys.server.requests import MODEL_PRESETS, SpeechRequest, TextRequest, error
from chelys.server.scheduler import Busy, DeadlinePassed, Job, Stopping
from chelys.server.settings import ServerSettings
from chelys.server.voices import Voices
from chelys.text.dictionary import Dictionary
from chelys.text.document import Document

log = logging.getLogger("chelys.server")

#: Lengths of a first early piece that are chosen from: 0.68, 0.55 and 0.43 seconds.
_FIRST_CODES = (FIRST_CODES, 13, 10)
_MEASURED = "The old boat drifted past the mill, and nobody who stood there could say why."


class UnknownModel(UserError):
    """A request names a model that this server does not have."""


def plan(
    request: SpeechRequest, synthesizer: Synthesizer, voices: Voices, settings: ServerSettings
) -> tuple[list[SentencePlan], list[str], int, int]:
    """The sentences that a request asks for, warnings of its text, its seed, and the codes of the first early piece.

    Raises UserError if it asks for what cannot be.
    """
    if len(request.input) > settings.max_chars:
        raise UserError(f"input has {len(request.input)} characters; {settings.max_chars} at most are spoken")
    name = synthesizer.model.config.name
    if request.model not in (*MODEL_PRESETS, name, settings.model, "chelys"):
        raise UnknownModel(f"the model {request.model[:80]!r} does not exist: this server has {name}")
    preset = request.preset or MODEL_PRESETS.get(request.model) or settings.preset
    if preset not in synthesizer.family.presets:
        raise UserError(f"unknown preset {preset!r}: choose from {', '.join(synthesizer.family.presets)}")
    seed = random_seed() if request.seed is None else request.seed
    options = synthesizer.options(preset, **request.changes)
    if options.candidates > settings.max_rows:
        raise UserError(f"candidates is {options.candidates}; this server samples {settings.max_rows} at most")
    voice = voices.resolve(request.voice_name, seed)
    if request.early and not synthesizer.speaks_early(options):
        raise UserError(f"early has no use: {name} speaks whole sentences with these options")
    early = settings.first_codes is not None or options.early if request.early is None else request.early
    first_codes = (settings.first_codes or FIRST_CODES) if early and synthesizer.speaks_early(options) else 0
    document = read(request, synthesizer, options)
    plans = synthesizer.plan(document, voice=voice, seed=seed, options=options)
    return plans, document.warnings, seed, first_codes


def read(request: TextRequest, synthesizer: Synthesizer, options: SpeechOptions) -> Document:
    """What will be said. Raises UserError if it cannot be."""
    lexicon, pronouncer = None, synthesizer.family.tokenizer.pronouncer
    if request.lexicon:
        if pronouncer is None:
            raise UserError("lexicon has no use: this model reads spelling, it knows no phonemes")
        lexicon = Dictionary(request.lexicon.items(), pronouncer, name="lexicon")
    format = "ssml" if request.ssml else request.format
    return synthesizer.read_text(
        request.input, format=format, locale=request.locale, lexicon=lexicon, options=options
    )  # fmt: skip


def codes_within(synthesizer: Synthesizer, preset: str, target_s: float) -> int:
    """How long a first piece is heard in so many seconds on this machine while it has nothing else to do, in codes.

    One of a few numbers, so that small differences between two measurements mostly give the same one.
    """
    options = synthesizer.options(preset)
    if not synthesizer.speaks_early(options):
        return FIRST_CODES

    def spent(codes: int) -> float:
        begun = time.perf_counter()
        first, *_ = synthesizer.plan(_MEASURED, seed=1, options=options)
        next(early_pieces(synthesizer, first, codes))
        return time.perf_counter() - begun

    spent(_FIRST_CODES[-1])  # the first one is slow
    return next((n for n in _FIRST_CODES if min(spent(n) for _ in range(3)) <= target_s), _FIRST_CODES[-1])


class SpeechResponse(Response):
    """Speaks a job: the whole file if it is one sentence, else piece by piece.

    Whatever goes wrong before the first audio is answered with an error. Later the connection is broken off, so that no
    client takes a part for the whole. A client that hangs up cancels the job at once.
    """

    def __init__(self, job: Job, format: Format, stream_format: str, seed: int, metrics: Metrics) -> None:
        self.job, self.format, self.sse, self.metrics = job, format, stream_format == "sse", metrics
        self.status_code, self.background, self.seed = 200, None, seed
        self.codes, self.scores, self.warnings = 0, list[float](), list[str]()  # of what was spoken so far
        kind = "text/event-stream" if self.sse else MEDIA_TYPES[format]
        self.start: Message = {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", kind.encode()), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"),
                (b"x-chelys-seed", str(seed).encode()), (b"access-control-expose-headers", b"x-chelys-seed"),
            ],
        }  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        speaking = asyncio.ensure_future(self._speak(scope, receive, send))
        leaving = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((speaking, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not speaking.done():
                self.metrics.cancelled.inc()
                return
            await speaking
        finally:
            self.job.cancel()
            for task in (speaking, leaving):
                task.cancel()
            await asyncio.gather(speaking, leaving, return_exceptions=True)

    async def _speak(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        job = self.job
        try:
            async for data in self._pieces():
                if not begun:
                    begun = True
                    self.metrics.first_audio.observe(time.monotonic() - job.arrived)
                    await send(self.start)
                if data:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        except Exception as raised:
            if not begun:
                await failure(raised)(scope, receive, send)
                return
            if not self.sse:
                raise Broken(str(raised)) from raised
            body = json.loads(bytes(failure(raised).body))
            await send({"type": "http.response.body", "body": _event({"type": "error", **body}), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        chars, spent = sum(len(plan.sentence.text) for plan in job.plans), time.monotonic() - job.arrived
        self.metrics.whole.observe(spent)
        log.info("spoke %d characters, %.2f s of audio, in %.2f s", chars, job.seconds, spent)

    async def _pieces(self) -> AsyncIterator[bytes]:
        """What to send; the first piece comes with the first audio."""
        chunks = self._chunks()
        first = await chunks.__anext__()
        if len(self.job.plans) == 1 and first.complete:  # a file that is whole knows its length
            async for _ in chunks:
                pass
            data = await asyncio.to_thread(encode, first.audio, OUTPUT_RATE, self.format)
            yield self._wrap(data)
        else:
            made = encoder(OUTPUT_RATE, self.format)
            yield self._wrap(await asyncio.to_thread(made.feed, first.audio))
            async for chunk in chunks:
                yield self._wrap(await asyncio.to_thread(made.feed, chunk.audio))
            yield self._wrap(made.finish())
        if self.sse:
            chars = sum(len(plan.sentence.text) for plan in self.job.plans)
            usage = {"input_tokens": chars, "output_tokens": self.codes, "total_tokens": chars + self.codes}
            yield _event({"type": "speech.audio.done", "usage": usage, "chelys": self._about()})

    async def _chunks(self) -> AsyncIterator[Chunk]:
        async for chunk in self.job:
            self.codes += sum(map(len, chunk.candidates[0].codes))
            if chunk.complete:  # the score of a sentence comes with its last piece
                self.scores.append(chunk.candidates[0].score)
            self.warnings += chunk.warnings
            yield chunk

    def _about(self) -> dict[str, Any]:
        """What OpenAI's event has no place for: the seed, the mean score of the sentences, what to know."""
        score = sum(self.scores) / len(self.scores) if self.scores else math.nan
        warnings = list(dict.fromkeys([*self.job.warnings, *self.warnings]))
        return {"seed": self.seed, "score": None if math.isnan(score) else score, "warnings": warnings}

    def _wrap(self, data: bytes) -> bytes:
        if not self.sse or not data:
            return data
        return _event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})


class Broken(Exception):
    """An answer that was begun cannot be finished: the server closes the connection, which clients see."""


def failure(raised: Exception) -> Response:
    """The answer to what went wrong; nothing of a fault's inside is shown."""
    if isinstance(raised, UnknownModel):
        return error(404, str(raised), param="model", code="model_not_found")
    if isinstance(raised, Busy):
        return error(429, str(raised), code="rate_limit_exceeded", headers={"retry-after": str(raised.retry_after)})
    if isinstance(raised, Stopping):
        return error(503, str(raised), code="stopping", headers={"retry-after": "5"})
    if isinstance(raised, DeadlinePassed):
        return error(504, str(raised), code="timeout")
    if isinstance(raised, UserError):
        begins = str(raised).removeprefix("unknown ")
        param = next((name for name in ("voice", "input", "speed", "preset") if begins.startswith(name)), None)
        return error(400, str(raised), param=param)
    log.error("a request failed", exc_info=raised)
    return error(500, "the server failed at this request; its log says why", code="internal_error")


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()
