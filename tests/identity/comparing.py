"""What must come of an exchange behind the sidecar, worked out from what came of it without. Pure.

Written after RFC 9110 and 9112, not after the sidecar: the two must agree, so they must not share code.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from metering.core.event import Outcome, UsageEvent
from metering.core.usage import UsageSource
from tests.identity.asking import PREFIX
from tests.identity.exchange import Exchange
from tests.identity.playing import Heard, Received, Reply, framed

HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"upgrade"))
NOT_FORWARDED = HOP_BY_HOP | {b"te", b"proxy-authorization", b"x-metering-note", b"host"}
IDEMPOTENT = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS"))


@dataclass(frozen=True)
class Observed:
    """One exchange without and with the sidecar."""

    exchange: Exchange
    direct: Reply
    relayed: Heard
    received: Sequence[Received]  # by the upstream behind the sidecar
    rows: Sequence[UsageEvent]


def compare(observed: Observed) -> list[str]:
    """What differs that may not, one sentence each."""
    return [*_compare_replies(observed), *_compare_requests(observed), *_compare_rows(observed)]


def closes(exchange: Exchange, direct: Reply) -> bool:
    """Whether the client's connection ends after this exchange."""
    request = exchange.request
    if direct.head and direct.end != "whole":
        return True
    # What the upstream answers before the request has ended leaves a rest nobody wants.
    early = exchange.answer.early is not None and not (request.expects and exchange.answer.reads_on)
    if early or not request.keeps:
        return True
    if not direct.head:
        return request.version == "1.0"  # a refusal of the sidecar's own says nothing that HTTP/1.0 could stay for
    return _is_open(exchange, direct) or _loses_chunks(exchange, direct)


def _is_open(exchange: Exchange, direct: Reply) -> bool:
    return exchange.answer.framing != "none" and not framed(direct.head)


def _loses_chunks(exchange: Exchange, direct: Reply) -> bool:
    """HTTP/1.0 knows no chunks: such a client gets the content, and the end of the connection for its end."""
    return exchange.request.version == "1.0" and b"transfer-encoding" in _names(direct.head)


def _compare_replies(observed: Observed) -> Iterator[str]:
    exchange, direct, relayed = observed.exchange, observed.direct, observed.relayed.reply
    old = exchange.request.version == "1.0"
    interims = () if old else tuple(_head(head) for head in direct.interims)
    if tuple(_head(head) for head in relayed.interims) != interims:
        yield f"interim answers {relayed.interims!r} instead of {direct.interims!r}"
    closing = closes(exchange, direct)
    if not direct.head:
        yield from _compare_502(relayed)
        end = "whole"
    else:
        unchunked = _loses_chunks(exchange, direct)
        expected = _head(direct.head, frozenset((b"transfer-encoding",)) if unchunked else frozenset())
        if _head(relayed.head) != expected:
            yield f"head {relayed.head!r} instead of {direct.head!r}"
        body = unchunk(direct.body) if unchunked else direct.body
        if relayed.body != body:
            yield f"body {_difference(relayed.body, body)}"
        end = "reset" if unchunked and direct.end == "eof" else direct.end
    if relayed.end != end:
        yield f"the answer ends with {relayed.end} instead of {end}"
    told = [
        line.partition(b":")[2].strip()
        for line in relayed.head.split(b"\r\n")
        if line.lower().startswith(b"connection:")
    ]
    late = exchange.request.half_closes and not told  # its end came after the answer's head had gone
    if relayed.end == "whole" and not late and told != ([b"close"] if closing else [b"keep-alive"] if old else []):
        yield f"Connection: {told!r} although it {'closes' if closing else 'stays'}"
    if relayed.end == "whole" and closing and observed.relayed.after != (b"", "eof"):
        yield f"after the answer came {observed.relayed.after!r}"


def _compare_502(relayed: Reply) -> Iterator[str]:
    """There is no answer to pass on: the sidecar says so."""
    if not relayed.head.startswith(b"HTTP/1.1 502 ") or b"application/problem+json" not in relayed.head:
        yield f"no 502 for an answer that never came: {relayed.head!r}"


def _head(head: bytes, dropped: frozenset[bytes] = frozenset()) -> list[bytes]:
    """The lines that every client must get: without what was said about one connection."""
    start, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    without = HOP_BY_HOP | dropped | _nominated(lines)
    return [b"HTTP/1.1" + start[8:], *(line for line in lines if _name(line) not in without)]


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()


