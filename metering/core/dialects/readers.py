"""Readers: bytes in, one `Reading` out."""

from collections.abc import Callable, Mapping

import msgspec

from metering.core.dialects.decoding import Decoding
from metering.core.dialects.event_stream import unwrap
from metering.core.dialects.found import Found, Meaning
from metering.core.dialects.framing import Framing, Stream, sniff
from metering.core.dialects.lines import Lines
from metering.core.dialects.quirks import TABLE
from metering.core.dialects.reading import NO_HEADERS, Operation, Reader, Reading, RequestFacts
from metering.core.dialects.scan import head_members, tail_members
from metering.core.dialects.sessions import Session, SessionMeaning, SessionNotes
from metering.core.dialects.table import DIALECTS
from metering.core.dialects.windows import BOM, Allowance, Kept, Windows
from metering.core.usage import UsageSource

MEANINGS: Mapping[str, Meaning] = {
    dialect.name: dialect.meaning for dialect in DIALECTS.values() if dialect.meaning is not None
}
_STREAMS = (Framing.SSE, Framing.NDJSON, Framing.ARRAY)
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_NO_TEXT = ("audio/", "image/", "video/")
SESSIONS: Mapping[str, SessionMeaning] = {
    dialect.name: dialect.session for dialect in DIALECTS.values() if dialect.session is not None
}


def open_reader(
    operation: Operation,
    *,
    status: int,
    content_type: str,
    content_encoding: str,
    provider: str = "",
    headers: Mapping[str, str] = NO_HEADERS,
    allowance: Allowance | None = None,
) -> Reader:
    """The reader of one answer. `provider` (the route's name for it) decides where a provider's totals lie.

    `headers`: those of the answer, by lower-case name, that the dialect's `Meaning.headers` asks for.

    `allowance`: what of a stream may be kept beyond its ends, so that its text can be counted (`Reader.kept`).

    A dialect that is not read, or a call that consumes nothing, gets a reader that keeps nothing.
    """
    meaning = MEANINGS.get(operation.dialect)
    if meaning is None or operation.consumes is False:
        return _BlindReader(operation, status)
    found = _begin(operation, provider, headers)
    return _AnswerReader(operation, meaning, status, content_type, content_encoding, found, allowance)


def _begin(operation: Operation, provider: str, headers: Mapping[str, str]) -> Found:
    found = Found(provider, headers)
    if operation.model:
        found.asked = operation.model
    if operation.item is not None:
        found.item = operation.item
    return found


def read_whole(
    operation: Operation,
    *,
    status: int,
    content_type: str,
    content_encoding: str,
    body: bytes,
    provider: str = "",
    headers: Mapping[str, str] = NO_HEADERS,
) -> Reading:
    """Read an answer that came in one piece: what its reader would say of it, for half the price."""
    meaning = MEANINGS.get(operation.dialect)
    if meaning is not None and content_type == "application/json" and not content_encoding and body.startswith(b"{"):
        found = _begin(operation, provider, headers)
        if operation.consumes is not False and meaning.read(body, found):
            return _conclude(operation, meaning, status, found, Framing.JSON, complete=True)
    reader = open_reader(
        operation,
        status=status,
        content_type=content_type,
        content_encoding=content_encoding,
        provider=provider,
        headers=headers,
    )
    reader.feed(body)
    return reader.finish()


def open_session(
    operation: Operation, *, extensions: str, told: Callable[[], None], provider: str = ""
) -> Session | None:
    """The reader of a WebSocket session; None if its dialect has none.

    `extensions`: the 101's `Sec-WebSocket-Extensions`. `told` is called each time a message told usage.
    """
    meaning = SESSIONS.get(operation.dialect)
    return None if meaning is None else Session(meaning, SessionNotes(provider), extensions, told)


class _BlindReader:
    """For answers that tell nothing, or nothing we can read yet."""

    def __init__(self, operation: Operation, status: int) -> None:
        self._operation = operation
        self._status = status

    def feed(self, chunk: bytes) -> None:
        """Keep nothing."""

    def finish(self) -> Reading:
        """What the status alone says."""
        refused = self._status >= 300
        source = UsageSource.NONE if refused or self._operation.consumes is False else UsageSource.UNKNOWN
        return Reading(usage_source=source, complete=True, failed=self._status >= 400)

    def kept(self) -> Kept | None:
        """Nothing."""
        return None


