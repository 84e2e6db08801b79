"""Read an answer's head once and write the one the client gets: same lines, same case, same order, less hop-by-hop."""

import re
from collections.abc import Collection, Sequence

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from metering.sidecar.relay.message_end import MessageEnd
from metering.sidecar.relay.recurring import AT_FIRST, LENGTH_DIGITS_MAX, Recurring

_STREAMED_TYPES = (
    *(b"text/event-stream", b"application/x-ndjson", b"application/stream+json"),
    b"application/vnd.amazon.eventstream",
)
_HEADERS = re.compile(
    rb"\r\n(?=[cktup])"
    rb"(content-length|content-type|content-encoding|connection|keep-alive|transfer-encoding|upgrade|proxy-connection)"
    rb":[ \t]*([^\r]*)"
)
# llhttp lets control bytes stand in the reason.
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [0-9]{3}(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
_NOT_DROPPABLE = frozenset(
    (b"content-length", b"content-type", b"content-encoding", b"transfer-encoding", b"close", b"keep-alive", b"")
)

# What it may be sent in. Other words, or `chunked` twice, are read as chunked by some clients and not by others.
_CODINGS = frozenset(
    (b"chunked", b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"identity")
)  # fmt: skip
_FIXED = frozenset(
    (b"content-type", b"content-encoding", b"transfer-encoding", b"connection", b"keep-alive", b"upgrade",
     b"proxy-connection")
)  # fmt: skip


class BadResponse(Exception):
    """The upstream's head is not HTTP that can be passed on without doubt."""


class ResponseHead:
    """What an answer's head says."""

    # Defaults live in the class: most answers have few of these headers.
    body_length: int | None = None
    recurring: Recurring | None = None
    keep_alive = True  # whether the upstream leaves the connection open afterwards
    chunked = coded = streamed = False
    connection = b""
    content_type = content_encoding = ""
    dropped: Sequence[tuple[int, int, bytes]] = ()

    def __init__(self, raw: bytes, status: int) -> None:
        self.raw = raw
        self.plain = raw  # what a client gets of it that has not to be told about its connection
        self.status = status
        self.http10 = raw.startswith(b"HTTP/1.0")

    def recur(self, data: bytes) -> int:
        """Where the head ends in `data` if it is this one again, whose length is then taken; else 0."""
        recurring = self.recurring
        if recurring is None:
            return 0
        end = recurring.match(data)
        if end and recurring.length_at >= 0:
            self.body_length = int(recurring.values[recurring.length_at])
            self.plain = recurring.rewritten
        return end

    def values(self, names: Collection[str]) -> dict[str, str]:
        """The headers called `names` (in lower case) of the answer that came last; they differ from one to the next."""
        lines = (line.partition(b":") for line in self.plain.split(b"\r\n"))
        told = ((name.decode("latin-1").lower(), value.strip().decode("latin-1")) for name, _, value in lines)
        return {name: value for name, value in told if name in names}

    def write_client(self, connection: bytes, *, unchunked: bool = False) -> bytes:
        """The head for the client, with `connection`, a whole header line, at its end.

        `unchunked` leaves Transfer-Encoding out, for a client of HTTP/1.0.
        """
        head = self.drop_hops(unchunked=True) if unchunked else self.plain
        return head[:-2] + connection + b"\r\n"

    def drop_hops(self, *, unchunked: bool = False) -> bytes:
        """The head of an HTTP/1.1 answer without what was said to us."""
        raw = self.raw
        parts, at = [b"HTTP/1.1"], 8
        for start, end, name in self.dropped:
            if name == b"transfer-encoding" and not unchunked:
                continue
            parts.append(raw[at:start])
            at = end
        parts.append(raw[at:])
        return self._without_nominated(b"".join(parts))

    def write_switch(self) -> bytes:
        """The 101 as it came: its Connection and Upgrade headers are the message."""
        return self.raw

    def _without_nominated(self, head: bytes) -> bytes:
        """Drop the headers that the upstream's Connection header names: they were meant for us."""
        names = {token.strip() for token in self.connection.split(b",")} - _NOT_DROPPABLE
        if not names:
            return head
        lines = head[:-4].split(b"\r\n")
        kept = [line for line in lines[1:] if line.partition(b":")[0].lower() not in names]
        return b"\r\n".join((lines[0], *kept, b"", b""))


def read_response(raw: bytes, end: MessageEnd) -> tuple[ResponseHead, HttpResponseParser]:
    """Read one head up to its blank line; the parser is ready for a chunked body. `BadResponse`."""
    end.complete = False
    end.begun = 0
    parser = HttpResponseParser(end)
    try:
        parser.feed_data(raw)
    except HttpParserUpgrade:
        pass  # a 101: what follows is opaque
    except HttpParserError as error:
        raise BadResponse(str(error)) from None
    head = ResponseHead(raw, parser.get_status_code())
    if not _STATUS_LINE.match(raw):
        raise BadResponse("it is neither HTTP/1.1 nor HTTP/1.0")
    hops = False
    for name, value in _HEADERS.findall(raw.lower(), 12):
        if name == b"content-length":
            if len(value) > LENGTH_DIGITS_MAX:
                raise BadResponse("its Content-Length is larger than any body can be")
            head.body_length = int(value)
        elif name == b"content-type":
            head.content_type = value.decode("latin-1")
            head.streamed = value.startswith(_STREAMED_TYPES)  # in lower case already
        elif name == b"content-encoding":
            head.content_encoding = value.decode("latin-1")
        else:
            hops = True
    if hops or head.http10:
        _read_hops(head)
    return head, parser


def expect_again(head: ResponseHead, last: ResponseHead | None) -> ResponseHead | None:
    """What to look for when the next answer comes, after `last` was looked for and `head` came."""
    if head.body_length is None or head.coded or head.status in (204, 304):
        return last  # most often a stream, whose body needs the parser that reads its head
    if last is None or last.recurring is None:
        head.recurring = Recurring(head.raw, head.plain, AT_FIRST)
    else:
        head.recurring = last.recurring.follow(head.raw, head.plain, _FIXED)
    return last if head.recurring is None else head


def _read_hops(head: ResponseHead) -> None:
    """The headers that speak about the upstream's connection, and where they stand."""
    dropped, codings = [], []
    for match in _HEADERS.finditer(head.raw.lower(), 12):
        name, value = match[1], match[2].rstrip(b" \t")
        if name == b"connection":
            head.connection = head.connection + b"," + value if head.connection else value
        elif name == b"transfer-encoding":
            codings += [coding.strip(b" \t") for coding in value.split(b",")]
        if not name.startswith(b"content-"):
            dropped.append((*match.span(), name))
    if codings:
        if head.http10 or not _CODINGS.issuperset(codings) or b"chunked" in codings[:-1]:
            raise BadResponse("its transfer encoding is not one that HTTP knows")
        head.chunked = codings[-1] == b"chunked"
        head.coded = not head.chunked
    head.dropped = dropped
    head.plain = head.drop_hops()
    if head.http10:
        head.keep_alive = b"keep-alive" in head.connection
    else:
        head.keep_alive = b"close" not in head.connection
