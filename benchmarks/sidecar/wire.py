"""What goes over the wire: the requests of the load, the answers of the emulated model.

How an answer is to be given stands in the prompt, the one place that every gateway passes on:
`emulate CHUNKS PACE_US PHASES;`. Each chunk of a stream says when it was sent and when it was due, as
`@SENT:DUE@` in its text, in ns of the clock that all programs of a machine share.
"""

import re
from collections.abc import Mapping

import msgspec

MODEL = "gpt-4o-mini"
USAGE = b'"usage":{"prompt_tokens":412,"completion_tokens":118,"total_tokens":530}'
KIND = b'"created":1700000000,"model":"gpt-4o-mini"'
JSON_END = USAGE + b"}"
STREAM_END = b"\r\n0\r\n\r\n"
MARK = b"@"
STAMP = re.compile(rb"@(\d+):(\d+)@")
DIRECTIVE = re.compile(rb"emulate (\d+) (\d+) (\d+);")


class Pace(msgspec.Struct, frozen=True):
    """How an answer is given: no chunks = one JSON document; `us` apart, 0 = as fast as they are taken.

    Streams of one pace are spread over it, in `phases` groups that get their chunks at the same moments (0 = evenly,
    each at its own).
    """

    chunks: int = 0
    us: int = 0
    phases: int = 0


def _json_answer() -> bytes:
    body = (
        b'{"id":"chatcmpl-1","object":"chat.completion",%s,"choices":[{"index":0,"message":{"role":"assistant",'
        b'"content":"%s"},"finish_reason":"stop"}],%s' % (KIND, b"word " * 150, JSON_END)
    )
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def _chunk(content: bytes) -> bytes:
    data = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk",%s,%s}\n\n' % (KIND, content)
    return b"%x\r\n%s\r\n" % (len(data), data)


JSON_ANSWER = _json_answer()
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_DELTA = b'"choices":[{"index":0,"delta":{"role":"assistant","content":"%s"},"finish_reason":%s}]'
_NOW = b"@%019d:%019d@"  # always as long, so that the framing is known beforehand
_BEFORE, _AFTER = _chunk(_DELTA % (_NOW % (0, 0), b"null")).split(_NOW % (0, 0))
_CHUNK = _BEFORE + _NOW + _AFTER
_DONE = b"data: [DONE]\n\n"
STREAM_LAST = (
    _chunk(_DELTA % (b"", b'"stop"'))
    + _chunk(b'"choices":[],' + USAGE)
    + b"%x\r\n%s\r\n0\r\n\r\n" % (len(_DONE), _DONE)
)


def stamped_chunk(sent_ns: int, due_ns: int) -> bytes:
    """A framed chunk of a stream."""
    return _CHUNK % (sent_ns, due_ns)


def read_pace(request: bytes) -> Pace:
    """What the prompt asks for."""
    found = DIRECTIVE.search(request)
    return Pace(*map(int, found.groups())) if found else Pace()


def request(path: str, model: str, headers: Mapping[str, str], pace: Pace, prompt_bytes: int) -> bytes:
    """A chat request as an SDK sends it."""
    prompt = f"emulate {pace.chunks} {pace.us} {pace.phases}; "
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt + "hello " * ((prompt_bytes - 120) // 6)}],
    }
    if pace.chunks:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    encoded = msgspec.json.encode(body)
    lines = {
        "Host": "127.0.0.1",
        "Accept": "application/json",
        "User-Agent": "OpenAI/Python 2.8.0",
        "Content-Type": "application/json",
        "Authorization": "Bearer sk-none",
        "x-stainless-retry-count": "0",
        **headers,
        "Content-Length": str(len(encoded)),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + encoded


def content_length(head: bytes) -> int | None:
    """What a head says of its body's length; None if it says nothing (a chunked body, or none)."""
    at = head.find(b"ength: ")  # of `Content-Length: ` in whatever case
    if at < 0:
        return None
    return int(head[at + 7 : head.find(b"\r", at)])
