"""Real sockets for the relay's tests: a scripted raw upstream, a relay with a real spool, and raw clients."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import uvloop

from metering.core.event import UsageEvent
from metering.sidecar.config import SidecarConfig, parse_config
from metering.sidecar.relay.relay import Relay
from metering.sidecar.spool.disk import DISK, Disk
from metering.sidecar.spool.writer import SpoolWriter

Result = TypeVar("Result")
Script = Callable[["Peer"], Awaitable[None]]

CHAT = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}'
USAGE = b'"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17}'
ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o-mini-2024","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"hello"},"finish_reason":"stop"}],' + USAGE + b"}"
)


def run(test: Coroutine[Any, Any, Result], seconds: float = 10) -> Result:
    """Run a test in uvloop; nothing may take long."""

    async def bounded() -> Result:
        async with asyncio.timeout(seconds):
            return await test

    return uvloop.run(bounded())


async def until(holds: Callable[[], object]) -> None:
    """Wait for something that no event tells."""
    while not holds():  # noqa: ASYNC110 - files and counters send none
        await asyncio.sleep(0.005)


def post(path: str = "/openai/v1/chat/completions", body: bytes = CHAT, *headers: str, version: str = "1.1") -> bytes:
    """A POST with a Content-Length; `headers` are whole lines."""
    lines = [f"POST {path} HTTP/{version}", "Host: sidecar", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def get(path: str = "/openai/v1/models", *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    """A request without a body."""
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: sidecar", *headers, "", ""]).encode()


def json_answer(body: bytes = ANSWER, *headers: str, status: str = "200 OK") -> bytes:
    """A response with a Content-Length."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    """One chunk."""
    return b"%x%s\r\n%s\r\n" % (len(data), extension, data)


def stream_answer(*payloads: bytes) -> list[bytes]:
    """A chunked event stream with usage at its end: the head, then a piece a chunk, then the terminator."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    texts = payloads or (b"one", b"two", b"three")
    events = [
        b'data: {"id":"c-1","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[{"index":0,"delta":'
        b'{"content":"' + text + b'"}}]}\n\n'
        for text in texts
    ]
    last = b'data: {"id":"c-1","model":"gpt-4o-mini","choices":[],' + USAGE + b"}\n\ndata: [DONE]\n\n"
    return [head, *(chunk(event) for event in (*events, last)), b"0\r\n\r\n"]


