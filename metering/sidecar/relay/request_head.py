"""Read a request's head once, strictly, and write the one that goes upstream.

llhttp in strict mode accepts or refuses the bytes; what it accepts has CRLF line ends and no folded lines, so one
regular expression over a lower-cased copy finds the few headers that matter. Measured: 1.5 µs for a 14-header
request where an `on_header` callback a header costs 4, and the others keep case and order because they are
never taken apart.
"""

import re
from collections.abc import Collection, Iterable

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from metering.sidecar.relay.message_end import MessageEnd
from metering.sidecar.relay.problems import Refusal
from metering.sidecar.relay.recurring import LENGTH_DIGITS_MAX

BLANK_LINE = b"\r\n\r\n"
_HOST = re.compile(rb"([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{0,5})?")
_TRACE_ID = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")
_AWS_ATTEMPT = re.compile(rb"\r\namz-sdk-request: attempt=([1-9][0-9]{0,3})[;\r]")  # counted from 1
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*", re.IGNORECASE)
# Never forwarded: they speak about this connection, or to us.
_DROPPED = (rb"connection", rb"keep-alive", rb"proxy-[a-z-]+", rb"te", rb"upgrade", rb"x-metering-[^:]*")
_READ = (rb"host", rb"content-length", rb"transfer-encoding", rb"expect", rb"traceparent", rb"x-stainless-retry-count")
# Two heads that differ in one of these may mean different things; not so in a Content-Length or a traceparent.
FIXED = frozenset(
    (b"host", b"transfer-encoding", b"expect", b"x-stainless-retry-count", b"amz-sdk-request", b"connection",
     b"keep-alive", b"te", b"upgrade", b"proxy-connection", b"x-metering-key")
)  # fmt: skip
_KEPT = frozenset(_READ[1:])
# A Connection header may name further headers to drop, but not those that frame or address the message.
_NOT_DROPPABLE = frozenset((*_READ, b"close", b"keep-alive", b"upgrade", b"te", b""))


class RequestHead:
    """What a head says. Names are lower-case, values as they came."""

    method: bytes
    target: bytes
    http10: bool
    body_length = 0
    head_only = chunked = expects = websocket = False
    hostless = False  # HTTP/1.0 without a Host header, whatever its target says
    upgrades = False  # llhttp saw both Upgrade and Connection: upgrade
    connection = host = te = retry_count = traceparent = b""
    key: bytes | None = None
    nominated: Collection[bytes] = ()  # headers that Connection names: not forwarded

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.start_end = raw.find(b"\r\n")
        self.lines: list[tuple[int, int, bytes]] = []  # start, end and name of each header of interest
        self.found: dict[bytes, bytes] = {}  # name → value, of the headers that routes trust

    @property
    def keep_alive(self) -> bool:
        """Whether the client wants the connection to stay."""
        if not self.connection:
            return not self.http10
        tokens = {token.strip() for token in self.connection.lower().split(b",")}
        return b"keep-alive" in tokens if self.http10 else b"close" not in tokens

    @property
    def attempt(self) -> int:
        """The SDK's own retry count; 0 for the first try and for nonsense."""
        if not self.retry_count and (attempt := _AWS_ATTEMPT.search(self.raw)):
            return int(attempt[1]) - 1
        return int(self.retry_count) if self.retry_count.isdigit() and len(self.retry_count) < 5 else 0

    @property
    def trace_id(self) -> str | None:
        """The trace id of a W3C `traceparent`."""
        return read_trace_id(self.traceparent) if self.traceparent else None

    def write_upstream(self, target: bytes, host_line: bytes, trusted: Iterable[bytes]) -> bytes:
        """The head for the upstream: its target and Host, without what is ours, the rest untouched."""
        raw, at = self.raw, self.start_end
        parts = [self.method, b" ", target, b" HTTP/1.1"]
        if self.hostless:
            parts.append(host_line)
        for start, end, name in self.lines:
            if name in _KEPT and not (name == b"expect" and self.http10):
                continue
            if name in self.found and name not in trusted:
                continue  # trusted by another route: to this one it is a header like any other
            parts.append(raw[at:start])
            at = end
            if name == b"host":
                parts.append(host_line)
        parts.append(raw[at:-4])
        if b"trailers" in self.te:
            parts.append(b"\r\nTE: trailers")
        if self.websocket:
            parts.append(b"\r\nConnection: Upgrade\r\nUpgrade: websocket")
        parts.append(BLANK_LINE)
        head = b"".join(parts)
        return _without(head, self.nominated) if self.nominated else head


