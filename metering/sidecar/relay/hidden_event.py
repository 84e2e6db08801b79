"""Keep from a client the one event that was asked for in its stead: bytes of an answer in, bytes for the client out.

It is a server-sent event whose chunk has no choices and has the usage. Every other byte goes on at once; a frame whose
end has not come waits only while it may still become that event.
"""

import re
from typing import Any

import msgspec

HELD_BYTES_MAX = 16 * 1024  # the largest such event in recordings has less than 1 KB
TAIL_BYTES_MAX = 16 * 1024
_FIELDS = (b"data:", b"event:", b"id:", b"retry:")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_LINE_END = re.compile(rb"\n")
# In JSON no string's content looks like this: its quotes are escaped.
_HAS_CHOICES = re.compile(rb'"choices"[ \t\r\n]*:[ \t\r\n]*(?:\[[ \t\r\n]*[^\] \t\r\n]|[^\[ \t\r\n])')
_NAMES_USAGE = re.compile(rb'"usage"[ \t\r\n]*:[ \t\r\n]*\{')
_COMMENT = re.compile(rb"^:[^\n]*\n", re.MULTILINE)
_TRAILERS = re.compile(rb"(?:\A|\r\n)0+[ \t]*(?:;[^\r\n]*)?\r\n((?:[A-Za-z0-9!#$%&'*+.^_`|~-]+:[^\r\n]*\r\n)*)\r\n\Z")
_LENGTH = re.compile(rb"\r\ncontent-length:[^\r]*", re.IGNORECASE)


class _Chunk(msgspec.Struct):
    choices: Any = None
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


def is_usage_event(frame: bytes) -> bool:
    """Whether this frame is what `include_usage` adds to a stream.

    Azure's first chunk has no choices either, but no usage; others put the usage beside choices, or beside an error.
    """
    if not _NAMES_USAGE.search(frame):
        return False
    data = b"\n".join(line[5:] for line in frame.splitlines() if line.startswith(b"data:"))
    try:
        chunk = _decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return False
    return chunk.choices == [] and isinstance(chunk.usage, dict) and bool(chunk.usage) and not chunk.error


class EventFilter:
    """Takes a stream's content in any pieces and gives it back without usage events."""

    def __init__(self) -> None:
        self._held = b""  # a frame from its beginning, which may become a usage event
        self._until: re.Pattern[bytes] | None = None  # what passes, and up to where; None: a frame begins
        self._context = b""  # the last bytes that passed, in which the end may have begun

    def feed(self, content: bytes) -> bytes:
        """What the client gets now."""
        out: list[bytes] = []
        data, self._held = self._held + content, b""
        at = self._pass(data, self._until, out) if self._until else 0
        while at < len(data):
            at = self._begin(data, at, out)
        return b"".join(out)

    def _pass(self, data: bytes, until: re.Pattern[bytes], out: list[bytes]) -> int:
        """Let go on what began to; where it ends."""
        seen = self._context + data
        match = until.search(seen)
        if match is None:
            self._context = seen[-2:]
            end = len(data)
        else:
            self._until = None
            end = match.end() - len(self._context)
        out.append(data[:end])
        return end

    def _begin(self, data: bytes, at: int, out: list[bytes]) -> int:
        """A frame begins, or a comment before it, or a blank line; where it ends."""
        if data.startswith((b"\n", b"\r\n"), at):
            end = data.index(b"\n", at) + 1
            out.append(data[at:end])
            return end
        until = _LINE_END if data.startswith(b":", at) else _BLANK_LINE
        match = until.search(data, at)
        if match is not None:
            frame = data[at : match.end()]
            out += _COMMENT.findall(frame) if is_usage_event(frame) else (frame,)
            return match.end()
        rest = data[at:]
        if until is _BLANK_LINE and _may_become_usage(rest):
            self._held = rest
        else:
            out.append(rest)
            self._until, self._context = until, (b"\n" + rest)[-2:] if until is _BLANK_LINE else b""
        return len(data)

    def end(self) -> bytes:
        """No more will come: what was held, unless only the blank line behind a usage event is missing."""
        held, self._held = self._held, b""
        return b"" if is_usage_event(held) else held


def _may_become_usage(frame: bytes) -> bool:
    if len(frame) > HELD_BYTES_MAX or _HAS_CHOICES.search(frame):
        return False
    return any(frame.startswith(field) or field.startswith(frame) for field in _FIELDS)


class HiddenEvent:
    """An answer's body as the client gets it: without the usage event, in a framing of our own."""

    def __init__(self, *, chunked: bool) -> None:
        """`chunked`: the client gets chunks, else the bytes alone."""
        self._filter = EventFilter()
        self._chunked = chunked
        self._tail = b""  # of the answer as it came: the last content and all framing behind it

    def feed(self, wire: bytes, content: bytes) -> bytes:
        """A read of the answer: as it came, and without its framing."""
        self._tail = (wire if content else self._tail + wire)[-TAIL_BYTES_MAX:]
        return self._frame(self._filter.feed(content))

    def flush(self) -> bytes:
        """The answer was cut, or ends with its connection."""
        return self._frame(self._filter.end())

    def finish(self, wire: bytes, content: bytes) -> bytes:
        """The read that ends the answer. Its trailers stay."""
        last = self.feed(wire, content) + self.flush()
        if not self._chunked:
            return last
        trailers = _TRAILERS.search(self._tail)
        return b"%s0\r\n%s\r\n" % (last, trailers[1] if trailers else b"")

    def _frame(self, data: bytes) -> bytes:
        return b"%x\r\n%s\r\n" % (len(data), data) if data and self._chunked else data


def without_length(head: bytes, *, chunked: bool) -> bytes:
    """An answer's head for a body whose length is not known any more: in chunks, or up to the connection's end."""
    return _LENGTH.sub(b"\r\nTransfer-Encoding: chunked" if chunked else b"", head)
