"""The operator's listener: `/healthz`, `/readyz`, `/metrics` (Prometheus text). Not for clients: bind loopback."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

HEAD_BYTES_MAX = 8192
HEAD_SECONDS = 5.0

Answer = tuple[int, str, str]  # status, content type, body
_PHRASES = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Readiness(msgspec.Struct):
    """Why no calls should be sent here now, and what else an operator should know."""

    reasons: list[str] = []
    warnings: list[str] = []


class Admin:
    """Answers from two questions it is given."""

    def __init__(self, readiness: Callable[[], Awaitable[Readiness]], metrics: Callable[[], Awaitable[str]]) -> None:
        self._readiness = readiness
        self._metrics = metrics

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer."""
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = await self._answer(head.split(b" ", 2))
            text = body.encode()
            writer.write(
                f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: {kind}\r\n"
                f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode()
                + text
            )
            await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked is gone or asks nothing that is understood here
        finally:
            writer.close()

    async def _answer(self, words: list[bytes]) -> Answer:
        if words[0] != b"GET":
            return 405, _TEXT, "only GET is served here\n"
        path = words[1].partition(b"?")[0] if len(words) > 1 else b""
        if path == b"/healthz":
            return 200, _TEXT, "ok\n"
        if path == b"/readyz":
            found = await self._readiness()
            body = {"ready": not found.reasons, "reasons": found.reasons, "warnings": found.warnings}
            return 503 if found.reasons else 200, _JSON, msgspec.json.encode(body).decode() + "\n"
        if path == b"/metrics":
            return 200, _PROMETHEUS, await self._metrics()
        return 404, _TEXT, "served here: /healthz, /readyz, /metrics\n"
