"""Decide about a request before anything is forwarded: its route, whose it is, and where it goes."""

import re

from metering.core.dialects import Operation, ask_query, classify
from metering.core.event import Attribution
from metering.sidecar.config import KeyConfig, SidecarConfig
from metering.sidecar.keys import KeyRing, well_formed
from metering.sidecar.relay.attribution import add_trusted, read_label
from metering.sidecar.relay.problems import Refusal
from metering.sidecar.relay.recurring import AT_FIRST, Recurring
from metering.sidecar.relay.request_head import FIXED, RequestHead, RequestReader, read_trace_id
from metering.sidecar.relay.routes import Route, RouteTable

KEY_PREFIX = b"/k/"
OPERATIONS_MAX = 512
ASKED_DIALECTS = ("openai.chat", "openai.completions")
# Operations whose tokens are those of texts that can be seen.
ESTIMATED = frozenset(("chat", "text_completion", "generate_content", "embeddings"))
_DOT_SEGMENT = re.compile(rb"(?:/|%2f|%5c)(?:\.|%2e){1,2}(?:$|/|;|%2f|%5c|%3b)", re.IGNORECASE)


class Admitted:
    """What was decided about a head. Kept by the connection, for the next head is mostly the same: see `recurring`."""

    __slots__ = (
        "_values", "allowance", "asks", "attempt", "attribution", "body_length", "changes", "head", "keep_alive",
        "operation", "recurring", "route", "trace_id", "upstream_head",
    )  # fmt: skip

    def __init__(
        self, head: RequestHead, route: Route, operation: Operation, attribution: Attribution, upstream_head: bytes
    ) -> None:
        self.head = head
        self.route = route
        self.operation = operation
        self.attribution = attribution
        self.upstream_head = upstream_head
        self.attempt = head.attempt
        self.trace_id = head.trace_id
        self.keep_alive = head.keep_alive
        self.body_length = head.body_length
        self.asks = route.asks and _can_ask(head, operation)
        self.changes = self.asks or route.config.sign is not None
        counted = operation.consumes and operation.operation_name in ESTIMATED
        self.allowance = route.allowance if counted else None  # for the call's texts
        self.recurring: Recurring | None = None
        self._values: list[bytes] = []

    def expect_again(self, last: "Admitted | None", fixed: frozenset[bytes]) -> None:
        """Be found by `recur` when the head comes again; `last` is what the same client's last head was given."""
        head = self.head
        if head.chunked or head.upgrades:  # their meaning hangs on more than their bytes
            return
        if last is None:
            recurring: Recurring | None = Recurring(head.raw, self.upstream_head, AT_FIRST - fixed)
        elif last.recurring is None:
            return
        else:
            recurring = last.recurring.follow(head.raw, self.upstream_head, fixed)
        if recurring is not None:
            self.recurring, self._values = recurring, recurring.values

    def recur(self, data: bytes) -> int:
        """Where the head ends in `data` if it is this one again, whose new values are then taken; else 0."""
        recurring = self.recurring
        if recurring is None:
            return 0
        end = recurring.match(data)
        if end and recurring.values is not self._values:
            values = self._values = recurring.values
            self.upstream_head = recurring.rewritten
            if recurring.length_at >= 0:
                self.body_length = int(values[recurring.length_at])
            if recurring.trace_at >= 0:
                self.trace_id = read_trace_id(values[recurring.trace_at])
        return end


class Admission:
    """Routes, keys and what is known about paths."""

    def __init__(self, config: SidecarConfig) -> None:
        self.table = RouteTable(config.routes, config.keys)
        self._keys = KeyRing(config.keys)
        trusted = {header for route in self.table.routes for header in route.trusted}
        reader = RequestReader(trusted)
        self.read_head = reader.read
        self._fixed = FIXED | trusted
        # Clients use a handful of paths; asking `classify` once each saves 3 µs a call. Bounded: a path can hold an id.
        self._operations: dict[tuple[str, bytes, bytes], Operation] = {}

    def admit(self, raw: bytes, last: Admitted | None) -> Admitted:
        """Decide about a head; `last` is what the same client's last one was given. `Refusal` if not forwarded."""
        head = self.read_head(raw)
        path, mark, query = head.target.partition(b"?")
        secret = head.key
        if path.startswith(KEY_PREFIX):
            secret, path = _key_in_path(path, secret)
        owner = None if secret is None else self._find_key(secret)
        if b"/." in path or b"%" in path or b"\\" in path:
            _refuse_other_readings(path)
        route = self.table.match(path, host_name(head.host))
        if route is None:
            raise Refusal(404, "No route of this sidecar serves this path or host; check the base URL.")
        target = route.upstream_target(path, b"")
        operation = self._operations.get((route.config.provider, head.method, target))
        operation = operation or self._classify(route, head, target)
        if operation.model_parameter and query:
            operation = ask_query(operation, query.decode("latin-1"))
        upstream_head = head.write_upstream(target + mark + query, route.host_line, route.trusted)
        admitted = Admitted(head, route, operation, self._attribute(owner, route, head), upstream_head)
        admitted.expect_again(last, self._fixed)
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


def _can_ask(head: RequestHead, operation: Operation) -> bool:
    """Whether usage can be asked for in this call: its body is there to be read when it must go on."""
    interface = head.target.partition(b"?")[0].endswith(b"/completions") and operation.dialect in ASKED_DIALECTS
    return interface and not head.expects and b"\r\ncontent-encoding:" not in head.raw.lower()


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


def _refuse_other_readings(path: bytes) -> None:
    """`/openai/../x` could leave the upstream's base path. No SDK sends it.

    nginx decodes slashes before it resolves dots, Tomcat cuts a segment's parameters off, IIS turns backslashes.
    """
    if b"\\" in path:
        raise Refusal(400, "The path has a backslash, which some servers read as a slash; write %5C.")
    if _DOT_SEGMENT.search(path):
        raise Refusal(400, "The path has . or .. segments, which could leave the route; send it without them.")
