"""What a request has to pass before anything of it is read: host, origin, key, size. Plain ASGI."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response

from chelys.server.metrics import Metrics
from chelys.server.requests import error
from chelys.server.settings import ServerSettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: What needs no key: whether the server is well, and the page, which asks for the key.
OPEN_PATHS = frozenset({"/", "/docs", "/health", "/ready"})
#: A JSON body has at most so many bytes for each character of a text, and so many beside it.
BYTES_PER_CHAR, OTHER_BYTES = 12, 65_536
VOICES_PATH = "/v1/audio/voices"
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)


class TooLarge(Exception):
    """A body has more bytes than it may."""


class Guard:
    """Wraps an application. Counts every answer by its path and status."""

    def __init__(self, app: Any, settings: ServerSettings, metrics: Metrics, paths: set[str]) -> None:
        self.app, self.settings, self.metrics, self.paths = app, settings, metrics, paths
        key = settings.api_key
        self._key = sha256(key.get_secret_value().encode()).digest() if key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, headers = scope["path"], Headers(scope=scope)
        begun = False

        async def counted(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                known = path if path in self.paths else "other"
                self.metrics.requests.labels(known, str(message["status"])).inc()
                message["headers"] = [*message.get("headers", []), *SECURITY_HEADERS]
            await send(message)

        limit = self._limit(path)
        refusal = self._refuse(path, scope["method"], headers, limit)
        if refusal is not None:
            await refusal(scope, receive, counted)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > limit:
                    raise TooLarge
            return message

        try:
            await self.app(scope, bounded, counted)
        except TooLarge:
            if not begun:
                await _too_large(limit)(scope, receive, counted)

    def _limit(self, path: str) -> int:
        """Bytes that a body may have."""
        if path in (VOICES_PATH, f"{VOICES_PATH}/check"):
            return self.settings.max_upload_bytes + OTHER_BYTES
        return self.settings.max_chars * BYTES_PER_CHAR + OTHER_BYTES

    def _refuse(self, path: str, method: str, headers: Headers, limit: int) -> Response | None:
        host = headers.get("host", "")
        if not self._host_allowed(_name(host)):
            return error(
                400,
                "this server does not go by that host name: start it with --allowed-hosts NAME",
                code="unknown_host",
            )
        origin = headers.get("origin")
        if origin is not None and not self._origin_allowed(origin, host):
            return error(403, "pages of other sites may not use this server", code="forbidden_origin")
        preflight = method == "OPTIONS" and "access-control-request-method" in headers
        is_open = path in OPEN_PATHS or path.startswith("/page/") or preflight
        if self._key is not None and not is_open and not self._key_fits(headers.get("authorization", "")):
            return error(
                401, "give the server's key as 'Authorization: Bearer KEY'", code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )  # fmt: skip
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or len(length) > 15 or int(length) > limit:
            return _too_large(limit)
        return None

    def _host_allowed(self, name: str) -> bool:
        """An attacker's page can make its own name lead here (DNS rebinding), but not an address or ``localhost``."""
        allowed = self.settings.allowed_hosts
        if "*" in allowed or name in ("localhost", self.settings.host.lower()):
            return True
        return _is_address(name) or name in (other.lower() for other in allowed)

    def _origin_allowed(self, origin: str, host: str) -> bool:
        allowed = self.settings.cors_origins
        return "*" in allowed or origin in allowed or urlsplit(origin).netloc.lower() == host.lower()

    def _key_fits(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        assert self._key is not None
        fits = hmac.compare_digest(sha256(given.strip().encode()).digest(), self._key)
        return fits and scheme.lower() == "bearer"


def _too_large(limit: int) -> Response:
    return error(413, f"the body is larger than {limit} bytes", code="too_large", headers={"connection": "close"})


def _name(host: str) -> str:
    """Host header without its port, lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