class Peer:
    """A connection seen raw, on either side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int = 0) -> None:
        self.reader, self.writer, self.number = reader, writer, number
        self.seen = b""

    async def send(self, *pieces: bytes, pause: float = 0.0) -> None:
        """Write each piece by itself."""
        for piece in pieces:
            if self.writer.is_closing():
                raise ConnectionResetError  # uvloop's own word for it is RuntimeError
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(pause)

    async def read_head(self) -> bytes:
        """Up to and with the blank line."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.seen += head
        return head

    async def read_request(self) -> tuple[bytes, bytes]:
        """A head and its Content-Length or chunked body, as it came."""
        head = await self.read_head()
        return head, await self.read_body(head)

    async def read_body(self, head: bytes) -> bytes:
        """The body that belongs to `head`, as it came."""
        lowered = head.lower()
        body = b""
        if b"\r\ncontent-length:" in lowered:
            length = int(lowered.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
            body = await self.reader.readexactly(length)
        elif b"\r\ntransfer-encoding: chunked" in lowered:
            body = await self._read_chunks()
        self.seen += body
        return body

    async def _read_chunks(self) -> bytes:
        body = b""
        while True:
            line = await self.reader.readuntil(b"\r\n")
            body += line
            size = int(line.partition(b";")[0], 16)
            if not size:
                break
            body += await self.reader.readexactly(size + 2)
        while not body.endswith(b"\r\n\r\n"):
            body += await self.reader.readuntil(b"\r\n")
        return body

    async def read_rest(self) -> tuple[bytes, str]:
        """Everything until the end, and what the end was: `eof` or `reset`."""
        data = b""
        try:
            while piece := await self.reader.read(65536):
                data += piece
        except ConnectionError:
            return data, "reset"
        return data, "eof"

    async def read_answer(self) -> tuple[bytes, bytes]:
        """Head and body of one answer with a Content-Length."""
        return await self.read_request()

    def half_close(self) -> None:
        self.writer.write_eof()

    async def send_and_end(self, *pieces: bytes) -> None:
        """Write each piece by itself; the end leaves in one go with the last byte, and nothing is taken any more.

        A loop closes sockets some turns later, and what had come by then would be acknowledged though nobody reads it.
        """
        last = next((piece for piece in reversed(pieces) if piece), b"")
        await self.send(*pieces[:-1], last[:-1])
        self.writer.write(last[-1:])
        self.end_now()

    def end_now(self) -> None:
        """An end in order, in this very turn of the loop."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as twin:
            twin.shutdown(socket.SHUT_RDWR)
        self.close()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Close with a reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(1, 13, (1).to_bytes(4, "little") + bytes(4))  # SOL_SOCKET, SO_LINGER: on, 0 s
        self.writer.transport.abort()


class Upstream:
    """Runs `script` for every connection it gets."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.peers: list[Peer] = []
        self.errors: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self, **options: Any) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, **options)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for peer in self.peers:
            peer.writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.errors:
            raise self.errors[0]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer, len(self.peers))
        self.peers.append(peer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.script(peer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # whoever called went away, or the rig ends
        except Exception as error:  # noqa: BLE001 - told to the test when the rig ends
            self.errors.append(error)
        finally:
            self._tasks.discard(task)


def serve(*pieces: bytes, pause: float = 0.0, close: bool = False) -> Script:
    """Answer every request with these pieces."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.read_request()
            await peer.send(*pieces, pause=pause)
            if close:
                peer.close()
                return

    return script


class Rig:
    """A relay in this process, its upstream, its spool."""

    def __init__(self, relay: Relay, upstream: Upstream, port: int, spool_dir: Path) -> None:
        self.relay, self.upstream, self.port, self.spool_dir = relay, upstream, port, spool_dir
        self.clients: list[Peer] = []

    async def connect(self, port: int | None = None, limit: int = 2**16) -> Peer:
        """A client's raw connection, to the relay unless another port is given."""
        self.clients.append(Peer(*await asyncio.open_connection("127.0.0.1", port or self.port, limit=limit)))
        return self.clients[-1]

    async def ask(self, request: bytes, *, direct: bool = False, half_close: bool = False) -> tuple[bytes, str]:
        """Send, read to the end of the connection. `direct`: past the relay, with the route's prefix taken off."""
        if direct:
            request = request.replace(b" /openai/", b" /", 1)
        peer = await self.connect(self.upstream.port if direct else None)
        await peer.send(request)
        if half_close:
            peer.half_close()
        answer = await peer.read_rest()
        peer.close()
        return answer

    def records(self, kind: str = "F") -> list[UsageEvent]:
        """The spool's records of a kind (O or F), in order."""
        return read_records(self.spool_dir, kind)

    async def final(self, count: int = 1) -> UsageEvent:
        """The last of `count` final records, once they are there."""
        await until(lambda: len(self.records()) >= count)
        assert len(self.records()) == count
        return self.records()[-1]


def read_records(spool_dir: Path, kind: str = "F") -> list[UsageEvent]:
    """A spool's records of a kind (O or F), in order."""
    lines = [line for path in sorted(spool_dir.glob("*.seg")) for line in path.read_bytes().splitlines()]
    return [
        msgspec.json.decode(line.split(b" ", 3)[3], type=UsageEvent)
        for line in lines
        if line.split(b" ", 3)[2] == kind.encode()
    ]


@contextlib.asynccontextmanager
async def relaying(
    tmp_path: Path,
    script: Script,
    *,
    config: str = "",
    route: str = "",
    sweep: float = 0.05,
    port: int = 0,
    routes: Callable[[int], str] | None = None,
    disk: Disk = DISK,
    estimates: bool = False,
    **upstream_options: Any,
) -> AsyncIterator[Rig]:
    """A rig whose config is one route `/openai` plus what is given (TOML). `port`: go there instead of to `script`.

    `routes` writes all routes instead, from the upstream's port.
    """
    upstream = Upstream(script)
    await upstream.start(**upstream_options)
    scheme = "https" if "ssl" in upstream_options else "http"
    if routes is not None:
        parsed = parse_config(config + routes(upstream.port), tmp_path)
    else:
        parsed = make_config(tmp_path, f"{scheme}://localhost:{port or upstream.port}", config, route)
    spool_dir = parsed.spool.dir / "worker-0"
    spool = SpoolWriter.open(spool_dir, disk=disk)
    loop = asyncio.get_running_loop()
    spool.start_syncing(loop)
    relay = Relay(parsed, spool, sweep_seconds=sweep, estimates=estimates)
    server = await loop.create_server(relay.accept, "127.0.0.1", 0)
    sweeping = loop.create_task(relay.sweep_forever())
    try:
        rig = Rig(relay, upstream, server.sockets[0].getsockname()[1], spool_dir)
        yield rig
        for client in rig.clients:
            client.close()
    finally:
        server.close()
        sweeping.cancel()
        await relay.stop(0.05)
        await upstream.stop()
        spool.close()


def make_config(tmp_path: Path, upstream: str, config: str = "", route: str = "") -> SidecarConfig:
    """The parsed file of a rig."""
    text = f'{config}\n[[route]]\npath = "/openai"\nupstream = "{upstream}"\nprovider = "openai"\n{route}\n'
    return parse_config(text, tmp_path)


def split_answer(raw: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Status line, header lines without those that belong to one connection, body as it came."""
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    hop = (b"connection:", b"keep-alive:")
    return status, [line for line in lines if not line.lower().startswith(hop)], body


def cut(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """`data` in pieces of the given sizes; the rest is the last."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [piece for piece in (*pieces, data[at:]) if piece]