class _AnswerReader:
    """Keeps the ends of an answer; reads them once."""

    __slots__ = (
        "_content_type",
        "_decoding",
        "_found",
        "_lines",
        "_meaning",
        "_operation",
        "_status",
        "_windows",
        "feed",
    )

    def __init__(
        self,
        operation: Operation,
        meaning: Meaning,
        status: int,
        content_type: str,
        content_encoding: str,
        found: Found,
        allowance: Allowance | None,
    ) -> None:
        self._operation = operation
        self._meaning = meaning
        self._status = status
        self._content_type = content_type
        self._found = found
        self._windows = Windows(allowance)
        self._decoding: Decoding | None = None
        self._lines = Lines(meaning, found) if meaning.by_line else None
        self.feed = self._windows.feed if self._lines is None else self._lines.feed
        if not meaning.reads_body or content_type.startswith(_NO_TEXT):
            self.feed = _keep_nothing
        elif content_encoding and (encoding := content_encoding.strip().lower()) not in ("", "identity"):
            self._decoding = Decoding(encoding, self.feed)
            self.feed = self._decoding.feed

    def finish(self) -> Reading:
        """Read what was kept."""
        found, complete, framing = self._found, False, Framing.OTHER
        if self._decoding is not None:
            self._decoding.finish()
        if self.feed is _keep_nothing:
            complete, found.idle = True, self._operation.consumes is None
        elif self._lines is not None:
            readable = self._decoding is None or self._decoding.readable
            complete = found.final = self._lines.finish() and readable
        elif self._decoding is None or self._decoding.readable:
            kept = self._windows.kept()
            framing = sniff(kept.head, self._content_type)
            if framing is Framing.EVENT_STREAM:
                unwrapped = unwrap(kept)
                kept, framing = unwrapped.kept, unwrapped.framing
                found.partial, found.failed = unwrapped.corrupt, unwrapped.failed
            if framing is Framing.JSON:
                framing, complete = self._read_document(kept, found)
            if framing in _STREAMS:
                complete = self._read_stream(Stream(kept, framing), found)
        return _conclude(self._operation, self._meaning, self._status, found, framing, complete=complete)

    def kept(self) -> Kept | None:
        """All that was kept of the answer, decoded; None if it could not be."""
        return self._windows.whole() if self._decoding is None or self._decoding.readable else None

    def _read_document(self, kept: Kept, found: Found) -> tuple[Framing, bool]:
        """Read one JSON document; the framing turns out to be NDJSON if there are several."""
        meaning, head = self._meaning, kept.head.removeprefix(BOM)
        if not kept.dropped and (meaning.read(head, found) or _read_array(meaning, head, found)):
            return Framing.JSON, True
        if b"}\n{" in head or b"}\r\n{" in head:
            return Framing.NDJSON, False
        if is_array := head.lstrip().startswith(b"["):  # one that was cut: its members are those of the objects in it
            head = head.lstrip()[1:]
        meaning.read_members(head_members(head, meaning.members), found)
        if not kept.dropped:
            return Framing.ARRAY if is_array else Framing.JSON, False
        tail = kept.tail.rstrip().removesuffix(b"]").rstrip()
        found_at_end = tail_members(tail, meaning.members)
        meaning.read_members(found_at_end, found)
        return Framing.JSON, bool(found_at_end)

    def _read_stream(self, stream: Stream, found: Found) -> bool:
        meaning = self._meaning
        if stream.opening or stream.cut:
            meaning.read_names(stream, found)  # before a frame further on, which may name another id
            if not (found.model and found.response_id):
                for text in stream.opening_payloads():
                    if members := head_members(text, meaning.members, meaning.cut_depth):
                        meaning.read_members(members, found)
            if stream.cut and not any(b'"%s"' % name.encode() in stream.ending for name in meaning.telling):
                members = tail_members(stream.cut.rstrip(b" \r\n]"), meaning.members, meaning.cut_depth)
                if members.keys() & meaning.telling:
                    meaning.read_members(members, found)
                    stream.forget_head()
        return meaning.read_stream(stream, found)


def _keep_nothing(chunk: bytes) -> None:
    """For a body that tells nothing."""


def _conclude(
    operation: Operation, meaning: Meaning, status: int, found: Found, framing: Framing, *, complete: bool
) -> Reading:
    usage, cost = meaning.usage(found), found.reported_cost
    if cost is None and found.plain is None and found.raw_usage is not None:
        cost = TABLE.cost(found.raw_usage)
    if found.headers:
        usage, cost = TABLE.read_headers(found.headers, found.provider, usage, cost)
    polled = operation.consumes is None
    if usage is not None and not (polled and found.pending):
        final = (found.final or complete or framing is Framing.JSON) and not found.partial
        source = UsageSource.REPORTED if final else UsageSource.PARTIAL
        if found.from_headers:
            source = UsageSource.HEADER
    else:
        # A refused call, a load, or a poll of what still runs: nothing is consumed by it.
        none = status >= 300 or found.idle or (polled and found.pending)
        source = UsageSource.NONE if none else UsageSource.UNKNOWN
    return Reading(
        usage=usage,
        usage_source=source,
        raw_usage=found.raw_usage if usage is not None else None,
        response_model=found.model,
        response_id=found.response_id or operation.item,
        service_tier=found.service_tier,
        complete=complete,
        failed=found.failed or status >= 400,
        variant=found.variant,
        reported_cost=None if source is UsageSource.PARTIAL else cost,
        repeats=polled and usage is not None and not found.pending and found.background is not True and not found.once,
        once=usage is not None and (found.once or found.background is True),
        others=found.others,
    )


def fill_in(reading: Reading, facts: RequestFacts) -> Reading:
    """`reading` with what the request itself decides: characters to be spoken, the size of the images it asked for.

    The answer's word goes first. Where it told no usage, the request's counts are ours, and the reading says so.
    """
    if reading.failed or reading.usage_source is UsageSource.NONE:
        return reading
    variant = reading.variant or facts.variant
    if facts.counts is None:
        return msgspec.structs.replace(reading, variant=variant)
    if reading.usage is None:
        estimated = UsageSource.ESTIMATED
        return msgspec.structs.replace(
            reading, usage=facts.counts, usage_source=estimated, estimator="request", variant=variant
        )
    told = msgspec.structs.asdict(reading.usage)
    missing = {name: asked for name, asked in msgspec.structs.asdict(facts.counts).items() if told[name] is None}
    return msgspec.structs.replace(reading, usage=msgspec.structs.replace(reading.usage, **missing), variant=variant)


def _read_array(meaning: Meaning, text: bytes, found: Found) -> bool:
    """Some servers wrap an answer or an error in a list; some send the objects of a stream as one."""
    if not text.lstrip().startswith(b"["):
        return False
    try:
        items = _decode_items(text)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return False
    for item in items:
        meaning.read(bytes(item), found)
    return True
