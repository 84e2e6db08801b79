"""Where an answer's body ends. `feed` a read; then `wire` is what goes to the client and `content` what is counted."""

from typing import Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from metering.sidecar.relay.message_end import MessageEnd
from metering.sidecar.relay.response_head import BadResponse, ResponseHead


class Body(Protocol):
    """The framing of one answer."""

    wire: bytes  # of the last read: what belongs to this answer, as it came
    content: bytes  # the same without transfer framing
    surplus: bool  # the upstream sent more than its answer: it can't be trusted with another call
    ends_with_connection: bool

    def feed(self, data: bytes) -> bool:
        """Take a read; whether the answer is complete. `BadResponse` for broken framing."""


class LengthBody:
    """Content-Length, or no body at all (length 0)."""

    __slots__ = ("content", "left", "surplus", "wire")
    ends_with_connection = False

    def __init__(self, length: int) -> None:
        self.left = length
        self.surplus = False
        self.wire = self.content = b""

    def feed(self, data: bytes) -> bool:
        """Count."""
        left = self.left = self.left - len(data)
        if left < 0:
            data = data[:left]
            self.surplus = True
        self.wire = self.content = data
        return left <= 0


class ChunkedBody:
    """Transfer-Encoding: chunked. The bytes go on as they came; llhttp only says where the message ends.

    Measured: 0.2 µs a read for llhttp with a C callback, 0.6 for a scanner in Python. llhttp does not say where in
    a read the end was, so bytes after the end make the whole read unusable: `BadResponse`, and the client
    sees an answer cut short. No upstream that works sends any.
    """

    __slots__ = ("_end", "_parser", "content", "surplus", "wire")
    ends_with_connection = False

    def __init__(self, parser: HttpResponseParser, end: MessageEnd) -> None:
        self._parser, self._end = parser, end
        self.surplus = False
        self.wire = self.content = b""
        end.pieces.clear()

    def feed(self, data: bytes) -> bool:
        """Let llhttp look."""
        end = self._end
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            raise BadResponse(str(error)) from None
        self.wire = data
        pieces = end.pieces
        self.content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if end.begun > 1:
            raise BadResponse("bytes follow the end of a chunked answer")
        return end.complete


class OpenBody:
    """Neither length nor chunks: the answer ends when the connection does."""

    __slots__ = ("content", "surplus", "wire")
    ends_with_connection = True

    def __init__(self) -> None:
        self.surplus = False
        self.wire = self.content = b""

    def feed(self, data: bytes) -> bool:
        """Never the end."""
        self.wire = self.content = data
        return False


def open_body(head: ResponseHead, parser: HttpResponseParser, end: MessageEnd, *, to_head_request: bool) -> Body:
    """The framing that RFC 9112 section 6.3 gives this answer."""
    if to_head_request or head.status in (204, 304):
        return LengthBody(0)
    if head.chunked:
        return ChunkedBody(parser, end)
    if head.body_length is not None and not head.coded:
        return LengthBody(head.body_length)
    return OpenBody()
