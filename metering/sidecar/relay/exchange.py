"""One call: between the client's connection and the upstream's, and the one that tells the journal.

The order that nothing may change: open record → first byte upstream; answer's bytes → client, then the tee;
final record → last byte to the client. No task and no await belongs to a call; it is two protocols and this.
"""

from time import monotonic
from typing import TYPE_CHECKING

from metering.core.event import Outcome, UsageEvent
from metering.sidecar.relay.admission import Admitted
from metering.sidecar.relay.bodies import Body, ChunkedBody
from metering.sidecar.relay.call_record import CallRecord
from metering.sidecar.relay.problems import Refusal, problem
from metering.sidecar.relay.response_head import BadResponse, ResponseHead
from metering.sidecar.relay.so_far import SoFar

if TYPE_CHECKING:  # these three know each other; only types are needed here
    from metering.sidecar.relay.downstream import Downstream
    from metering.sidecar.relay.relay import Relay
    from metering.sidecar.relay.upstream import UpstreamConnection

REPLAY_BYTES_MAX = 64 * 1024
PENDING_BYTES_MAX = 64 * 1024
_SPOOL_FULL = "Calls can't be counted now because the spool is full; free disk space and try again."
INTERIMS_MAX = 100
_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))  # RFC 9110 section 9.2.2
KEEP, CLOSE, RESET = range(3)  # how the client's connection goes on after the answer


