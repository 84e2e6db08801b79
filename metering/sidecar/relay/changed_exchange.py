"""A call whose bytes don't all go on as they come: usage is asked for in its stead, the event that tells it hidden.

The request is held until it is whole, or too large to be. If the upstream refuses what was added, and the client has
no byte yet, the request goes again as the client sent it: the same call, one row, one answer.
"""

from typing import TYPE_CHECKING

from metering.core.event import Outcome
from metering.sidecar.relay.admission import Admitted
from metering.sidecar.relay.ask_usage import ask
from metering.sidecar.relay.bodies import Body
from metering.sidecar.relay.exchange import KEEP, Exchange
from metering.sidecar.relay.hidden_event import HiddenEvent, without_length
from metering.sidecar.relay.response_head import ResponseHead

if TYPE_CHECKING:
    from metering.sidecar.relay.downstream import Downstream
    from metering.sidecar.relay.relay import Relay

_REFUSED = frozenset((400, 422))


class ChangedExchange(Exchange):
    """Made instead of an `Exchange` where the route asks for usage."""

    changed = True
    _asking = b""  # the request that asks, while it is under way
    _as_sent = b""  # the request as the client sent it, while it may have to go again
    _again = False  # and it did
    _hidden: HiddenEvent | None = None

    def __init__(self, relay: "Relay", client: "Downstream", admitted: Admitted) -> None:
        super().__init__(relay, client, admitted)
        self._body_length = admitted.body_length
        self._wire, self._content = bytearray(), bytearray()

    # ── the request ───────────────────────────────────────────────────────────────────────────────────

    def begin(self, wire: bytes, content: bytes, *, ended: bool) -> None:
        """Hold what comes until all has."""
        bytes_max = self._relay.limits.ask_body_bytes
        if self._wire or not ended:
            chunked = self.request.chunked
            self._wire += wire
            self._content += content if chunked else b""
            self.record.request_bytes = len(self._wire)
            if not ended and max(self._body_length, len(self._wire)) <= bytes_max:
                return
            wire = bytes(self._wire)
            content = bytes(self._content) if chunked else wire
            self._wire, self._content = bytearray(), bytearray()
        if ended and len(wire) <= bytes_max:
            self._ask(wire, content)
        super().begin(wire, content, ended=ended)

    def _ask(self, wire: bytes, content: bytes) -> None:
        if self._relay.refusals.holds(*self._place()):
            return
        asking = ask(self._head, wire, content, chunked=self.request.chunked)
        if asking:
            self._relay.tally.usage_asked += 1
            self._asking, self._as_sent = asking, self._head + wire

    def _place(self) -> tuple[str, bytes]:
        """What remembers a refusal."""
        return self.record.route.destination.name, self._head.split(b" ", 2)[1].partition(b"?")[0]

    def _queue(self, first: bytes) -> None:
        super()._queue(self._asking or first)

    def refused(self, head: ResponseHead) -> bool:
        """Whether this answer refuses what the client did not ask for; then its own request goes."""
        # An answer that came before the request had gone, or after an interim one, is the client's.
        if not self._asking or head.status not in _REFUSED or self._interims or self.client is None:
            return False
        self._relay.tally.usage_refused += 1
        self._asking, self._again = b"", True
        self.abandon()
        self._queue(self._as_sent)
        self._forward()
        return True

    # ── the answer ────────────────────────────────────────────────────────────────────────────────────

    def answer(self, head: ResponseHead, *, ends_with_connection: bool) -> bytes:
        """As it came, unless an event may have to be taken out of it."""
        self._as_sent = b""
        if self._again and head.status < 400:  # it was what we added that it refused
            self._relay.refusals.add(*self._place())
        if not self._asking or not _may_tell_usage(head):
            return super().answer(head, ends_with_connection=ends_with_connection)
        plain = self.request.http10 or ends_with_connection
        self._hidden = HiddenEvent(chunked=not plain)
        written = super().answer(head, ends_with_connection=plain)
        return written if head.chunked else without_length(written, chunked=not plain)

    def pass_on(self, head: bytes, body: Body) -> None:
        """A read that doesn't end the answer: bytes first, tee second."""
        hidden = self._hidden
        if hidden is None:
            super().pass_on(head, body)
            return
        if self.client is not None:
            self.client.send(head + hidden.feed(body.wire, body.content))  # perhaps nothing
        if body.wire:
            self.record.feed(len(body.wire), body.content)
        if self.drained_from is not None and self._drained_enough():
            self.client_gave_up()

    def complete(self, head: bytes, wire: bytes, content: bytes) -> None:
        """The read that ends the answer."""
        if self._hidden is None:
            super().complete(head, wire, content)
            return
        if wire:
            self.record.feed_last(len(wire), content)
        self._conclude(Outcome.COMPLETED, head + self._hidden.finish(wire, content), KEEP)

    def _conclude(self, outcome: Outcome, last: bytes, ending: int) -> None:
        if self._hidden is not None and not self.done:
            last = self._hidden.flush() + last
        super()._conclude(outcome, last, ending)


def _may_tell_usage(head: ResponseHead) -> bool:
    """Whether an answer can be a stream of events, in the clear."""
    if not 200 <= head.status < 300 or head.content_encoding not in ("", "identity"):
        return False
    return head.body_length is None or head.streamed
