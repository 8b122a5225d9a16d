"""The application: routes, and what they share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse, Response

import chelys
from chelys.audio.io import check_clip, decode, resample
from chelys.audio.rates import OUTPUT_RATE
from chelys.errors import AudioError, UserError, VoiceError
from chelys.inference.synthesizer import Synthesizer
from chelys.inference.voice_files import user_folder, user_voice_path
from chelys.machine import available_cores
from chelys.server import synthesis
from chelys.server.encoding import FORMATS, available, encoder
from chelys.server.guard import Guard
from chelys.server.metrics import Metrics
from chelys.server.renderer import RenderProcess
from chelys.server.requests import MODEL_PRESETS, SpeechRequest, TextRequest, error
from chelys.server.scheduler import Job, Scheduler
from chelys.server.settings import ServerSettings
from chelys.server.voices import Voices

if TYPE_CHECKING:
    from chelys.data.voice_check import VoiceCheck

log = logging.getLogger("chelys.server")

PAGE = Path(__file__).parent / "page"
#: The page loads nothing from elsewhere; what it records and plays are blobs.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "media-src 'self' blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


class Server:
    """A model that is served: what the routes work with."""

    def __init__(self, synthesizer: Synthesizer, settings: ServerSettings) -> None:
        self.synthesizer, self.settings = synthesizer, settings
        self.metrics = Metrics()
        self.voices = Voices(synthesizer, settings.aliases, settings.voice)
        self.scheduler = Scheduler(
            synthesizer, self.metrics, max_rows=settings.max_rows, max_requests=settings.max_requests,
            renderers=settings.renderers or max(1, min(8, available_cores() - 1)), threads=settings.threads,
            grace_s=settings.grace_s, processes=self._has_processes(),
        )  # fmt: skip
        self.planning = asyncio.Semaphore(4)  # texts that are read at a time

    def _has_processes(self) -> bool:
        """Whether sentences are rendered in processes of their own."""
        wanted = self.settings.processes
        return available_cores() > 1 and RenderProcess.worthwhile(self.synthesizer) if wanted is None else wanted

    async def speak(self, request: SpeechRequest) -> Response:
        """Answer a request for speech. Raises UserError, Busy or Stopping."""
        if not available(request.response_format):
            encoder(OUTPUT_RATE, request.response_format)  # which says what is missing
        job, seed = await self.submit(request)
        return synthesis.SpeechResponse(job, request.response_format, request.stream_format, seed, self.metrics)

    async def submit(self, request: SpeechRequest) -> tuple[Job, int]:
        """Begin to speak, and the seed of it. Raises UserError, Busy or Stopping."""
        self.scheduler.check_room()  # before any work
        async with self.planning:
            plans, warnings, seed, first_codes = await asyncio.to_thread(
                synthesis.plan, request, self.synthesizer, self.voices, self.settings
            )
        if self.settings.log_texts:
            log.info("seed %d: %s", seed, request.input)
        return self.scheduler.submit(plans, self.settings.timeout_s, warnings, first_codes=first_codes), seed

    # ---- voices -------------------------------------------------------------------------------------------------

    async def check_clips(self, uploads: list[UploadFile]) -> dict[str, Any]:
        """What is wrong with clips, in words. Raises UserError if one cannot be read."""
        clips = await self._decode(uploads)
        check = await self.scheduler.call(lambda: _check(clips))
        return {"object": "voice.check", **check.to_json(), "check": check.lines()}

    async def add_voice(self, name: str, uploads: list[UploadFile]) -> dict[str, Any]:
        """Make a voice of clips and keep it. Raises UserError if it cannot be."""
        self.voices.check_new(name)
        clips = await self._decode(uploads)
        return await self.scheduler.call(lambda: self._make_voice(name, clips))

    async def _decode(self, uploads: list[UploadFile]) -> list[tuple[str, np.ndarray, int]]:
        """Names, waveforms ``(n,)`` and their rates, Hz."""
        if not 1 <= len(uploads) <= self.settings.max_clips:
            raise VoiceError(f"{len(uploads)} clips: a voice is made of 1 to {self.settings.max_clips}")
        clips = []
        for number, upload in enumerate(uploads, 1):
            data = await upload.read()
            name = PurePath(upload.filename or "").name[:80] or f"clip {number}"
            try:
                audio, rate = await asyncio.to_thread(decode, data, max_seconds=self.settings.max_clip_seconds)
                check_clip(audio, rate, name)
                clips.append((name, audio, rate))
            except AudioError as raised:
                raise AudioError(f"clip {number}: {raised}") from raised
        return clips

    def _make_voice(self, name: str, clips: list[tuple[str, np.ndarray, int]]) -> dict[str, Any]:
        rate = self.synthesizer.family.clip_rate
        waveforms = [resample(audio, source, rate) if source != rate else audio for _, audio, source in clips]
        voice = self.synthesizer.voice(waveforms, sample_rate=rate, name=name)
        user_folder().mkdir(parents=True, exist_ok=True)
        voice.save(user_voice_path(name))
        made = {"id": name, "object": "voice", "name": name, "seconds": voice.about["seconds"]}
        return {**made, "check": _check(clips).lines()}

    # ---- texts --------------------------------------------------------------------------------------------------

    def read(self, request: TextRequest) -> dict[str, Any]:
        """What will be said. Raises TextError if nothing can."""
        if len(request.input) > self.settings.max_chars:
            raise UserError(f"input has {len(request.input)} characters; {self.settings.max_chars} at most are read")
        options = self.synthesizer.options(self.settings.preset)
        return synthesis.read(request, self.synthesizer, options).as_json()


def make_app(server: Server) -> Guard:
    """The application of a server."""
    settings, synthesizer = server.settings, server.synthesizer

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server.scheduler.start()
        yield
        await server.scheduler.finish()
        await asyncio.to_thread(server.scheduler.stop)

    app = FastAPI(title="chelys", version=chelys.__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    _handle_errors(app)

    @app.post("/v1/audio/speech", responses={200: {"content": {"audio/mpeg": {}, "text/event-stream": {}}}})
    async def speak(request: SpeechRequest) -> Response:
        """Speak a text."""
        return await server.speak(request)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The model under its own name and OpenAI's."""
        names = dict.fromkeys([synthesizer.model.config.name, *MODEL_PRESETS])
        return {"object": "list", "data": [_model(name) for name in names]}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        """One of them."""
        if name not in (synthesizer.model.config.name, *MODEL_PRESETS):
            raise synthesis.UnknownModel(f"the model {name[:80]!r} does not exist")
        return _model(name)

    @app.get("/v1/audio/voices")
    async def voices() -> dict[str, Any]:
        """The voices by name: the model's, the user's own, other names for them."""
        listed = await asyncio.to_thread(server.voices.names)
        return {"object": "list", "data": listed, "voices": listed}

    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    form = {"type": "object", "required": ["files"], "properties": {"name": {"type": "string"}, "files": files}}
    clips_form = {"requestBody": {"content": {"multipart/form-data": {"schema": form}}}}

    @app.post("/v1/audio/voices", openapi_extra=clips_form)
    async def add_voice(request: Request) -> dict[str, Any]:
        """Make a voice of clips of one speaker: a form with ``name`` and one or more ``files``."""
        async with _form(request, settings.max_clips) as (name, uploads):
            if name is None:
                raise VoiceError("name: a voice needs one, as a field of the form")
            return await server.add_voice(name, uploads)

    @app.post("/v1/audio/voices/check", openapi_extra=clips_form)
    async def check_voice(request: Request) -> dict[str, Any]:
        """What the voice check finds in clips of one speaker; no voice is made."""
        async with _form(request, settings.max_clips) as (_, uploads):
            return await server.check_clips(uploads)

    @app.delete("/v1/audio/voices/{name}")
    async def remove_voice(name: str) -> dict[str, Any]:
        """Delete a voice of the user's own."""
        await asyncio.to_thread(server.voices.remove, name)
        return {"id": name, "object": "voice", "deleted": True}

    @app.post("/v1/text")
    async def text(request: TextRequest) -> dict[str, Any]:
        """How a text is read: sentences, words as spoken, phonemes, pauses, warnings."""
        async with server.planning:
            return await asyncio.to_thread(server.read, request)

    @app.get("/health")
    async def health() -> Response:
        """Whether the threads that speak are alive."""
        alive = server.scheduler.alive
        body = {"status": "ok" if alive else "failed", "version": chelys.__version__}
        return JSONResponse(body, 200 if alive else 500)

    @app.get("/ready")
    async def ready() -> Response:
        """Whether another request would be taken."""
        server.scheduler.check_room()
        formats = [format for format in FORMATS if available(format)]
        presets = list(synthesizer.family.presets)
        return JSONResponse({"status": "ready", "formats": formats, "presets": presets, "preset": settings.preset})

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus' text format."""
        return Response(server.metrics.text(), media_type="text/plain; version=0.0.4")

    for path, file in (("/", "index.html"), ("/docs", "docs.html")):
        app.add_api_route(path, _page(file), include_in_schema=False)

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    paths = {route.path for route in app.routes if hasattr(route, "path")}
    wrapped: Any = app
    if settings.cors_origins:
        wrapped = CORSMiddleware(
            app, allow_origins=settings.cors_origins, allow_methods=["*"], allow_headers=["*"],
            expose_headers=["x-chelys-seed"],
        )  # fmt: skip
    return Guard(wrapped, settings, server.metrics, paths)