def _names(head: bytes) -> set[bytes]:
    return {_name(line) for line in head.split(b"\r\n")[1:]}


def _nominated(lines: Sequence[bytes]) -> set[bytes]:
    said = b",".join(line.partition(b":")[2] for line in lines if _name(line) == b"connection")
    return {token.strip().lower() for token in said.split(b",")}


def unchunk(body: bytes) -> bytes:
    """The content of a chunked body, also of one that is cut."""
    content, at = b"", 0
    while (end := body.find(b"\r\n", at)) >= 0 and (size := int(body[at:end].partition(b";")[0], 16)):
        content += body[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
    return content


def _difference(found: bytes, expected: bytes) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), min(len(found), len(expected))
    )
    return (
        f"of {len(found)} bytes instead of {len(expected)}, from byte {at}: {found[at:][:40]!r}, {expected[at:][:40]!r}"
    )


def _compare_requests(observed: Observed) -> Iterator[str]:
    request, received = observed.exchange.request, observed.received
    again = request.method in IDEMPOTENT  # may be sent once more when a kept connection closes
    if len(received) != 1 and not (again and len(received) == 2):
        yield f"the upstream got {len(received)} requests"
    early = observed.exchange.answer.early is not None
    for one in received:
        if one.body != request.body and not (early and request.body.startswith(one.body)):
            yield f"the upstream got a body {_difference(one.body, request.body)}"
        start, *lines = one.head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        if (found := [start, *(line for line in lines if _name(line) not in (b"host", b"te"))]) != _forwarded(
            request.raw
        ):
            yield f"the upstream got the head {found!r} instead of {_forwarded(request.raw)!r}"
        asked_te = [b"trailers"] if b"te: trailers" in request.raw[: request.head_bytes].lower() else []
        if [line.partition(b":")[2].strip() for line in lines if _name(line) == b"te"] != asked_te:
            yield "TE is not what the client said"
        if len([line for line in lines if line.startswith(b"Host: localhost:")]) != 1:
            yield f"the upstream is not named once in {one.head!r}"


def _forwarded(raw: bytes) -> list[bytes]:
    """The head's lines as the upstream must get them, but for Host and TE."""
    start, *lines = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")
    method, target, version = start.split(b" ")
    path = target[target.index(PREFIX.encode()) + len(PREFIX) :]
    without = NOT_FORWARDED | _nominated(lines) | ({b"expect"} if version == b"HTTP/1.0" else set())
    origin = path if path.startswith(b"/") else b"/" + path
    return [b"%s %s HTTP/1.1" % (method, origin), *(line for line in lines if _name(line) not in without)]


def _compare_rows(observed: Observed) -> Iterator[str]:
    exchange, direct, rows = observed.exchange, observed.direct, observed.rows
    if len(rows) != 1:
        yield f"{len(rows)} rows"
        return
    row = rows[0]
    ended = bool(direct.head) and direct.end == "whole"
    outcomes = {Outcome.FAILED} if exchange.failed or not ended else {Outcome.COMPLETED}
    if ended and not exchange.answer.whole:  # an open body was cut: nobody can tell that it is not whole
        outcomes = {Outcome.COMPLETED, *outcomes}
    if row.outcome not in outcomes:
        yield f"outcome {row.outcome}"
    if row.status != (exchange.answer.status if direct.head else None):
        yield f"status {row.status}"
    if direct.head and row.response_bytes != len(direct.body):
        yield f"{row.response_bytes} response bytes instead of {len(direct.body)}"
    early = exchange.answer.early is not None
    if row.request_bytes != len(exchange.request.body) and not early:
        yield f"{row.request_bytes} request bytes instead of {len(exchange.request.body)}"
    if row.dialect != exchange.dialect or (row.request_model != exchange.model and not early):
        yield f"{row.dialect} {row.request_model}"
    yield from _compare_usage(row, exchange, whole=ended and exchange.answer.whole)


def _compare_usage(row: UsageEvent, exchange: Exchange, *, whole: bool) -> Iterator[str]:
    told = row.usage and (row.usage.input_tokens, row.usage.output_tokens or 0)
    if whole and exchange.tokens:
        if (row.usage_source, told) != (UsageSource.REPORTED, exchange.tokens):
            yield f"usage {row.usage_source} {told} instead of {exchange.tokens}"
    elif row.usage_source is UsageSource.REPORTED and told != exchange.tokens:
        yield f"usage {told} although the answer told {exchange.tokens}"
