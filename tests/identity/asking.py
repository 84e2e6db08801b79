"""Requests as clients write them: any method, framing, header order and case, cut into any pieces."""

from dataclasses import replace
from random import Random

from tests.identity.exchange import Request
from tests.identity.payloads import Payload

PREFIX = "/openai"
QUERIES = ("", "", "?a=%2F&b=c%20d", "?", "?q=a?b&c=/d//e", "?x=%00%ff", "?k=" + "v" * 900)
ODD_HEADERS = (
    "X-Case: Kept", "x-lower:1", "X-Empty:", "X-Spaces:   a  b \t", "x-twice: 1", "X-Twice: 2", "Accept: */*",
    "X-Latin: caf\xe9", "Authorization: Bearer sk-client", "x-api-key: sk-2", "Cookie: a=b; c=d", "Cookie: e=f",
    'User-Agent: generated/1.0 (odd; "quoted")', "X-Long: " + "z" * 4000, "Forwarded: for=1.2.3.4", "Via: 1.1 b",
    "X-Symbols!#$%&'*+.^_`|~: 1", "accept-encoding: gzip, br", "Content-Language: de", "Idempotency-Key: 7",
    "TE: trailers", "TE: gzip", "Keep-Alive: timeout=5", "Proxy-Authorization: Basic no", "Proxy-Connection: close",
    "X-Metering-Note: ours", "Upgrade: h2c",
)  # fmt: skip
PLAIN_CALLS = (
    ("GET", "/v1/models"), ("GET", "/v1/files/a%2Fb"), ("DELETE", "/v1/files/1"), ("OPTIONS", "/v1/chat/completions"),
    ("HEAD", "/v1/models"), ("PUT", "/v1/thing"), ("PATCH", "/v1//thing;v=1"), ("POST", "/v1/audio"), ("GET", ""),
)  # fmt: skip


def cut(dice: Random, data: bytes) -> tuple[bytes, ...]:
    """`data` in pieces: mostly one, sometimes a few, sometimes many."""
    places_max = min(dice.choice((0, 0, 1, 3, 20)), len(data) - 1)
    places = sorted(dice.sample(range(1, len(data)), places_max)) if places_max > 0 else []
    return tuple(data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b)


def frame_chunks(dice: Random, body: bytes, trailers: tuple[str, ...] = ()) -> bytes:
    """`body` as chunks of odd sizes with odd size lines."""
    framed = b"".join(_size_line(dice, len(part)) + part + b"\r\n" for part in cut(dice, body))
    last = dice.choice((b"0", b"0", b"000")) + _extension(dice) + b"\r\n"
    return framed + last + "".join(f"{line}\r\n" for line in trailers).encode("latin-1") + b"\r\n"


def _size_line(dice: Random, size: int) -> bytes:
    return dice.choice((b"%x", b"%X", b"%06x")) % size + _extension(dice) + b"\r\n"


def _extension(dice: Random) -> bytes:
    return dice.choice((b"", b"", b"", b";a", b";a=b", b';a=b;c="d e"'))


def write_request(
    dice: Random, trace_id: str, payload: Payload | None, call: tuple[str, str], *, lasting: bool
) -> Request:
    """A request with everything about its form left to the dice. `lasting`: its connection outlives it."""
    method, path = call
    version = "1.0" if not lasting and dice.random() < 0.12 else "1.1"
    body = payload.request if payload else dice.choice((b"", b"x", bytes(range(256)) * dice.choice((1, 40))))
    if method in ("GET", "HEAD", "DELETE", "OPTIONS") and dice.random() < 0.9:
        body = b""
    lines = dice.sample(ODD_HEADERS, dice.randint(0, 8))
    connection = _connection(dice, lines, lasting=lasting)
    chunked = version == "1.1" and body and dice.random() < 0.3
    if chunked:
        body = frame_chunks(dice, body, dice.choice(((), (), ("X-Checksum: 1", "x-empty:"))))
        lines.append(f"Transfer-Encoding: {dice.choice(('chunked', 'chunked', 'Chunked'))}")
    elif body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"{dice.choice(('Content-Length', 'content-length'))}: {len(body)}")
    expects = bool(body) and version == "1.1" and dice.random() < 0.1
    if expects:
        lines.append(dice.choice(("Expect: 100-continue", "expect: 100-Continue")))
    lines.append(f"{dice.choice(('traceparent', 'Traceparent'))}: 00-{trace_id}-00f067aa0ba902b7-01")
    dice.shuffle(lines)
    host = dice.choice(("sidecar", "SideCar:8787", "127.0.0.1:80", "[::1]:9"))
    lines.insert(dice.randint(0, len(lines)), f"{dice.choice(('Host', 'host', 'HOST'))}: {host}")
    target = PREFIX + path + dice.choice(QUERIES)
    if dice.random() < 0.05:
        target = f"http://{host}{target}"
    head = "\r\n".join((f"{method} {target} HTTP/{version}", *lines, "", "")).encode("latin-1")
    keeps = connection != "close" if version == "1.1" else connection == "keep-alive"
    return Request(method, cut(dice, head + body), len(head), version, keeps, expects)


def let_wait(dice: Random, request: Request) -> Request:
    """The same request from a client that waits for an answer before it sends (the rest of) its body, if it has one."""
    raw, head_bytes = request.raw, request.head_bytes
    if len(raw) == head_bytes:
        return request
    place = head_bytes if request.expects else dice.randrange(head_bytes, len(raw))
    before = cut(dice, raw[:place])
    pieces = (*before, *cut(dice, raw[place:]))
    return replace(request, pieces=pieces, waits_after=len(before), stops=request.expects or dice.random() < 0.5)


def _connection(dice: Random, lines: list[str], *, lasting: bool) -> str:
    """Adds a Connection header, or none; says which of `close`, `keep-alive` and nothing it holds."""
    said = dice.choice(("", "", "keep-alive", "keep-alive" if lasting else "close"))
    tokens = [said] if said else []
    if dice.random() < 0.1:
        tokens.append("X-Private")
        lines.append("X-Private: for you alone")
    if "Upgrade: h2c" in lines:
        tokens.append("Upgrade")
    if tokens:
        lines.append(f"{dice.choice(('Connection', 'connection'))}: {', '.join(tokens)}")
    return said
