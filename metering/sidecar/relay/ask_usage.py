"""Ask for the usage that a client did not ask for: bytes of a request in, bytes of a request out.

Of `stream: true` OpenAI's interfaces tell the usage only if `stream_options.include_usage` says so. One member is
added to the body and all other bytes stay as they are. What the client chose itself is never changed.
"""

import re
from typing import Any

import msgspec

_MEMBER = b'"stream_options":{"include_usage":true},'
_OPTIONS = re.compile(rb'"stream_options"[ \t\r\n]*:[ \t\r\n]*\{')
# With usage asked for, vLLM heeds this one too, and tells it in every chunk: the client would see other chunks.
_CONTINUOUS = "continuous_usage_stats"
_LENGTH = re.compile(rb"(\r\ncontent-length:[ \t]*)[0-9]+", re.IGNORECASE)
_ACCEPTED = re.compile(rb"(\r\naccept-encoding:[ \t]*)[^\r]*", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class _Body(msgspec.Struct):
    stream: Any = None
    stream_options: Any = msgspec.UNSET


_decode = msgspec.json.Decoder(_Body).decode


def ask_in_body(body: bytes) -> bytes | None:
    """The body of a chat or completion request that asks for usage; None if it is to stay as it is.

    It stays if it asks for no stream, says anything about usage itself, or is not beyond doubt.
    """
    asked = _read(body)
    if asked is None or asked.stream is not True:
        return None
    options = asked.stream_options
    if options is msgspec.UNSET:
        start = body.index(b"{") + 1
        return body[:start] + _MEMBER + body[start:]
    if not isinstance(options, dict) or "include_usage" in options or _CONTINUOUS in options:
        return None
    return _ask_in_options(body, options)


def _ask_in_options(body: bytes, options: dict[str, Any]) -> bytes | None:
    """Add to the object that is there: of all that look like it, the one whose change the decoder sees."""
    if b"include_usage" in body:
        return None  # perhaps in a twin of that object, which another parser takes
    member = b'"include_usage":true,' if options else b'"include_usage":true'
    for match in _OPTIONS.finditer(body):
        changed = body[: match.end()] + member + body[match.end() :]
        asked = _read(changed)
        if asked is not None and asked.stream_options == {"include_usage": True, **options}:
            return changed
    return None


def _read(body: bytes) -> _Body | None:
    try:
        return _decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


def ask(head: bytes, wire: bytes, content: bytes, *, chunked: bool) -> tuple[bytes, bytes] | None:
    """Head and body of a whole request that asks for usage; None if the request is to stay as it is.

    `wire` is the body as it came, `content` the same without chunks. A compressed answer can't be cut, so none is
    accepted.
    """
    if chunked and not wire.endswith(_LAST_CHUNK):
        return None  # it has trailers
    body = ask_in_body(content)
    if body is None:
        return None
    head = _ACCEPTED.sub(rb"\1identity", head)
    if chunked:
        return head, b"%x\r\n%s%s" % (len(body), body, _LAST_CHUNK)
    return _LENGTH.sub(rb"\g<1>%d" % len(body), head), body
