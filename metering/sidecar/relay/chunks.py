"""Where a chunked request body ends, to the byte, so that what a client sends after it is its next request.

httptools can say *that* a message ended but not *where*. So this scanner finds the end, llhttp is fed exactly
the bytes up to it, and a request on which the two disagree is refused: framing that two strict parsers read
alike is framing an upstream can't be smuggled with. Requests with chunked bodies are rare; answers go
through llhttp alone.
"""

import re
from collections.abc import Collection

from httptools import HttpParserError, HttpRequestParser

from metering.sidecar.relay.message_end import MessageEnd

LINE_LENGTH_MAX = 4096
TRAILER_BYTES_MAX = 16 * 1024
_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_TRAILER_LINE = re.compile(rb"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[^\x00-\x08\x0a-\x1f\x7f]*")
# What frames, routes, modifies or authenticates a request (RFC 9110 section 6.5.1), or speaks to us: llhttp heeds a
# Connection in a trailer, other servers merge them all into the headers.
_NOT_IN_TRAILERS = re.compile(
    rb"content-(?:length|encoding|type|range)|transfer-encoding|host|connection|keep-alive|te|trailer|upgrade|expect"
    rb"|authorization|cookie|max-forwards|proxy-.*|x-metering-.*"
)


class BadChunk(Exception):
    """The body's framing is broken."""


class ChunkScanner:
    """Feed it body bytes; it finds content and end."""

    def __init__(self, trusted: Collection[bytes] = ()) -> None:
        """`trusted`: names (lower-case) of headers that are not to come as trailers."""
        self._trusted = trusted
        self.content: list[bytes] = []  # of the last feed
        self.ended = False
        self._line = b""  # an unfinished size or trailer line
        self._left = 0  # content bytes of the current chunk still to come
        self._expects_crlf = self._in_trailers = False
        self._trailer_bytes = 0

    def feed(self, data: bytes) -> int:
        """How many bytes of `data` belong to this body: all of them, unless it ended. `BadChunk`."""
        self.content = []
        at = 0
        while at < len(data) and not self.ended:
            if self._left:
                piece = data[at : at + self._left]
                self.content.append(piece)
                self._left -= len(piece)
                at += len(piece)
            else:
                at = self._read_line(data, at)
        return at

    def _read_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        line = self._line + data[at : len(data) if end < 0 else end + 1]
        if len(line) > LINE_LENGTH_MAX:
            raise BadChunk("a chunk's size line or a trailer is too long")
        if end < 0:
            self._line = line
            return len(data)
        self._line = b""
        if not line.endswith(b"\r\n"):
            raise BadChunk("a line of the chunked body ends without a carriage return")
        self._take_line(line[:-2])
        return end + 1

    def _take_line(self, line: bytes) -> None:
        if self._expects_crlf:
            if line:
                raise BadChunk("a chunk is longer than its size says")
            self._expects_crlf = False
        elif self._in_trailers:
            self._take_trailer(line)
        else:
            match = _SIZE_LINE.fullmatch(line)
            if not match:
                raise BadChunk("a chunk's size is not a hexadecimal number")
            self._left = int(match[1], 16)
            self._in_trailers = not self._left
            self._expects_crlf = bool(self._left)

    def _take_trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        if not line:
            self.ended = True
            return
        match = _TRAILER_LINE.fullmatch(line)
        if not match or self._trailer_bytes > TRAILER_BYTES_MAX:
            raise BadChunk("a trailer is not a valid header or the trailers are too long")
        name = match[1].lower()
        if name in self._trusted or _NOT_IN_TRAILERS.fullmatch(name):
            raise BadChunk("a trailer has a name that only a header may have")


class ChunkedRequest:
    """A chunked request body, read by two parsers that must agree."""

    def __init__(self, trusted: Collection[bytes]) -> None:
        self._scanner = ChunkScanner(trusted)
        # Not the parser that read the head: httptools takes an Upgrade, which goes on as plain HTTP, for the end.
        self._end = MessageEnd()
        self._parser = HttpRequestParser(self._end)
        self._parser.feed_data(_HEAD)

    def feed(self, data: bytes) -> tuple[int, bytes]:
        """Like `ChunkScanner.feed`, with the content of this part of the body."""
        used = self._scanner.feed(data)
        try:
            self._parser.feed_data(data[:used])
        except HttpParserError as error:
            raise BadChunk(str(error)) from None
        if self._scanner.ended != self._end.complete:
            raise BadChunk("the end of the chunked body is ambiguous")
        self._end.pieces.clear()
        return used, b"".join(self._scanner.content)

    @property
    def ended(self) -> bool:
        """Whether the last feed held the body's end."""
        return self._scanner.ended
