"""Decide about a request before anything is forwarded: its route, whose it is, and where it goes."""

from metering.core.dialects import Operation, classify
from metering.core.event import Attribution
from metering.sidecar.config import KeyConfig, SidecarConfig
from metering.sidecar.keys import KeyRing, well_formed
from metering.sidecar.relay.attribution import add_trusted, read_label
from metering.sidecar.relay.problems import Refusal
from metering.sidecar.relay.request_head import RequestHead, RequestReader
from metering.sidecar.relay.routes import Route, RouteTable

KEY_PREFIX = b"/k/"
OPERATIONS_MAX = 512


class Admitted:
    """What was decided about a head. Kept by the connection: a client's next head mostly differs in its length only.

    Reading and deciding take a third of a call's time in Python, comparing takes a microsecond, so a head that
    equals the last one but for the digits of its Content-Length is not read again. Digits are all that may differ,
    so nothing that llhttp or the checks would refuse gets by.
    """

    def __init__(self, head: RequestHead, route: Route, operation: Operation, attribution: Attribution) -> None:
        self.head = head
        self.route = route
        self.operation = operation
        self.attribution = attribution
        self.attempt = head.attempt
        self.trace_id = head.trace_id
        self.keep_alive = head.keep_alive
        self.method_is_head = head.method == b"HEAD"
        self.key = b""
        self.upstream_head = b""
        self._before = self._after = b""

    def remember(self, key: bytes, upstream_head: bytes) -> None:
        """Be found again for heads that are `key` once their length is taken out."""
        self.key = key
        self.upstream_head = upstream_head
        start, end = find_length(upstream_head)
        self._before, self._after = upstream_head[:start], upstream_head[end:]

    def renew(self, raw: bytes, digits: bytes) -> None:
        """The same head again, with another length (or, without digits, none)."""
        self.head.raw = raw
        if digits:
            self.head.body_length = int(digits)
            self.upstream_head = self._before + digits + self._after


def find_length(raw: bytes) -> tuple[int, int]:
    """Where the digits of the Content-Length are, in the two usual spellings; (0, 0) if they are nowhere or odd."""
    start = raw.find(b"\r\nContent-Length: ")
    if start < 0:
        start = raw.find(b"\r\ncontent-length: ")
        if start < 0:
            return 0, 0
    start += 18
    end = raw.find(b"\r", start)
    return (start, end) if end - start < 16 and raw[start:end].isdigit() else (0, 0)


class Admission:
    """Routes, keys and what is known about paths."""

    def __init__(self, config: SidecarConfig) -> None:
        self.table = RouteTable(config.routes, config.keys)
        self._keys = KeyRing(config.keys)
        trusted = {header for route in self.table.routes for header in route.trusted}
        self.read_head = RequestReader(trusted).read
        # Clients use a handful of paths; asking `classify` once each saves 3 µs a call. Bounded: a path can hold an id.
        self._operations: dict[tuple[str, bytes, bytes], Operation] = {}

    def admit(self, raw: bytes, last: Admitted | None) -> Admitted:
        """Decide about a head; `last` is what the same connection's last head was given. `Refusal` if not forwarded."""
        if last is not None and last.head.raw == raw and last.key:
            return last
        start, end = find_length(raw)
        key = raw[:start] + raw[end:] if start else raw
        if last is not None and last.key == key:
            last.renew(raw, raw[start:end])
            return last
        head = self.read_head(raw)
        path, mark, query = head.target.partition(b"?")
        secret = head.key
        if path.startswith(KEY_PREFIX):
            secret, path = _key_in_path(path, secret)
        owner = None if secret is None else self._find_key(secret)
        if b"/." in path or b"%2" in path:
            _refuse_dot_segments(path)
        route = self.table.match(path, host_name(head.host))
        if route is None:
            raise Refusal(404, "No route of this sidecar serves this path or host; check the base URL.")
        target = route.upstream_target(path, b"")
        operation = self._operations.get((route.config.provider, head.method, target))
        operation = operation or self._classify(route, head, target)
        admitted = Admitted(head, route, operation, self._attribute(owner, route, head))
        admitted.remember(key, head.write_upstream(target + mark + query, route.host_line, route.trusted))
        if head.chunked:
            admitted.key = b""  # its parser goes on with the body: not to be used again
        return admitted

    def _classify(self, route: Route, head: RequestHead, target: bytes) -> Operation:
        provider = route.config.provider
        operation = classify(head.method.decode(), target.decode("latin-1"), provider)
        if len(self._operations) < OPERATIONS_MAX and len(target) < OPERATIONS_MAX:
            self._operations[provider, head.method, target] = operation
        return operation

    def _find_key(self, secret: bytes) -> KeyConfig:
        if not well_formed(secret):
            raise Refusal(401, "The metering key is malformed; copy the whole key again, from mk_ to its end.")
        key = self._keys.find(secret)
        if key is None:
            raise Refusal(401, "The metering key is not known here; ask whoever runs this sidecar for a valid one.")
        return key

    def _attribute(self, key: KeyConfig | None, route: Route, head: RequestHead) -> Attribution:
        known = route.attributions[key.id if key else None]
        if not head.found or not route.trusted:
            return known
        said = {
            label: text
            for header, label in route.trusted.items()
            if header in head.found and (text := read_label(head.found[header]))
        }
        return add_trusted(known, said)


def host_name(host: bytes) -> bytes:
    """A Host header's name: lower-case, without port and brackets."""
    if b":" in host and not host.endswith(b"]"):
        host = host.rpartition(b":")[0]
    return host.lower().strip(b"[]")


def _key_in_path(path: bytes, header_secret: bytes | None) -> tuple[bytes, bytes]:
    """Take `/k/<secret>` off the path, for SDKs that know nothing but a base URL."""
    secret, slash, rest = path[len(KEY_PREFIX) :].partition(b"/")
    if header_secret is not None and header_secret != secret:
        raise Refusal(400, "The request carries two different metering keys; send one.")
    return secret, slash + rest or b"/"


def _refuse_dot_segments(path: bytes) -> None:
    """`/openai/../x` could leave the upstream's base path. No SDK sends it."""
    for segment in path.split(b"/"):
        if segment.lower().replace(b"%2e", b".") in (b".", b".."):
            raise Refusal(400, "The path has . or .. segments, which could leave the route; send it without them.")
