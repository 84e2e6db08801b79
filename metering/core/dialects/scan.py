"""Members of a JSON document of which only one end was kept.

Decoding needs the whole text; this needs the nesting only. From the start of a document the nesting is known
by walking forward; near its end, a member's depth is the number of brackets still closed after it.
"""

import re
from collections.abc import Collection
from typing import Any

import msgspec

# A string (possessive, so that a long one costs one pass), a bracket, or a quote that is never closed.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]|"', re.DOTALL)
_COLON = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_SCALAR = re.compile(rb"[-+.\w]+(?=[ \t\r\n]*[,}\]])")
# A member found near the end is checked by walking to the end; a few candidates are enough.
CANDIDATES_MAX = 4


def parse(text: bytes) -> Any:
    """The JSON value of `text`, or None if it is none."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


def head_members(head: bytes, names: Collection[str], depth: int = 1) -> dict[str, Any]:
    """Whole members called `names` at `depth` brackets inside a document that starts with `head`."""
    found: dict[str, Any] = {}
    # Walking 64 KB takes 0.6 ms or more, and mostly the names stand at its start or nowhere.
    end = max((head.rfind(key) + len(key) for key in map(_quote, names) if key in head), default=0)
    at = 0
    for token in _TOKEN.finditer(head, 0, end):
        text = token[0]
        if text in (b"{", b"["):
            at += 1
        elif text in (b"}", b"]"):
            at -= 1
        elif text == b'"':
            break
        elif at == depth and (colon := _COLON.match(head, token.end())):
            name = text[1:-1].decode("utf-8", "replace")
            if name in names and (value := _value(head, colon.end())):
                found[name] = parse(head[colon.end() : value])
    return found


def tail_members(tail: bytes, names: Collection[str], depth: int = 1) -> dict[str, Any]:
    """Members called `names` at `depth` brackets inside a document that ends with `tail`."""
    found: dict[str, Any] = {}
    if not tail.endswith(b"}"):
        return found  # it was cut here too: the nesting is not known
    for name in names:
        key = _quote(name)
        at = len(tail)
        for _ in range(CANDIDATES_MAX):
            at = tail.rfind(key, 0, at)
            if at < 0:
                break
            colon = _COLON.match(tail, at + len(key))
            value = _value(tail, colon.end()) if colon else None
            if colon and value and _closes(tail, value, depth):
                found[name] = parse(tail[colon.end() : value])
                break
    return found


def _quote(name: str) -> bytes:
    return b'"%s"' % name.encode()


def _value(text: bytes, start: int) -> int | None:
    """Where the value that begins at `start` ends; None if it is cut."""
    if text[start : start + 1] not in (b"{", b"[", b'"'):
        scalar = _SCALAR.match(text, start)
        return scalar.end() if scalar else None
    depth = 0
    for token in _TOKEN.finditer(text, start):
        mark = token[0]
        if mark in (b"{", b"["):
            depth += 1
        elif mark in (b"}", b"]"):
            depth -= 1
        elif mark == b'"':
            return None
        if depth <= 0:
            return token.end()
    return None


def _closes(text: bytes, start: int, depth: int) -> bool:
    """Whether exactly `depth` brackets more are closed than opened from `start` to the end."""
    left = depth
    for token in _TOKEN.finditer(text, start):
        mark = token[0]
        if mark in (b"{", b"["):
            left += 1
        elif mark in (b"}", b"]"):
            left -= 1
        elif mark == b'"':
            return False
        if left < 0:
            return False
    return left == 0
