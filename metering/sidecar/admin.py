"""The operator's listener: `/healthz`, `/readyz`, `/metrics` (Prometheus text). Not for clients: bind loopback."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec

from metering.core.event import Outcome
from metering.sidecar.tally import Tally

HEAD_BYTES_MAX = 8192
HEAD_SECONDS = 5.0

Answer = tuple[int, str, str]  # status, content type, body
_PHRASES = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
_TEXT = "text/plain; charset=utf-8"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

# name in `Tally` → kind and what it says
_METRICS = {
    "unmetered_calls": ("counter", "Calls that were forwarded and could not be recorded"),
    "late_finals": ("counter", "Final records that the spool could not take at once"),
    "refused_requests": ("counter", "Requests the sidecar answered itself"),
    "upstream_retries": ("counter", "Calls sent again because a pooled connection had gone stale"),
    "calls_in_flight": ("gauge", "Calls being relayed now"),
    "client_connections": ("gauge", "Open client connections"),
    "upstream_connections": ("gauge", "Open or dialled upstream connections"),
    "spool_bytes": ("gauge", "Bytes of all spool segments"),
    "spool_corrupt_records": ("counter", "Damaged places a start found in its spool"),
    "spool_degraded": ("gauge", "1 while the disk refuses to sync or to write"),
}


class Admin:
    """Answers from three questions it is given."""

    def __init__(self, ready: Callable[[], bool], tallies: Callable[[], Awaitable[Mapping[int, Tally]]]) -> None:
        self._ready = ready
        self._tallies = tallies

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
            return (200, _TEXT, "ready\n") if self._ready() else (503, _TEXT, "not ready\n")
        if path == b"/metrics":
            return 200, _PROMETHEUS, render(await self._tallies())
        return 404, _TEXT, "served here: /healthz, /readyz, /metrics\n"


def render(tallies: Mapping[int, Tally]) -> str:
    """Prometheus text. Labelled by worker, so that a restarted worker's counters are a reset of its own series."""
    lines = ["# HELP metering_calls_total Calls relayed, by how they ended", "# TYPE metering_calls_total counter"]
    for number, tally in tallies.items():
        for outcome in Outcome:
            count = tally.calls.get(outcome.value, 0)
            lines.append(f'metering_calls_total{{worker="{number}",outcome="{outcome.value}"}} {count}')
    for field, (kind, says) in _METRICS.items():
        name = f"metering_{field}_total" if kind == "counter" else f"metering_{field}"
        lines += [f"# HELP {name} {says}", f"# TYPE {name} {kind}"]
        lines += _samples(name, ((number, getattr(tally, field)) for number, tally in tallies.items()))
    return "\n".join(lines) + "\n"


def _samples(name: str, values: Iterable[tuple[int, int]]) -> list[str]:
    return [f'{name}{{worker="{number}"}} {value}' for number, value in values]


def decode_tally(line: bytes) -> Tally | None:
    """What a worker said about itself; None if it was cut off."""
    try:
        return msgspec.json.decode(line, type=Tally)
    except msgspec.DecodeError:
        return None