class RequestReader:
    """Reads heads; knows the names of the headers that some route trusts."""

    def __init__(self, trusted: Iterable[bytes] = ()) -> None:
        self.trusted = frozenset(trusted)
        names = (*_READ, *_DROPPED, *(re.escape(name) for name in sorted(self.trusted)))
        # The look-ahead at the first letter halves the time: most headers begin with another one.
        initials = re.escape(bytes(sorted({name[0] for name in names})))
        self._headers = re.compile(rb"\r\n(?=[%s])(%s):[ \t]*([^\r]*)" % (initials, b"|".join(names))).finditer

    def read(self, raw: bytes) -> RequestHead:
        """Read one head, from its first letter to its blank line. `Refusal` if it isn't beyond doubt."""
        head = RequestHead(raw)
        parser = HttpRequestParser(MessageEnd())
        try:
            parser.feed_data(raw)
        except HttpParserUpgrade:
            head.upgrades = True
        except HttpParserError as error:
            raise Refusal(400, f"The request is not valid HTTP/1.1: {error}.") from None
        self._read_start(head, parser.get_method())
        self._read_headers(head)
        _check(head)
        return head

    def _read_start(self, head: RequestHead, method: bytes) -> None:
        words = head.raw[: head.start_end].split(b" ")
        if len(words) != 3 or words[0] != method:
            raise Refusal(400, "The request line is not one method, one target and one version.")
        head.method, head.target, version = words
        head.head_only = head.method == b"HEAD"
        head.http10 = version == b"HTTP/1.0"
        if not head.http10 and version != b"HTTP/1.1":
            raise Refusal(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")

    def _read_headers(self, head: RequestHead) -> None:
        raw = head.raw
        for match in self._headers(raw.lower(), head.start_end):
            name: bytes = match[1]
            start, end = match.span(2)
            value = raw[start:end].rstrip(b" \t")
            head.lines.append((match.start(), end, name))
            if name == b"host":
                if head.host:
                    raise Refusal(400, "The request has more than one Host header.")
                head.host = value or b" "
            elif name == b"content-length":
                if len(value) > LENGTH_DIGITS_MAX:
                    raise Refusal(400, "The Content-Length is larger than any body can be.")
                head.body_length = int(value)
            elif name == b"connection":
                head.connection = head.connection + b"," + value if head.connection else value
            elif name == b"x-stainless-retry-count":
                head.retry_count = value
            elif name == b"traceparent":
                head.traceparent = value
            else:
                self._read_rare(head, name, value)

    def _read_rare(self, head: RequestHead, name: bytes, value: bytes) -> None:
        if name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise Refusal(400, "The only transfer encoding understood here is chunked.")
            head.chunked = True
        elif name == b"x-metering-key":
            if head.key is not None and head.key != value:
                raise Refusal(400, "The request carries two different metering keys; send one.")
            head.key = value
        elif name == b"expect":
            if value.lower() != b"100-continue" and not head.http10:
                raise Refusal(417, "The only expectation understood here is 100-continue.")
            head.expects = not head.http10
        elif name == b"te":
            head.te += value.lower()
        elif name == b"upgrade":
            head.websocket = value.lower() == b"websocket"
        elif name in self.trusted and name not in head.found:
            head.found[name] = value


def _check(head: RequestHead) -> None:
    """What llhttp leaves to its user."""
    if head.method == b"CONNECT":
        raise Refusal(405, "CONNECT is not served: destinations come from the configuration only.")
    if not head.host:
        if not head.http10:
            raise Refusal(400, "The request has no Host header.")
        head.hostless = True
    elif not _HOST.fullmatch(head.host.lower()):
        raise Refusal(400, "The Host header is not a host name or address.")
    if head.chunked and head.http10:
        raise Refusal(400, "HTTP/1.0 has no chunked bodies.")
    if not head.target.startswith(b"/"):
        _read_absolute(head)
    if b"#" in head.target:
        raise Refusal(400, "The request target has a fragment, which some servers cut off; write %23.")
    # Only WebSocket is tunnelled: behind an h2c tunnel calls would pass unmetered. Others stay plain HTTP, as
    # RFC 9110 section 7.8 allows.
    head.websocket = head.websocket and head.upgrades
    if head.websocket and (head.body_length or head.chunked or head.method != b"GET"):
        raise Refusal(400, "A WebSocket upgrade is a GET without a body.")
    if head.connection:
        tokens = {token.strip() for token in head.connection.lower().split(b",")}
        head.nominated = tokens - _NOT_DROPPABLE


def _read_absolute(head: RequestHead) -> None:
    """`http://host/path`: the host inside wins over the header (RFC 9112 section 3.2.2)."""
    scheme, separator, rest = head.target.partition(b"://")
    host, slash, path = rest.partition(b"/")
    if scheme.lower() not in (b"http", b"https") or not separator or not _HOST.fullmatch(host.lower()):
        raise Refusal(400, "The request target is neither a path nor an http URL.")
    head.host, head.target = host, slash + path or b"/"


def _without(head: bytes, names: Collection[bytes]) -> bytes:
    lines = head[:-4].split(b"\r\n")
    kept = [line for line in lines[1:] if line.partition(b":")[0].lower() not in names]
    return b"\r\n".join((lines[0], *kept)) + BLANK_LINE


def with_length(head: bytes, length: int) -> bytes:
    """The head of a chunked request, for its content in one piece."""
    return _CHUNKED.sub(b"\r\nContent-Length: %d" % length, head)


def read_trace_id(traceparent: bytes) -> str | None:
    """The trace id, 32 hexadecimal digits, of a W3C `traceparent`; None of anything else."""
    match = _TRACE_ID.fullmatch(traceparent.decode("latin-1").lower())
    return match[1] if match else None


def check_partial(data: bytes, bytes_max: int) -> None:
    """Refuse early what can't become a head any more. `Refusal`."""
    if len(data) > bytes_max:
        raise Refusal(431, f"The request's head is larger than {bytes_max} bytes.")
    # Asked at each read of a slow head, so the last line only: a pattern over all took 4 ms for 60 KB, this 4 µs.
    last = data.rfind(b"\n")
    if last >= 0 and not data.endswith(b"\r", 0, last):
        raise Refusal(400, "A line of the request's head ends without a carriage return.")