class Exchange:
    """A call that was admitted. Made by `Downstream`, which feeds it the request."""

    changed = False  # its bytes may not go on as they come: see `changed_exchange`
    # Defaults live in the class (see `CallRecord`).
    upstream: "UpstreamConnection | None" = None
    client: "Downstream | None"
    begun = False  # its open record is asked for
    forwarded = False  # an open record is written, or was refused by a full spool, and bytes may go upstream
    request_ended = False
    switched = False  # a tunnel now
    opened = False  # its open record is in the spool
    done = False  # it has ended; the last of its answer leaves once its final record is written
    outcome: Outcome
    drained_from: int | None = None  # response bytes when the client left and reading went on
    _retried = False
    _last = b""
    _ending = 0
    _event: UsageEvent | None = None  # how it ended, once recorded
    _released = 0.0  # monotonic: when its last byte left
    _pending_bytes = _interims = 0
    _pending: list[bytes] | None = None  # of the request, waiting for a connection
    _replay: list[bytes] | None = None  # of the request, as long as it could be sent again
    _replay_bytes = 0

    def __init__(self, relay: "Relay", client: "Downstream", admitted: Admitted) -> None:
        self._relay = relay
        self.client = client
        self._head = admitted.upstream_head
        self.request = admitted.head  # what the client asked for; its connection has no other while the call runs
        self.record = CallRecord(admitted)

    # ── the request ───────────────────────────────────────────────────────────────────────────────────

    def begin(self, wire: bytes, content: bytes, *, ended: bool) -> None:
        """Have what has come of the request recorded; then it is forwarded: see `recorded_open`."""
        record = self.record
        record.request_bytes = len(wire)
        if content:
            record.keep_request(content)
            record.read_request()
            if ended:
                record.forget_request()
        self.begun = True
        self.request_ended = ended
        self._queue(self._head + wire)
        self._relay.journal.open(self)

    def _queue(self, first: bytes) -> None:
        """Have it wait for a connection."""
        self._pending = [first]
        self._pending_bytes = self._replay_bytes = len(first)
        self._replay = [first] if self._replay_bytes <= REPLAY_BYTES_MAX else None

    def recorded_open(self, recorded: bool) -> None:  # noqa: FBT001 - that is all it tells
        """The open record is in the spool or, as the spool is full, nowhere: forward, or refuse to."""
        relay = self._relay
        if not recorded and relay.journal.refuses:
            if self.client is not None:
                self.client.refuse(Refusal(503, _SPOOL_FULL))
            return
        self.opened, self.forwarded = recorded, True
        relay.tally.calls_in_flight += 1
        self._forward()

    def _forward(self) -> None:
        pool = self._relay.pools[self.record.route.destination]
        upstream = pool.take(self, once=not self.request_ended or self._replay is None)
        if upstream is not None:
            self.attached(upstream)

    def send(self, wire: bytes, content: bytes, *, ended: bool) -> None:
        """More of the request's body."""
        record = self.record
        self.request_ended = ended
        record.request_bytes += len(wire)
        if content:
            record.keep_request(content)
        if ended:
            record.read_request()
            record.forget_request()
        if self._replay is not None:
            self._replay_bytes += len(wire)
            self._replay.append(wire)
            if self._replay_bytes > REPLAY_BYTES_MAX:
                self._replay = None
        if self.upstream is None:
            self._hold(wire)
        else:
            self.upstream.write(wire)

    def _hold(self, wire: bytes) -> None:
        if self._pending is None:
            self._pending = []
        self._pending.append(wire)
        self._pending_bytes += len(wire)
        if self._pending_bytes > PENDING_BYTES_MAX and self.client is not None:
            self.client.pause()

    def attached(self, upstream: "UpstreamConnection") -> None:
        """There is a connection: send what has waited."""
        self.upstream = upstream
        upstream.call = self
        self.record.sent_at = monotonic()
        pending, self._pending, self._pending_bytes = self._pending, None, 0
        upstream.write(b"".join(pending or ()))
        if self.client is not None and not upstream.full:
            self.client.resume()

    # ── the answer ────────────────────────────────────────────────────────────────────────────────────

    def interim(self, head: ResponseHead) -> None:
        """A 1xx. HTTP/1.0 knows none. `BadResponse` if there is no end of them."""
        self._replay = None
        self._interims += 1
        if self._interims > INTERIMS_MAX:
            raise BadResponse(f"it begins with more than {INTERIMS_MAX} interim answers")
        if self.client is not None and not self.request.http10:
            self.client.send(head.plain)

    def refused(self, head: ResponseHead) -> bool:  # noqa: ARG002 - asked of a `ChangedExchange` only
        """Whether this final head is not for the client, since the call goes to the upstream once more."""
        return False

    def answer(self, head: ResponseHead, *, ends_with_connection: bool) -> bytes:
        """The final head came: what the client gets of it. Written together with the first of the body."""
        self._replay = None
        self.record.open_response(head)
        client = self.client
        if client is None:
            return b""
        http10 = self.request.http10
        unchunked = http10 and head.chunked
        # An answer before the request's end: its connection is not used again, on either side.
        if ends_with_connection or unchunked or not self.request_ended or self._relay.draining:
            client.keep_alive = False
        if not client.keep_alive:
            return head.write_client(b"Connection: close\r\n", unchunked=unchunked)
        return head.write_client(b"Connection: keep-alive\r\n") if http10 else head.plain

    def switch(self, head: ResponseHead) -> None:
        """101: from here on bytes are passed as they come, and a copy goes to the session's reader, if there is one."""
        self._replay = None
        self.switched = True
        if self.client is not None:
            self.client.send(head.write_switch())
        self.record.open_session(head, SoFar(self, self._relay.journal).told)
        if self.client is not None:
            self.client.tunnel()

    def send_on(self, data: bytes) -> None:
        """Bytes of the client in a tunnel."""
        self.record.request_bytes += len(data)
        if self.upstream is not None:
            self.upstream.write(data)
        if self.record.session is not None:
            self.record.session.feed_client(data)

    def pass_on(self, head: bytes, body: Body) -> None:
        """A read that doesn't end the answer: bytes first, tee second."""
        client = self.client
        if client is not None:
            wire = body.content if self.request.http10 else body.wire
            client.send(head + wire if head else wire)
        if body.wire:
            self.record.feed(len(body.wire), body.content)
        if self.drained_from is not None and self._drained_enough():
            self.client_gave_up()

    def complete(self, head: bytes, wire: bytes, content: bytes) -> None:
        """The read that ends the answer is held back until the final record is written."""
        if wire:
            self.record.feed_last(len(wire), content)
        if self.request.http10:
            wire = content
        self._conclude(Outcome.COMPLETED, head + wire if head else wire, KEEP)

    # ── other ends ────────────────────────────────────────────────────────────────────────────────────

    def client_left(self) -> None:
        """The client's connection is gone: stop the upstream, or read on to the usage, as the route says."""
        self.client = None
        if self.done:
            return
        if self.switched:
            if self.upstream:
                self.upstream.close(self._relay.limits.stall_seconds)
            self._conclude(Outcome.ABORTED if self._in_turn() else Outcome.COMPLETED, b"", CLOSE)
        elif self.request_ended and self.upstream is not None and self.record.drains:
            self.drained_from = self.record.response_bytes
            self._relay.drain(self)
            self.upstream.resume()
        else:
            self.client_gave_up()

    def client_gave_up(self) -> None:
        """End here, with what is known."""
        self.abandon()
        self._conclude(Outcome.ABORTED, b"", CLOSE)

    def _drained_enough(self) -> bool:
        return self.record.response_bytes - (self.drained_from or 0) > self._relay.limits.abort_drain_bytes

    def fail(self, status: int, sentence: str) -> None:
        """The upstream can't be had or broke off: a problem body if no answer was passed on yet, else a visible cut."""
        if self.done:
            return
        self.abandon()
        if self.record.status is not None:
            self._conclude(Outcome.FAILED, b"", RESET)
            return
        # Without a word about it a client of HTTP/1.0 waits for the end of the connection.
        keeps = self.client is not None and self.client.keep_alive and self.request_ended and not self.request.http10
        if self.client is not None:
            self.client.keep_alive = keeps
        last = problem(status, sentence, close=not keeps, head_only=self.request.head_only)
        self._conclude(Outcome.FAILED, last, KEEP if keeps else CLOSE)

    def upstream_lost(self, upstream: "UpstreamConnection", error: Exception | None) -> None:
        """The upstream closed (`error` None) or reset its connection."""
        self.upstream = None
        body = upstream.body
        if self.record.status is None:
            self._lost_before_answer(upstream)
        elif self.switched:
            self._conclude(Outcome.FAILED if self._in_turn() else Outcome.COMPLETED, b"", CLOSE)
        elif body is not None and body.ends_with_connection and error is None:
            self._conclude(Outcome.COMPLETED, b"", CLOSE)
        else:
            # To a client that got no chunks a mere end would look like the end of the answer.
            visible = error is None and not (self.request.http10 and (self.changed or isinstance(body, ChunkedBody)))
            self._conclude(Outcome.FAILED, b"", CLOSE if visible else RESET)

    def _in_turn(self) -> bool:
        """Whether a model is answering in the session."""
        return self.record.session is not None and self.record.session.in_turn

    def _lost_before_answer(self, upstream: "UpstreamConnection") -> None:
        """Nobody answered. A pooled connection may have been closed while our bytes were on their way: once, again.

        Only if all of it is still here, and nobody got a byte or its method may be repeated: a POST may run a model.
        """
        again = upstream.reused and not upstream.answered and not self._retried and self._replay is not None
        if again and (self.request.method in _IDEMPOTENT or upstream.spared):
            self._retried = True
            self._relay.tally.upstream_retries += 1
            self._pending = [*(self._replay or ())]
            self._relay.pools[self.record.route.destination].dial(self)
        else:
            self.fail(502, "The model's server closed the connection without an answer; try again.")

    def interrupt(self) -> None:
        """The sidecar stops before the call has ended."""
        self.abandon()
        self._conclude(Outcome.INTERRUPTED, b"", RESET)

    def abandon(self) -> None:
        """Let go of the upstream's connection, closed."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.call = None
            upstream.abort()

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────

    def _conclude(self, outcome: Outcome, last: bytes, ending: int) -> None:
        """Have the final record written; then the last bytes go: see `recorded_final`."""
        if self.done:
            return
        self.done = True
        self.upstream = None
        if not self.record.ended:
            self.record.ended = monotonic()
        self._last, self._ending = last, ending
        if not self.forwarded:
            self._relay.journal.forget(self)
            self._release()
            return
        drained = self.drained_from is not None and outcome is not Outcome.INTERRUPTED
        self.outcome = Outcome.ABORTED if drained else outcome
        self._relay.journal.end(self)

    def recorded_final(self, event: UsageEvent, recorded: bool, *, counts: bool = True) -> None:  # noqa: FBT001 - as above
        """What is known at its end is in the spool, or will be when the disk takes it: let the last bytes go.

        Not `counts`: its tokens are still to come, see `counted`.
        """
        self._relay.ended(self)
        if counts:
            self._event = event
        journal = self._relay.journal
        if recorded and journal.waits_for_disk:
            journal.when_on_disk(self._release)
        else:
            self._release()

    def _release(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            client.finish(self._last, self._ending)
        self._released = monotonic()
        if self._event is not None:
            self.counted(self._event)

    def counted(self, event: UsageEvent) -> None:
        """Its tokens are known, or can't be."""
        calls = self._relay.calls
        calls.count(self.record, event, self._released or monotonic())
        for part in self.record.parts:
            calls.count_part(self.record, part)

    def drop(self) -> None:
        """Something went wrong in us: end it on both sides as it stands."""
        if not self.done:
            self.interrupt()
        else:
            self._last, self._ending = b"", RESET
            self._release()
