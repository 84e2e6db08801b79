"""Play conversations over real sockets: a client, and an upstream that does what the exchange says."""

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.identity.exchange import Conversation, Exchange, Request
from tests.sidecar.rig import Peer

_TRACE = re.compile(rb"(?i)\r\ntraceparent: 00-([0-9a-f]{32})-")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding:[^\r]*chunked")


@dataclass(frozen=True)
class Reply:
    """What a client saw of an answer, byte for byte."""

    interims: tuple[bytes, ...]
    head: bytes  # empty when it never came whole
    body: bytes  # as it was framed
    end: str  # `whole`: the framing says so; else how the connection ended: `eof`, `reset`


@dataclass
class Received:
    """What the upstream saw of a request."""

    head: bytes
    body: bytes = b""


class Ended(Exception):
    """The connection ended before what was waited for."""


class ReplyReader:
    """Reads answers off a client's connection and keeps every byte. Bounded by nothing: answers are small here."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._data = b""  # of the answer being read
        self._at = 0
        self._came = asyncio.Event()
        self.end = ""

    async def read(self, method: str) -> Reply:
        """The next answer."""
        self._came.clear()
        interims: list[bytes] = []
        head, begin = b"", 0
        try:
            while not head:
                head = await self._until(b"\r\n\r\n")
                if head[9:10] == b"1":
                    interims.append(head)
                    head = b""
                begin = self._at
            await self._body(head, method)
            end = "whole"
        except Ended:
            self._at = len(self._data)
            end = "whole" if head and not framed(head) and self.end == "eof" else self.end
        body, self._data, self._at = self._data[begin : self._at], self._data[self._at :], 0
        return Reply(tuple(interims), head, body, end)

    async def came(self) -> None:
        """Wait for the first byte of an answer, or an end."""
        await self._came.wait()

    async def rest(self) -> tuple[bytes, str]:
        """Everything that still comes, and how the connection ends."""
        with contextlib.suppress(Ended):
            while True:
                await self._more()
        return self._data, self.end

    async def _body(self, head: bytes, method: str) -> None:
        if method == "HEAD" or head[9:12] in (b"204", b"304"):
            return
        if _CHUNKED.search(head):
            while size := int((await self._until(b"\r\n")).partition(b";")[0], 16):
                await self._exactly(size + 2)
            while await self._until(b"\r\n") != b"\r\n":
                pass
        elif length := _LENGTH.search(head):
            await self._exactly(int(length[1]))
        else:
            while True:
                self._at = len(self._data)
                await self._more()

    async def _until(self, mark: bytes) -> bytes:
        searched = self._at
        while (found := self._data.find(mark, searched)) < 0:
            searched = max(self._at, len(self._data) - len(mark))
            await self._more()
        line, self._at = self._data[self._at : found + len(mark)], found + len(mark)
        return line

    async def _exactly(self, size: int) -> None:
        while len(self._data) < self._at + size:
            await self._more()
        self._at += size

    async def _more(self) -> None:
        """One more read. `Ended`."""
        if not self.end:
            try:
                data = await self._peer.reader.read(65536)
            except ConnectionError:
                self.end, data = "reset", b""
            self.end = self.end or ("" if data else "eof")
            self._data += data
        self._came.set()
        if self.end:
            raise Ended


def framed(head: bytes) -> bool:
    """Whether an answer's head says where its body ends."""
    return bool(_CHUNKED.search(head) or _LENGTH.search(head))


class Stage:
    """An upstream's script for any exchange, and what it saw of each request."""

    def __init__(self) -> None:
        self.exchanges: dict[str, Exchange] = {}
        self.received: defaultdict[str, list[Received]] = defaultdict(list)

    def add(self, conversation: Conversation) -> None:
        """Make a conversation known before it is played."""
        self.exchanges.update((exchange.trace_id, exchange) for exchange in conversation.exchanges)

    async def script(self, peer: Peer) -> None:
        """Play the upstream's part on one connection."""
        peer.writer.transport.set_write_buffer_limits(0)  # drained = in the kernel: a reset drops nothing of it
        while True:
            head = await peer.read_head()
            found = _TRACE.search(head)
            assert found, head
            trace_id = found[1].decode()
            exchange = self.exchanges[trace_id]
            received = Received(head)
            self.received[trace_id].append(received)
            if not await _answer(peer, exchange, received):
                return


async def _answer(peer: Peer, exchange: Exchange, received: Received) -> bool:
    """Whether the connection goes on."""
    answer, request = exchange.answer, exchange.request
    if answer.early is not None:
        sent = len(b"".join(request.pieces[: request.waits_after])) - request.head_bytes
        if not answer.reads_on:
            received.body = await peer.reader.readexactly(sent)
        await peer.send(*answer.pieces[: answer.early])
    if answer.reads_on:
        received.body = await peer.read_body(received.head)
    rest = answer.pieces[answer.early or 0 :]
    if answer.end == "eof" or not answer.reads_on:
        await peer.send_and_end(*rest)
        return False
    await peer.send(*rest)
    if answer.end == "reset":
        peer.reset()
    return answer.end == "keep"


Connect = Callable[[], Awaitable[Peer]]


@dataclass(frozen=True)
class Heard:
    """An answer, and what the connection did after it where it was to be closed: `rest`, `end`."""

    reply: Reply
    after: tuple[bytes, str] | None = None


async def ask_alone(connect: Connect, exchange: Exchange) -> Reply:
    """One exchange on a connection of its own."""
    peer = await connect()
    reader = ReplyReader(peer)
    sending = asyncio.create_task(_send(peer, reader, exchange.request))
    reply = await reader.read(exchange.request.method)
    await sending
    peer.close()
    return reply


async def converse(connect: Connect, conversation: Conversation, closes: Sequence[bool]) -> list[Heard]:
    """All exchanges on one connection; a new one wherever the sidecar `closes` it after an exchange."""
    heard: list[Heard] = []
    exchanges = conversation.exchanges
    peer = await connect()
    reader = ReplyReader(peer)
    sending: list[asyncio.Task[None]] = []
    if conversation.pipelined:
        sending.append(asyncio.create_task(_send_all(peer, exchanges)))
    for exchange, closing in zip(exchanges, closes, strict=True):
        if not conversation.pipelined:
            sending.append(asyncio.create_task(_send(peer, reader, exchange.request)))
        reply = await reader.read(exchange.request.method)
        if not conversation.pipelined:
            await sending.pop()
        heard.append(Heard(reply, await reader.rest() if closing else None))
        if closing and exchange is not exchanges[-1]:
            peer.close()
            peer = await connect()
            reader = ReplyReader(peer)
    await asyncio.gather(*sending)
    peer.close()
    return heard


async def _send(peer: Peer, reader: ReplyReader, request: Request) -> None:
    with contextlib.suppress(ConnectionError):  # an early answer may end with the connection: the reader sees it
        await peer.send(*request.pieces[: request.waits_after])
        if request.waits_after is not None:
            await reader.came()
            if not request.stops:
                await peer.send(*request.pieces[request.waits_after :])
        if request.half_closes:
            peer.half_close()


async def _send_all(peer: Peer, exchanges: Sequence[Exchange]) -> None:
    await peer.send(b"".join(exchange.request.raw for exchange in exchanges))