@asynccontextmanager
async def _form(request: Request, max_clips: int) -> AsyncIterator[tuple[str | None, list[UploadFile]]]:
    """The field ``name`` and the files of a form. Raises VoiceError if it is none, or has too many parts."""
    try:
        async with request.form(max_files=max_clips, max_fields=8, max_part_size=4096) as form:
            name = form.get("name")
            uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            yield name if isinstance(name, str) else None, uploads
    except HTTPException as raised:  # Starlette's
        raise VoiceError(f"the form cannot be read: {raised.detail}") from None
    except ClientDisconnect:
        raise VoiceError("the form broke off") from None


def _check(clips: list[tuple[str, np.ndarray, int]]) -> VoiceCheck:
    from chelys.data.voice_check import RATE, check_clips  # late: it brings what measures recordings

    return check_clips([(name, resample(audio, rate, RATE) if rate != RATE else audio) for name, audio, rate in clips])


def _page(file: str) -> Callable[[], Awaitable[Response]]:
    async def page() -> Response:
        return FileResponse(PAGE / file, headers={"content-security-policy": PAGE_POLICY})

    return page


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "chelys"}


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, raised: RequestValidationError) -> Response:
        first = raised.errors()[0]
        param = ".".join(str(part) for part in first["loc"][1:] if not isinstance(part, int)) or None
        return error(400, f"{param or 'body'}: {first['msg']}", param=param)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, raised: HTTPException) -> Response:
        return error(raised.status_code, str(raised.detail), headers=dict(raised.headers or {}))

    @app.exception_handler(Exception)
    async def failed(request: Request, raised: Exception) -> Response:
        return synthesis.failure(raised)

    for kind in (UserError, synthesis.Busy, synthesis.Stopping, synthesis.DeadlinePassed):
        app.add_exception_handler(kind, failed)
