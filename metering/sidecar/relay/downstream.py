"""One client connection: reads requests one after the other and hands them to calls.

A pipelined request waits, unread, until the answer before it has gone. Whatever leaves the framing in doubt is
answered and the connection closed: never two upstream requests for one.
"""

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, cast

from metering.sidecar.relay.admission import Admitted
from metering.sidecar.relay.changed_exchange import ChangedExchange
from metering.sidecar.relay.chunks import BadChunk, ChunkedRequest
from metering.sidecar.relay.exchange import CLOSE, RESET, Exchange
from metering.sidecar.relay.problems import Refusal, problem
from metering.sidecar.relay.request_head import BLANK_LINE, check_partial

if TYPE_CHECKING:
    from metering.sidecar.relay.relay import Relay

BUFFER_BYTES_MAX = 64 * 1024  # of pipelined requests; beyond it the client is not read
_LINGER_NONE = struct.pack("ii", 1, 0)  # close() then sends a reset


class Downstream(asyncio.Protocol):
    """A client. `call` is the one in flight, from its head to the last byte of its answer."""

    __slots__ = (
        "_admitted", "_body_left", "_buffer", "_chunks", "_full", "_half_close", "_lingering", "_paused", "_relay",
        "_request_open", "_transport", "_tunnelled", "_write", "call", "keep_alive", "seen_bytes", "sweeps",
    )  # fmt: skip
    _transport: asyncio.Transport

    def __init__(self, relay: "Relay") -> None:
        self._relay = relay
        self.call: Exchange | None = None
        self.keep_alive = True
        self._admitted: Admitted | None = None
        self._buffer = b""  # an unfinished head, or pipelined requests
        self._request_open = False  # more of the current request's body is to come
        self._body_left = 0
        self._chunks: ChunkedRequest | None = None
        self._tunnelled = self._lingering = self._full = self._paused = False
        self._half_close: asyncio.TimerHandle | None = None
        self.sweeps = self.seen_bytes = 0  # sweeps since a head began or was complete, or the last answer went

    # ── what the loop calls ───────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepted."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses
        self._write = self._transport.write
        if not self._relay.welcome(self):
            self.refuse(Refusal(503, "This sidecar has as many connections as it may; try again later."))

    def data_received(self, data: bytes) -> None:
        """A head, a body, or what is to wait."""
        call = self.call
        if self._lingering:
            return
        if call is None:
            self._read_head(self._buffer + data if self._buffer else data)
        elif self._tunnelled:
            call.send_on(data)
        elif self._request_open:
            self._read_body(call, data)
        else:
            self._buffer += data
            if len(self._buffer) > BUFFER_BYTES_MAX:
                self.pause()

    def eof_received(self) -> bool:
        """The client sends no more. It may have left, or still be reading: it gets a moment's benefit of the doubt."""
        if self.call is None or self._request_open or self._tunnelled or self._lingering:
            return False
        self.keep_alive = False
        wait = self._relay.limits.half_close_seconds
        self._half_close = asyncio.get_running_loop().call_later(wait, self._transport.abort)
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why it left makes no difference
        """The client is gone."""
        self._relay.farewell(self)
        if self._half_close is not None:
            self._half_close.cancel()
        if (call := self.call) is not None:
            self.call = None
            call.client_left()

    def pause_writing(self) -> None:
        """The client reads slower than the upstream answers: the upstream has to wait."""
        self._full = True
        if self.call is not None and self.call.upstream is not None:
            self.call.upstream.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._full = False
        if self.call is not None and self.call.upstream is not None:
            self.call.upstream.resume()
        elif self.call is None and self._buffer:
            self._read_buffer()

    # ── what the call asks for ────────────────────────────────────────────────────────────────────────

    def send(self, data: bytes) -> None:
        """Bytes of the answer."""
        try:  # noqa: SIM105 - on the hot path: a `try` is free, a context manager is not
            self._write(data)
        except RuntimeError:
            pass  # uvloop: it broke in this very turn of the loop; connection_lost comes next

    def pause(self) -> None:
        """Read no more from the client for now."""
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused and len(self._buffer) <= BUFFER_BYTES_MAX and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def tunnel(self) -> None:
        """From here on bytes are passed as they come."""
        self._tunnelled = True
        if self._buffer and self.call is not None:
            self.call.send_on(self._buffer)
        self._buffer = b""
        self.resume()

    def finish(self, last: bytes, ending: int) -> None:
        """The call is over: send the last of its answer, then read the next request or close."""
        self.call = None
        self.sweeps = 0
        if self._transport.is_closing():
            return
        if last:
            self._write(last)
        if ending == RESET:
            self._reset()
        elif ending == CLOSE or not self.keep_alive:  # not `draining`: an answer that began before it promised to stay
            self._close()
        elif self._buffer:
            # Not here: a client that pipelines a thousand requests would nest a thousand calls deep.
            asyncio.get_running_loop().call_soon(self._read_buffer)
        elif self._paused:
            self.resume()

    def sweep(self) -> None:
        """Called every `Relay.sweep_seconds`: close what has waited too long."""
        self.sweeps += 1
        relay, limits, call = self._relay, self._relay.limits, self.call
        waited = self.sweeps * relay.sweep_seconds
        if call is not None and (call.forwarded or call.changed):
            moved = call.record.request_bytes + call.record.response_bytes
            if moved != self.seen_bytes:
                self.seen_bytes, self.sweeps = moved, 0
            elif (self._full or self._request_open) and waited > limits.stall_seconds:
                self._transport.abort()
            elif not (self._full or self._request_open or call.switched) and waited > limits.silence_seconds:
                call.fail(504, f"The model's server sent nothing for {limits.silence_seconds:g} s.")
        elif call is not None:
            if not call.begun:  # its body is late: an upstream that answers without it is heard
                call.begin(b"", b"", ended=False)
        elif self._lingering or self._buffer:
            if waited > limits.head_seconds:
                self._give_up_waiting()
        elif waited > limits.idle_seconds:
            self._transport.close()

    def drain(self) -> None:
        """The sidecar is stopping: finish the call in flight, close if there is none."""
        if self.call is None and not self._buffer:
            self._transport.close()

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────

    def _read_buffer(self) -> None:
        if self.call is None and not self._full and not self._transport.is_closing():
            data, self._buffer = self._buffer, b""
            self._read_head(data)
            self.resume()

    def _read_head(self, data: bytes) -> None:
        """Read one request from its first byte. What comes behind it stays in the buffer."""
        admitted = self._admitted
        if admitted is not None and 0 < (end := admitted.recur(data)) <= self._relay.limits.head_bytes:
            self._buffer = b""
            self._begin(admitted, data[end:])
            return
        begin = 0
        while data.startswith(b"\r\n", begin):  # RFC 9112 section 2.2: some clients end a body with one too many
            begin += 2
        if begin:
            data = data[begin:]
        end = data.find(BLANK_LINE) + len(BLANK_LINE)
        try:
            if end < len(BLANK_LINE):
                check_partial(data, self._relay.limits.head_bytes)
                if data and not self._buffer:
                    self.sweeps = 0
                self._buffer = data
                return
            if end > self._relay.limits.head_bytes:
                check_partial(data[:end], self._relay.limits.head_bytes)
            self._buffer = b""
            admitted = self._admitted = self._relay.admission.admit(data[:end], admitted)
        except Refusal as refusal:
            self.refuse(refusal)
        else:
            self._begin(admitted, data[end:])

    def _begin(self, admitted: Admitted, rest: bytes) -> None:
        relay = self._relay
        self.keep_alive = admitted.keep_alive and not relay.draining
        self.sweeps = 0
        call = self.call = (ChangedExchange if admitted.changes else Exchange)(relay, self, admitted)
        length = admitted.body_length
        if rest and len(rest) == length:  # all of the body, and nothing behind it: most requests
            self._request_open = False
            call.begin(rest, rest, ended=True)
            return
        head = admitted.head
        self._chunks = ChunkedRequest(admitted.route.trusted) if head.chunked else None
        self._body_left = length
        self._request_open = head.chunked or length > 0
        if not self._request_open:
            self._buffer = rest
            call.begin(b"", b"", ended=True)
        elif rest:
            self._read_body(call, rest)
        elif head.expects:
            call.begin(b"", b"", ended=False)
        # Else the head waits for its body, until the next sweep at most: one write, and the record names the model.

    def _read_body(self, call: Exchange, data: bytes) -> None:
        try:
            wire, content, ended = self._split(data)
        except BadChunk as error:
            self._break_off(call, f"The request's body is broken: {error}.")
            return
        if ended:
            self._request_open = False
            self._buffer = data[len(wire) :]
        if call.begun:
            call.send(wire, content, ended=ended)
        else:
            call.begin(wire, content, ended=ended)

    def _split(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """What of `data` is this request's body: as it came, without framing, and whether it ends there."""
        if self._chunks is not None:
            used, content = self._chunks.feed(data)
            return data[:used], content, self._chunks.ended
        left = self._body_left = self._body_left - len(data)
        if left < 0:
            data = data[:left]
        return data, data, left <= 0

    # ── ending ────────────────────────────────────────────────────────────────────────────────────────

    def refuse(self, refusal: Refusal) -> None:
        """Answer without forwarding. What the request still sends is read and forgotten."""
        call, self.call = self.call, None
        self._relay.tally.refused_requests += 1
        head_only = call is not None and call.request.head_only
        self._transport.write(problem(refusal.status, str(refusal), close=True, head_only=head_only))
        self._linger()

    def _break_off(self, call: Exchange, sentence: str) -> None:
        self.keep_alive = False
        call.request_ended = False
        call.fail(400, sentence)

    def _give_up_waiting(self) -> None:
        if self._lingering:
            self._transport.abort()
        else:
            self.refuse(Refusal(408, "The request did not arrive in time; send it again."))

    def _close(self) -> None:
        """Close, after the last byte has gone. A client that is still sending is listened to, so that it can read."""
        if self._request_open or self._buffer:
            self._linger()
        else:
            self._transport.close()

    def _linger(self) -> None:
        self._lingering = True
        self._buffer = b""
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        self.resume()

    def _reset(self) -> None:
        """End as the upstream did: what was received goes out, then a reset instead of an end."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        self._transport.close()
