"""Headers about the connection: what they name, expect, upgrade; and bodies behind requests that seem to have none."""

from tests.sidecar.hostile.case import Case, bare, fetched, forwarded, get, post, refused
from tests.sidecar.hostile.lengths import CHUNKS, TE

_CL = b"Content-Length: 2"
_WEBSOCKET = (b"Connection: Upgrade", b"Upgrade: websocket")

_NAMED = {
    "Content-Length": b"content-length",
    "Content-Length in capitals": b"CONTENT-LENGTH",
    "Host": b"host",
    "Expect": b"expect",
    "Content-Type": b"content-type",
    "close": b"keep-alive, content-length",
    "commas": b",,content-length,,",
    "quoted": b'"content-length"',
    "a list": b"x-a, content-length, x-b",
    "tabs": b"\tcontent-length\t",
    "two words": b"content-length host",
    "itself": b"connection",
    "our key": b"x-metering-key",
    "nothing": b"",
    "a token of ours": b"x-metering-team",
    "a trusted header": b"x-team",
    "TE": b"te",
}

CASES: tuple[Case, ...] = (
    *(
        forwarded(
            f"connection names: {name}",
            post(b"Connection: " + value, _CL, body=b"ab"),
            "what frames the message stays",
            body=b"ab",
        )
        for name, value in _NAMED.items()
    ),
    forwarded(
        "connection names: Transfer-Encoding",
        post(b"Connection: transfer-encoding", TE, body=CHUNKS),
        "what frames the message stays",
        body=b"hello",
    ),
    forwarded(
        "connection names: two lines",
        post(b"Connection: x-a", b"Connection: content-length", _CL, body=b"ab"),
        "lines add up",
        body=b"ab",
    ),
    forwarded(
        "connection names: a header that comes twice",
        post(b"Connection: x-a", b"X-A: 1", b"x-a: 2", _CL, body=b"ab"),
        "both are dropped",
        body=b"ab",
    ),
    forwarded(
        "connection: close", post(b"Connection: close", _CL, body=b"ab"), "the last one", body=b"ab", closes=True
    ),
    forwarded(
        "connection: close in capitals", post(b"Connection: CLOSE", _CL, body=b"ab"), "no case", body=b"ab", closes=True
    ),
    forwarded(
        "connection: both",
        post(b"Connection: keep-alive, close", _CL, body=b"ab"),
        "close wins",
        body=b"ab",
        closes=True,
    ),
    forwarded(
        "connection: Proxy-Connection", post(b"Proxy-Connection: close", _CL, body=b"ab"), "not a word here", body=b"ab"
    ),
    forwarded(
        "connection: Keep-Alive", post(b"Keep-Alive: max=0", _CL, body=b"ab"), "not for the upstream", body=b"ab"
    ),
    refused("expect: magic", post(b"Expect: magic", _CL, body=b"ab"), "unknown", 417),
    refused("expect: nothing", post(b"Expect:", _CL, body=b"ab"), "unknown", 417),
    refused("expect: a list", post(b"Expect: 100-continue, x", _CL, body=b"ab"), "unknown", 417),
    refused("expect: 200-ok", post(b"Expect: 200-ok", _CL, body=b"ab"), "unknown", 417),
    refused("expect: a parameter", post(b"Expect: 100-continue;x=y", _CL, body=b"ab"), "unknown", 417),
    refused("expect: the second of two", post(b"Expect: 100-continue", b"Expect: x", _CL, body=b"ab"), "unknown", 417),
    forwarded("expect: odd case", post(b"Expect: 100-Continue", _CL, body=b"ab"), "no case", body=b"ab"),
    forwarded(
        "expect: with the body at once", post(b"Expect: 100-continue", _CL, body=b"ab"), "it did not wait", body=b"ab"
    ),
    forwarded("expect: chunked", post(b"Expect: 100-continue", TE, body=CHUNKS), "it did not wait", body=b"hello"),
    forwarded(
        "expect: twice", post(b"Expect: 100-continue", b"Expect: 100-continue", _CL, body=b"ab"), "the same", body=b"ab"
    ),
    fetched("expect: without a body", get(b"Expect: 100-continue"), "nothing to wait for"),
    fetched(
        "expect: in HTTP/1.0",
        bare(b"Host: a", b"Expect: 100-continue", start=b"GET /openai/x HTTP/1.0"),
        "ignored",
        closes=True,
    ),
    refused("upgrade: websocket with a body", get(*_WEBSOCKET, b"Content-Length: 1") + b"a", "a GET without a body"),
    refused("upgrade: websocket, chunked", get(*_WEBSOCKET, TE) + CHUNKS, "a GET without a body"),
    refused("upgrade: websocket by POST", post(*_WEBSOCKET), "a GET without a body"),
    fetched("upgrade: websocket unlisted", get(b"Upgrade: websocket"), "Connection does not name it"),
    fetched(
        "upgrade: h2c",
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"),
        "stays plain HTTP",
    ),
    fetched("upgrade: unknown", get(b"Connection: Upgrade", b"Upgrade: cow/1"), "stays plain HTTP"),
    fetched("upgrade: two protocols", get(b"Connection: Upgrade", b"Upgrade: websocket, h2c"), "stays plain HTTP"),
    forwarded(
        "upgrade: h2c with a body",
        post(b"Connection: Upgrade", b"Upgrade: h2c", _CL, body=b"ab"),
        "stays plain HTTP, its body a body",
        body=b"ab",
    ),
    forwarded(
        "upgrade: h2c, chunked",
        post(b"Connection: Upgrade", b"Upgrade: h2c", TE, body=CHUNKS),
        "stays plain HTTP, its body a body",
        body=b"hello",
    ),
    forwarded(
        "upgrade: h2c with a zero length",
        post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 0"),
        "stays plain HTTP",
    ),
    forwarded("te: trailers", post(b"TE: trailers", _CL, body=b"ab"), "passed on", body=b"ab"),
    forwarded(
        "te: trailers and chunked", post(b"TE: trailers, chunked;q=0.5", _CL, body=b"ab"), "trailers only", body=b"ab"
    ),
    forwarded("te: gzip", post(b"TE: gzip", _CL, body=b"ab"), "not passed on", body=b"ab"),
    forwarded("trailer announced", post(b"Trailer: X", TE, body=b"0\r\nX: y\r\n\r\n"), "as it came"),
    refused("two keys", get(b"X-Metering-Key: a", b"X-Metering-Key: b"), "whose is it"),
    refused("a key that is none", get(b"X-Metering-Key: a"), "not a key", 401),
    refused("an empty key", get(b"X-Metering-Key:"), "not a key", 401),
)
