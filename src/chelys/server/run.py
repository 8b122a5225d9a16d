"""The process: loads the model, listens, and ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import uvicorn

import chelys
from chelys.errors import MissingExtra, UserError
from chelys.server.app import Server, make_app
from chelys.server.settings import ServerSettings
from chelys.server.synthesis import codes_within

log = logging.getLogger("chelys.server")

#: How long a thread waits before it asks for the interpreter, which each operator needs for some microseconds. With
#: Python's own 5 ms a thread that renders waits for the one that samples, whose operators are short and many.
SWITCH_S = 1e-4


def serve(settings: ServerSettings, say: Callable[[str], None]) -> None:
    """Serve until the process is told to stop; then finish what was begun, within the grace time.

    ``say`` is called with lines for the user, the first one, which ends with the address, once requests are taken.
    Raises UserError if the address cannot be listened at.
    """
    sys.setswitchinterval(SWITCH_S)
    if not settings.is_loopback and settings.api_key is None:
        log.warning("%s is open to other machines and asks for no key: set --api-key", settings.host)
    listener = _listen(settings.host, settings.port)
    synthesizer = chelys.load(settings.model, device=settings.device, dtype=settings.dtype)
    synthesizer.max_memory = settings.max_memory
    if settings.first_audio_ms is not None and settings.first_codes is None:
        settings.first_codes = codes_within(synthesizer, settings.preset, settings.first_audio_ms / 1000)
    server = Server(synthesizer, settings)
    server.voices.resolve(None, 0)  # an unknown default voice is a mistake to hear of now
    synthesizer.options(settings.preset)
    config = uvicorn.Config(
        make_app(server), log_config=None, access_log=False, server_header=False, lifespan="on",
        timeout_graceful_shutdown=round(settings.grace_s), timeout_keep_alive=30, h11_max_incomplete_event_size=32_768,
        limit_concurrency=1000,
    )  # fmt: skip
    asyncio.run(_run(_Uvicorn(config), server, listener, say))


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are handled by ``_run``; uvicorn's own way would end the process by the signal it was sent."""
        yield


async def _run(uvicorn_server: _Uvicorn, server: Server, listener: socket.socket, say: Callable[[str], None]) -> None:
    other = await _listen_wyoming(server)

    def stop(*_: object) -> None:
        if uvicorn_server.should_exit:  # told twice: do not wait
            uvicorn_server.force_exit = True
        server.scheduler.drain()
        if other is not None:
            other.close()
        uvicorn_server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
    serving = asyncio.ensure_future(uvicorn_server.serve(sockets=[listener]))
    while not uvicorn_server.started and not serving.done():
        await asyncio.sleep(0.02)
    if not serving.done():
        host, port = listener.getsockname()[:2]
        name = server.synthesizer.model.config.name
        say(f"{name} is served at http://{f'[{host}]' if ':' in host else host}:{port}")
    if other is not None:
        say(f"and to Home Assistant at tcp://{':'.join(map(str, other.sockets[0].getsockname()[:2]))}")
    if server.settings.first_audio_ms is not None:
        say(f"first sentences come early, as with --first-codes {server.settings.first_codes}")
    await serving


async def _listen_wyoming(server: Server) -> asyncio.Server | None:
    if server.settings.wyoming is None:
        return None
    try:
        from chelys.server.wyoming import listen
    except ImportError as error:
        raise MissingExtra("wyoming", error) from error
    return await listen(server, server.settings.wyoming)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(256)
    except OSError as error:
        raise UserError(f"cannot listen at {host}:{port}: {error.strerror or error}; choose another --port") from error
    listener.setblocking(False)
    return listener
