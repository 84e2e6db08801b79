"""The emulated model server: one asyncio protocol a connection, llhttp to read, precomputed bytes to answer.

It must never be what a replay waits for: no task, no await and no framework per request.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import cast

import httptools
import msgspec
import uvloop

from metering.errors import ConfigError
from metering.lab.answers import Answer, answer
from metering.lab.ask import Defaults, Fault

REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found", 405: b"Method Not Allowed", 529: b"Overloaded"}
LAST_CHUNK = b"0\r\n\r\n"
CALL_LOG_FLUSH_SECONDS = 0.05


class CallLog:
    """Which calls reached the model, and which it answered to the end: one line each, for the set checks.

    `received ID` is on the line before the first byte of the answer, `answered ID` after its last.
    """

    def __init__(self, path: Path | None) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if path else None
        self._lines: list[str] = []

    def note(self, what: str, call_id: str) -> None:
        """Remember one line; `flush` writes it."""
        if self._descriptor is not None and call_id:
            self._lines.append(f"{what} {call_id}\n")

    def flush(self) -> None:
        """Write what is remembered."""
        if self._descriptor is not None and self._lines:
            os.write(self._descriptor, "".join(self._lines).encode())
            self._lines.clear()


class ModelConnection(asyncio.Protocol):
    """One client connection: requests one after the other, each answered when its body is complete."""

    def __init__(self, defaults: Defaults, log: CallLog) -> None:
        self._defaults = defaults
        self._log = log
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self.on_message_begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class doesn't derive from asyncio's

    def connection_lost(self, _exc: Exception | None) -> None:
        """The client left: stop a paced answer."""
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls back below."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._transport.close()
        except httptools.HttpParserError:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()

    def on_message_begin(self) -> None:
        """A new request on this connection."""
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        """The request target; long ones come in pieces."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep only what changes the answer."""
        name = name.lower()
        if name.startswith(b"x-emulate-"):
            self._headers[name] = value
        elif name == b"expect":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A piece of the request body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is whole: answer it."""
        method = self._parser.get_method()
        given = answer(method, self._target, self._headers, b"".join(self._body), self._defaults)
        self._log.note("received", given.call_id)
        sending = arrange(given, method, keep_alive=self._parser.should_keep_alive())  # llhttp forgets it afterwards
        if given.pace_ms:
            self._pace(sending, 0)
        else:
            self._transport.write(b"".join(sending.writes))
            self._end(sending)

    def _pace(self, sending: "Sending", sent: int) -> None:
        """Write part `sent` now, and the next one `pace_ms` later."""
        if self._transport.is_closing():
            return
        self._transport.write(sending.writes[sent])
        if sent + 1 < len(sending.writes):
            seconds = sending.given.pace_ms / 1000
            self._timer = asyncio.get_running_loop().call_later(seconds, self._pace, sending, sent + 1)
        else:
            self._end(sending)

    def _end(self, sending: "Sending") -> None:
        if not sending.breaks:
            self._log.note("answered", sending.given.call_id)
        # A stalled answer says nothing more and leaves the end to the client.
        if sending.given.fault is Fault.CUT or not (sending.breaks or sending.keep_alive):
            self._transport.close()


class Sending(msgspec.Struct, frozen=True):
    """An answer as it goes over the wire."""

    given: Answer
    writes: list[bytes]
    breaks: bool  # a fault ends it half way
    keep_alive: bool


def arrange(given: Answer, method: bytes, *, keep_alive: bool) -> Sending:
    """Frame an answer's parts, behind a head; only half of them where a fault says so."""
    breaks = given.fault in (Fault.CUT, Fault.STALL)
    opening = _head(given, keep_alive=keep_alive)
    if method == b"HEAD":
        return Sending(given, [opening], breaks, keep_alive)
    if given.chunked:
        parts = given.parts[: max(1, len(given.parts) // 2)] if breaks else given.parts
        writes = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
        writes[0] = opening + writes[0]
        if not breaks:
            writes[-1] += LAST_CHUNK
        return Sending(given, writes, breaks, keep_alive)
    whole = b"".join(given.parts)
    content = opening + (whole[: len(whole) // 2] if breaks else whole)
    return Sending(given, [b"", content] if given.pace_ms else [content], breaks, keep_alive)


def _head(given: Answer, *, keep_alive: bool) -> bytes:
    length = b"transfer-encoding: chunked" if given.chunked else b"content-length: %d" % sum(map(len, given.parts))
    return b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\n%b\r\n%b%b\r\n" % (
        given.status,
        REASONS.get(given.status, b"Error"),
        given.content_type,
        length,
        given.id_header + b": req_" + given.call_id.encode() + b"\r\n" if given.call_id else b"",
        b"" if keep_alive else b"connection: close\r\n",
    )


async def serve(
    host: str, port: int, defaults: Defaults, *, call_log: Path | None, announce: Callable[[str, int], None]
) -> None:
    """Serve until SIGTERM or SIGINT; `announce` gets the bound address. `ConfigError` if it can't be bound."""
    loop = asyncio.get_running_loop()
    log = CallLog(call_log)
    try:
        server = await loop.create_server(lambda: ModelConnection(defaults, log), host, port, backlog=1024)
    except OSError as error:
        raise ConfigError(f"the emulator can't listen on {host}:{port} ({error.strerror}): choose another") from None
    bound: tuple[str, int] = server.sockets[0].getsockname()[:2]
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    announce(*bound)
    while not stop.is_set():
        log.flush()
        try:
            await asyncio.wait_for(stop.wait(), CALL_LOG_FLUSH_SECONDS if call_log else None)
        except TimeoutError:
            continue
    log.flush()
    server.close()


def emulate(listen: str, defaults: Defaults, *, call_log: Path | None, announce: Callable[[str, int], None]) -> None:
    """Run the emulator on `host:port` (port 0 = any free one) until it is told to stop."""
    host, _, port = listen.rpartition(":")
    if not (host and port.isdigit()):
        raise ConfigError(f"--listen {listen!r} must be HOST:PORT, such as 127.0.0.1:8000 (port 0 = any free one)")
    uvloop.run(serve(host.strip("[]"), int(port), defaults, call_log=call_log, announce=announce))


def write_port_file(path: Path, host: str, port: int) -> None:
    """Say where we listen, for whoever started us; appears whole or not at all."""
    told = msgspec.json.encode({"host": host, "port": port, "pid": os.getpid()})
    partial = path.with_suffix(path.suffix + ".part")
    partial.write_bytes(told)
    partial.rename(path)
