"""One connection to an upstream: reads answers and hands them to the call it is lent to."""

import asyncio
import select
import socket
import sys
from typing import TYPE_CHECKING, cast

from metering.sidecar.logline import log
from metering.sidecar.relay.bodies import Body, LengthBody, OpenBody, open_body
from metering.sidecar.relay.message_end import MessageEnd
from metering.sidecar.relay.request_head import BLANK_LINE
from metering.sidecar.relay.response_head import BadResponse, ResponseHead, expect_again, read_response

if TYPE_CHECKING:
    from metering.sidecar.relay.exchange import Exchange
    from metering.sidecar.relay.pool import Pool

_TCP_INFO, _BYTES_ACKED = 11, slice(120, 128)  # Linux: option, and place of tcpi_bytes_acked in struct tcp_info
_BROKEN = "The model's server sent an answer that is not valid HTTP/1.1, so it was not passed on."


class UpstreamConnection(asyncio.Protocol):
    """Belongs to a pool; lent to one call at a time."""

    __slots__ = (
        "_acknowledged_before", "_buffer", "_end", "_keep_alive", "_pool", "_sent", "_transport", "_write", "answered",
        "body", "call", "full", "idle_sweeps", "is_closing", "paused", "reused", "spared",
    )  # fmt: skip
    _transport: asyncio.Transport

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self.call: Exchange | None = None
        self.body: Body | None = None  # None until the final head of an answer came
        self._buffer = b""
        self._end = MessageEnd()
        self._keep_alive = False
        self.reused = self.answered = self.full = self.paused = False
        self.spared = False  # it ended, and had not taken a byte of its call's request
        self.idle_sweeps = self._sent = 0
        self._acknowledged_before: int | None = None  # the most that may be, if nothing of the call's request is

    # ── what the loop calls ───────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Dialled."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses
        self.is_closing = self._transport.is_closing  # whether it can't be lent any more
        self._write = self._transport.write

    def data_received(self, data: bytes) -> None:
        """The hot path of every streamed chunk: frame, forward, keep."""
        call = self.call
        if call is None:
            self.abort()  # an answer nobody asked for
            return
        body = self.body
        if body is None:
            self._read_head(call, self._buffer + data if self._buffer else data)
            return
        try:
            ended = body.feed(data)
        except BadResponse as error:
            self._break_off(call, error)
            return
        if ended:
            self._complete(call, b"", body)
        else:
            call.pass_on(b"", body)

    def eof_received(self) -> None:
        """An end in order, which tells how much had arrived by then; after a reset, bytes may be read that were not
        acknowledged. Asked for here because with TLS the socket is gone when `connection_lost` comes.
        """
        self.spared = self.call is not None and not self.answered and self.took_nothing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed by either side."""
        self._pool.lost(self)
        call, self.call = self.call, None
        if call is not None:
            call.upstream_lost(self, exc)

    def pause_writing(self) -> None:
        """The upstream doesn't keep up with the request: read less of it."""
        self.full = True
        if self.call is not None and self.call.client is not None:
            self.call.client.pause()

    def resume_writing(self) -> None:
        """It does again."""
        self.full = False
        if self.call is not None and self.call.client is not None:
            self.call.client.resume()

    # ── what the call and the pool ask for ────────────────────────────────────────────────────────────

    def write(self, data: bytes) -> None:
        """Send bytes of the request."""
        self._sent += len(data)
        try:  # noqa: SIM105 - on the hot path: a `try` is free, a context manager is not
            self._write(data)
        except RuntimeError:
            pass  # uvloop: it broke in this very turn of the loop; connection_lost comes next

    def pause(self) -> None:
        """Read no more of the answer for now."""
        if not self.paused and not self._transport.is_closing():
            self.paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.paused and not self._transport.is_closing():
            self.paused = False
            self._transport.resume_reading()

    def close(self, seconds_max: float) -> None:
        """Close once everything written has gone, or after that time: the end of a tunnel."""
        self.call = None
        self._transport.close()
        asyncio.get_running_loop().call_later(seconds_max, self._transport.abort)

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def renew(self) -> None:
        """Made ready for the next call."""
        self.body = None
        self._buffer = b""
        self.answered = False
        self.reused = True
        self._acknowledged_before = None if self._pool.destination.tls else self._sent + 1
        self.idle_sweeps = 0
        if self.paused:
            self.resume()

    def has_news(self) -> bool:
        """Whether something has come that was not read yet. On a pooled connection that is its end. A system call."""
        waiting = select.poll()
        waiting.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(waiting.poll(0))

    def settle(self) -> None:
        """Called on a connection that has idled for a while: whatever was sent on it has arrived."""
        self._acknowledged_before = self._count_acknowledged()

    def took_nothing(self) -> bool:
        """Whether the other side's kernel acknowledged no byte of this call's request. False where it can't be told."""
        acknowledged = self._count_acknowledged()
        return acknowledged is not None and acknowledged <= (self._acknowledged_before or 0)

    def _count_acknowledged(self) -> int | None:
        """Bytes on the wire, the SYN included; None where the system doesn't say."""
        try:
            told = self._transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _BYTES_ACKED.stop)
        except OSError:
            return None
        return int.from_bytes(told[_BYTES_ACKED], sys.byteorder) if len(told) == _BYTES_ACKED.stop else None

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────

    def _read_head(self, call: "Exchange", data: bytes) -> None:
        self.answered = True
        head = self._pool.last_answer
        if head is not None and not call.changed and (end := head.recur(data)) and not call.request.head_only:
            self._begin_length(call, head, data[end:])
            return
        try:
            while (end := data.find(BLANK_LINE)) >= 0:
                end += len(BLANK_LINE)
                if end > self._pool.head_bytes:
                    raise self._too_large()
                head, parser = read_response(data[:end], self._end)
                data = data[end:]
                if head.status >= 200:
                    if call.changed and call.refused(head):
                        return
                    self._pool.last_answer = expect_again(head, self._pool.last_answer)
                    body = open_body(head, parser, self._end, to_head_request=call.request.head_only)
                    self._begin_body(call, head, body, data)
                    return
                if head.status == 101:
                    self._switch(call, head, data)
                    return
                call.interim(head)
        except BadResponse as error:
            self._break_off(call, error)
            return
        self._buffer = data
        if len(data) > self._pool.head_bytes:
            self._break_off(call, self._too_large())

    def _too_large(self) -> BadResponse:
        return BadResponse(f"its head is larger than {self._pool.head_bytes} bytes")

    def _begin_length(self, call: "Exchange", head: ResponseHead, data: bytes) -> None:
        """A body of known length, which mostly came with its head."""
        if len(data) != head.body_length:
            self._begin_body(call, head, LengthBody(head.body_length or 0), data)
            return
        self._keep_alive = head.keep_alive and call.request_ended
        to_client = call.answer(head, ends_with_connection=False)
        self._let_go(call, surplus=False)
        call.complete(to_client, data, data)

    def _begin_body(self, call: "Exchange", head: ResponseHead, body: Body, data: bytes) -> None:
        self.body = body
        self._buffer = b""
        self._keep_alive = head.keep_alive and call.request_ended
        to_client = call.answer(head, ends_with_connection=body.ends_with_connection)
        ended = body.feed(data)
        if ended:
            self._complete(call, to_client, body)
        else:
            call.pass_on(to_client, body)

    def _switch(self, call: "Exchange", head: ResponseHead, data: bytes) -> None:
        if not call.request.websocket:
            raise BadResponse("it switches protocols though nobody asked")
        self.body = OpenBody()
        self._buffer = b""
        call.switch(head)
        if data:
            self.body.feed(data)
            call.pass_on(b"", self.body)

    def _complete(self, call: "Exchange", to_client: bytes, body: Body) -> None:
        self._let_go(call, surplus=body.surplus)
        call.complete(to_client, body.wire, body.content)

    def _let_go(self, call: "Exchange", *, surplus: bool) -> None:
        """The answer is complete: free for the next call, or not usable any more.

        A server that answered before the request had ended may drop the rest, and with it the connection.
        """
        self.call = None
        if self._keep_alive and not surplus:
            self._pool.put(self)
        elif call.request_ended:
            self._transport.close()
        else:
            self._transport.abort()

    def _break_off(self, call: "Exchange", error: BadResponse) -> None:
        log("bad_answer", upstream=self._pool.destination.name, error=str(error))
        call.fail(502, _BROKEN)
