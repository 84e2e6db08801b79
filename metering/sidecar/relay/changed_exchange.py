"""A call whose bytes don't all go on as they come: usage is asked for in its stead and hidden, or it is signed anew.

Its request is held until it is whole. If the upstream refuses what was added, and the client has no byte yet, the
request goes again as the client sent it: the same call, one row, one answer.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from metering.core.event import Outcome
from metering.sidecar.logline import log
from metering.sidecar.relay.admission import Admitted
from metering.sidecar.relay.ask_usage import ask
from metering.sidecar.relay.bodies import Body
from metering.sidecar.relay.exchange import KEEP, Exchange
from metering.sidecar.relay.hidden_event import HiddenEvent, without_length
from metering.sidecar.relay.problems import Refusal
from metering.sidecar.relay.request_head import with_length
from metering.sidecar.relay.response_head import ResponseHead

if TYPE_CHECKING:
    from metering.sidecar.relay.downstream import Downstream
    from metering.sidecar.relay.relay import Relay

_REFUSED = frozenset((400, 422))
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_UNSIGNED = "The sidecar has no AWS credentials to sign this request with; whoever runs it finds why in its log."
_Request = tuple[bytes, bytes]  # head and body


class ChangedExchange(Exchange):
    """Made instead of an `Exchange` where the route asks for usage or signs."""

    changed = True
    _continued = False
    _asking = False  # the request under way asks for what the client did not
    _again = False  # that was refused, and the client's own is under way
    _own: _Request | None = None  # the client's own, while it may have to go again
    _first = b""  # what goes upstream in place of what the client sent
    _hidden: HiddenEvent | None = None

    def __init__(self, relay: "Relay", client: "Downstream", admitted: Admitted) -> None:
        super().__init__(relay, client, admitted)
        self._asks, self._body_length = admitted.asks, admitted.body_length
        self._signer = relay.signers.get(admitted.route)
        self._bytes_max = relay.limits.sign_body_bytes if self._signer else relay.limits.ask_body_bytes
        self._wire, self._content = bytearray(), bytearray()

    # ── the request ───────────────────────────────────────────────────────────────────────────────────

    def begin(self, wire: bytes, content: bytes, *, ended: bool) -> None:
        """Hold what comes until all has."""
        if self._wire or not ended:
            chunked = self.request.chunked
            self._wire += wire
            self._content += content if chunked else b""
            self.record.request_bytes = len(self._wire)
            if not ended and not self._too_large(len(self._wire)):
                self._continue()
                return
            wire = bytes(self._wire)
            content = bytes(self._content) if chunked else wire
            self._wire, self._content = bytearray(), bytearray()
        if not self._too_large(len(wire)):
            self._change(wire, content)
        elif self._signer is None:
            super().begin(wire, content, ended=ended)
        elif self.client is not None:
            sentence = f"The request's body is larger than the {self._bytes_max} bytes that are held to sign it."
            self.client.refuse(Refusal(413, sentence))

    def _too_large(self, held: int) -> bool:
        return max(held, self._body_length) > self._bytes_max

    def _continue(self) -> None:
        """The upstream hears of the request only when it is whole, so the word to send it is ours."""
        if self.request.expects and not self._wire and not self._continued and self.client is not None:
            self._continued = True
            self.client.send(_CONTINUE)

    def _change(self, wire: bytes, content: bytes) -> None:
        """All of the request is here."""
        self.request_ended = True
        head, body, chunked = self._head, wire, self.request.chunked
        if chunked and self._signer is not None:
            head, body, chunked = with_length(head, len(content)), content, False
        asking = None
        if self._asks and not self._relay.refusals.holds(*self._place()):
            asking = ask(head, body, content, chunked=chunked)
        if asking is not None:
            self._relay.tally.usage_asked += 1
            self._asking, self._own = True, (head, body)
        self._sign(asking or (head, body), partial(super().begin, wire, content, ended=True))

    def _place(self) -> tuple[str, bytes]:
        """What remembers a refusal."""
        return self.record.route.destination.name, self._head.split(b" ", 2)[1].partition(b"?")[0]

    def _sign(self, request: _Request, then: Callable[[], None]) -> None:
        """Have the request signed, if the route signs; then it goes."""
        head, body = request
        if self._signer is None:
            self._first = head + body
            then()
            return
        signing = asyncio.get_running_loop().run_in_executor(self._signer.threads, self._signer.sign, head, body)
        signing.add_done_callback(partial(self._signed, body, then))

    def _signed(self, body: bytes, then: Callable[[], None], signing: "asyncio.Future[bytes]") -> None:
        if signing.cancelled() or self.done:
            return
        error = signing.exception()
        if error is None:
            self._first = signing.result() + body
            then()
            return
        if self._signer is not None and self._signer.may_complain():  # of its kind: its text may quote a credential
            log("signing_failed", route=self.record.route.name, error=type(error).__name__)
        self._relay.tally.refused_requests += not self.begun
        self.fail(503, _UNSIGNED)

    def _queue(self, first: bytes) -> None:
        super()._queue(self._first or first)
        self._first = b""

    def refused(self, head: ResponseHead) -> bool:
        """Whether this answer refuses what the client did not ask for; then its own request goes."""
        # After an interim answer the client has bytes of this one.
        if not self._asking or head.status not in _REFUSED or self._interims or self.client is None:
            return False
        self._relay.tally.usage_refused += 1
        self._asking, self._again = False, True
        self.record.sent_at = 0.0  # nothing that consumes anything is under way
        self.abandon()
        if self._own is not None:
            self._sign(self._own, self._go_again)
        return True

    def _go_again(self) -> None:
        self._queue(b"")
        self._forward()

    # ── the answer ────────────────────────────────────────────────────────────────────────────────────

    def answer(self, head: ResponseHead, *, ends_with_connection: bool) -> bytes:
        """As it came, unless an event may have to be taken out of it."""
        self._own = None
        if self._again and head.status < 400:  # it was what we added that was refused
            self._relay.refusals.add(*self._place())
        if self._signer is not None and head.status == 403:
            self._signer.renew()
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
