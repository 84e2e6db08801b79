"""Answers as upstreams write them: any status, framing, encoding, header case and order, whole or cut anywhere."""

import gzip
import zlib
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Literal

import brotli  # type: ignore[import-untyped]  # ships no types
import zstandard

from tests.identity.asking import cut, frame_chunks
from tests.identity.exchange import Answer, End, Request
from tests.identity.payloads import Payload

REASONS = {
    200: "OK", 201: "Created", 202: "", 204: "No Content", 206: "Partial Content", 302: "Found", 304: "Not Modified",
    307: "Temporary Redirect", 400: "Bad Request", 401: "No: a \xe9 reason", 404: "Not Found", 413: "Too Large",
    422: "Unprocessable", 429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway",
    503: "Service Unavailable", 529: "Site is overloaded", 599: "",
}  # fmt: skip
ERRORS = tuple(status for status in REASONS if status >= 400)
ODD_HEADERS = (
    "Server: odd/1", "Date: Sun, 22 Nov 2026 10:00:00 GMT", "x-request-id: req_1", "X-UPPER: A", "x-two:1",
    "X-Two:  2 ", "Set-Cookie: a=b; Path=/", "Set-Cookie: c=d", "X-Empty:", "X-Latin: caf\xe9", "X-Tab: a\tb",
    "Vary: *",
    "x-ratelimit-remaining-tokens: 149984", "X-Long: " + "y" * 9000, "Cache-Control: no-cache", "Trailer: X-Checksum",
    "Retry-After: 1", "Keep-Alive: timeout=5", "Proxy-Connection: close", "WWW-Authenticate: Bearer",
    'Alt-Svc: h3=":1"', "openai-processing-ms: 12", "Content-Disposition: inline", 'ETag: "x"', "Location: /elsewhere",
)  # fmt: skip
INTERIMS = (
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Processing\r\nX-Step: 1\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nlink: </b>\r\n\r\n",
)  # fmt: skip
RESET_BYTES_MAX = 30_000
CODECS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body, mtime=0),
    "deflate": zlib.compress,
    "br": lambda body: bytes(brotli.compress(body, quality=1)),
    "zstd": lambda body: zstandard.ZstdCompressor().compress(body),
    "identity": bytes,
}


def write_answer(dice: Random, request: Request, payload: Payload | None, *, lasting: bool) -> Answer:
    """An answer to `request`. `lasting`: the connection outlives it."""
    status = _status(dice, request, payload)
    http10 = not lasting and dice.random() < 0.08
    lines = dice.sample(ODD_HEADERS, dice.randint(0, 7))
    content = _content(dice, payload, status)
    body = content
    if payload and status < 300:
        lines.append(f"{dice.choice(('Content-Type', 'content-type'))}: {payload.content_type}")
    if dice.random() < 0.3:
        encoding = dice.choice(tuple(CODECS))
        body = CODECS[encoding](content)
        lines.append(f"Content-Encoding: {encoding}")
    framing, wire = _frame(dice, request, status, body, lines, http10=http10, lasting=lasting)
    end: End = "keep" if lasting else _end(dice, framing, lines, http10=http10)
    dice.shuffle(lines)
    start = f"HTTP/1.{0 if http10 else 1} {status} {REASONS[status]}"
    head = "\r\n".join((start, *lines, "", "")).encode("latin-1")
    waits = request.waits_after is not None  # then for the answer's own head
    interims = b"".join(dice.choice(INTERIMS) for _ in range(0 if http10 or waits else dice.choice((0,) * 12 + (1, 2))))
    answer = Answer((interims + head, wire), framing, status, end)
    if not lasting and (not waits or request.stops) and dice.random() < 0.15:
        return _cut_short(dice, answer, request)
    return _order(dice, answer, request)


def _status(dice: Random, request: Request, payload: Payload | None) -> int:
    luck = dice.random()
    if luck < 0.75:
        return 200
    if luck < 0.9:
        return dice.choice(ERRORS)
    return dice.choice(tuple(status for status in REASONS if status < 400))


def _content(dice: Random, payload: Payload | None, status: int) -> bytes:
    if status >= 300 or payload is None:
        large = bytes(range(256)) * dice.choice((4, 400))
        return dice.choice((b"", b"{}", b'{"error":{"message":"no"}}' if status >= 400 else b"{}", b"<html>", large))
    return b"".join(payload.pieces)


def _frame(
    dice: Random, request: Request, status: int, body: bytes, lines: list[str], *, http10: bool, lasting: bool
) -> tuple[Literal["length", "chunked", "open", "none"], bytes]:
    """Adds what frames the body to `lines`; the framing and the body as it goes over the wire."""
    chunked = dice.choice(("chunked", "chunked", "Chunked"))
    if request.method == "HEAD" or status in (204, 304):
        if status != 204 and dice.random() < 0.7:
            lines.append(
                f"Content-Length: {len(body)}" if http10 or dice.random() < 0.7 else "Transfer-Encoding: chunked"
            )
        return "none", b""
    luck = dice.random()
    if luck < 0.45:
        zeros = "0" * dice.choice((0, 0, 0, 3))
        lines.append(f"{dice.choice(('Content-Length', 'content-length'))}: {zeros}{len(body)}")
        return "length", body
    if lasting or (luck < 0.9 and not http10):
        lines.append(f"{dice.choice(('Transfer-Encoding', 'transfer-encoding'))}: {chunked}")
        return "chunked", frame_chunks(dice, body, dice.choice(((), (), ("X-Checksum: 1", "x-Two:"))))
    return "open", body


def _end(dice: Random, framing: str, lines: list[str], *, http10: bool) -> End:
    """What the upstream does after its answer, and the Connection header that may say so."""
    said = dice.choice(("", "", "close", "keep-alive", "X-Hop, keep-alive"))
    if "X-Hop" in said:
        lines.append("X-Hop: for the next one only")
    if said:
        lines.append(f"{dice.choice(('Connection', 'connection'))}: {said}")
    if framing == "open" or said == "close" or (http10 and "keep-alive" not in said):
        return "eof"
    return "eof" if dice.random() < 0.1 else "keep"


def _cut_short(dice: Random, answer: Answer, request: Request) -> Answer:
    """Anything but the last byte may be missing. A client that waits gets the cut at once."""
    wire = b"".join(answer.pieces)
    end: End = dice.choice(("eof", "reset"))
    # A reset throws away what the other side's window had no room for: let it be less than any window.
    pieces = cut(dice, wire[: dice.randrange(min(len(wire), RESET_BYTES_MAX if end == "reset" else len(wire)))])
    waits = request.waits_after is not None
    return replace(
        answer, pieces=pieces, whole=False, end=end, early=len(pieces) if waits else None, reads_on=not waits
    )


def _order(dice: Random, answer: Answer, request: Request) -> Answer:
    """After the request's body, or in part or as a whole before it."""
    head, wire = answer.pieces
    if request.waits_after is None:
        return replace(answer, pieces=cut(dice, head + wire))
    if request.expects and not request.stops:
        return replace(answer, pieces=(INTERIMS[0], *cut(dice, head + wire)), early=1)
    first, rest = cut(dice, head), cut(dice, wire)
    pieces = (*first, *rest)
    if request.stops:
        return replace(answer, pieces=pieces, early=len(pieces), reads_on=False)
    # A connection that ends an answer and drops the rest of a request may end in a reset as well as in an end.
    if answer.framing != "open" and (not rest or dice.random() < 0.4):
        return replace(answer, pieces=pieces, early=len(pieces), reads_on=False)
    return replace(answer, pieces=pieces, early=dice.randint(len(first), len(pieces) - bool(rest)))
