"""Framings apart from meaning: a kept body becomes the JSON texts in it.

A server's content type is a hint only (streams come as `application/json` and `text/plain`, errors as
`text/event-stream`), so the first bytes decide.
"""

from collections.abc import Iterator, Sequence
from enum import Enum

from metering.core.dialects.windows import ARRAY_SEPARATORS, BOM, SSE_STARTS, Kept, is_prelude

DONE = b"[DONE]"
EVENT_STREAM_TYPE = "application/vnd.amazon.eventstream"


class Framing(Enum):
    """How JSON texts are laid out in a body."""

    JSON = "json"
    SSE = "sse"
    NDJSON = "ndjson"
    ARRAY = "array"  # a JSON array that is sent object by object
    EVENT_STREAM = "event stream"  # AWS: binary frames
    OTHER = "other"  # audio, HTML, nothing: no JSON to read


def sniff(head: bytes, content_type: str) -> Framing:
    """The framing of a body that starts with `head`."""
    if content_type == "application/json" and head.startswith(b"{"):
        return Framing.JSON  # nearly all that are no streams
    start = head.removeprefix(BOM).lstrip()  # OpenRouter sends blank lines while a model thinks
    if start.startswith(SSE_STARTS):
        return Framing.SSE
    content_type = content_type.lower()
    if start[:1] == b"[":
        return Framing.ARRAY if any(separator in head for separator in ARRAY_SEPARATORS) else Framing.JSON
    if start[:1] == b"{":
        return Framing.NDJSON if "ndjson" in content_type or "jsonl" in content_type else Framing.JSON
    if is_prelude(head) or content_type.startswith(EVENT_STREAM_TYPE):
        return Framing.EVENT_STREAM
    return Framing.OTHER


class Stream:
    """The frames of a kept stream, found by searching for the bytes that matter; most are never looked at.

    `opening` is the beginning of a frame whose end did not come or fell out of the windows, `cut` the end of one
    whose beginning fell out.
    """

    def __init__(self, kept: Kept, framing: Framing) -> None:
        self._sse, self._array = framing is Framing.SSE, framing is Framing.ARRAY
        self._separator = b"\n\n" if self._sse else b"\n"
        head = kept.head.removeprefix(BOM)
        if self._array:
            self._separator = next((each for each in ARRAY_SEPARATORS if each in head), ARRAY_SEPARATORS[0])
        if self._sse:
            head = _lines_end_in_lf(head)
        self.opening = self.cut = b""
        self._texts = [head]
        if kept.dropped:
            tail = _lines_end_in_lf(kept.tail) if self._sse else kept.tail
            head, _, self.opening = head.rpartition(self._separator)
            self.cut, _, tail = tail.partition(self._separator)
            self._texts = [head, tail]
        self.ending = self._texts[-1]

    def forget_head(self) -> None:
        """Go on with what came last: something told after the head has been read already."""
        self._texts = [self.ending]

    def first(self, frames: int) -> Iterator[bytes]:
        """The JSON texts of the first frames."""
        text, start = self._texts[0], 0
        for _ in range(frames):
            end = text.find(self._separator, start)
            yield from self._payloads(text[start:] if end < 0 else text[start:end])
            if end < 0:
                break
            start = end + len(self._separator)

    def last(self) -> Iterator[bytes]:
        """The JSON texts of the last frame that is not empty."""
        yield from self._payloads(self.ending.rstrip().rpartition(self._separator)[2])

    def every(self) -> Iterator[bytes]:
        """The JSON texts of all frames."""
        for text in self._texts:
            for frame in text.split(self._separator):
                yield from self._payloads(frame)

    def having(self, name: bytes) -> Iterator[bytes]:
        """The JSON texts of all frames with the quoted `name`, unless it is the name of a null."""
        for frame in reversed(list(self._frames_from_end(name))):
            yield from self._payloads(frame)

    def having_from_end(self, name: bytes) -> Iterator[bytes]:
        """The same from the last frame to the first."""
        for frame in self._frames_from_end(name):
            yield from self._payloads(frame)

    def _frames_from_end(self, name: bytes) -> Iterator[bytes]:
        """The frames with `name`. Searched from the end: CPython does that two to three times as fast."""
        for text in reversed(self._texts):
            at = text.rfind(name)
            while at >= 0:
                start = at
                if not text.startswith((b":null", b": null"), at + len(name)):
                    start, end = self._bounds(text, at)
                    yield text[start:end]
                at = text.rfind(name, 0, start)

    def _bounds(self, text: bytes, at: int) -> tuple[int, int]:
        before, after = text.rfind(self._separator, 0, at), text.find(self._separator, at)
        return before + len(self._separator) if before >= 0 else 0, after if after >= 0 else len(text)

    def mentions(self, word: bytes) -> bool:
        """Whether `word` stands anywhere."""
        return any(text.rfind(word) >= 0 for text in self._texts)

    def has_event(self, name: bytes) -> bool:
        """Whether an SSE event called `name` was sent. A line cannot be inside JSON: no content looks like one."""
        lines = (b"\nevent: %s\n" % name, b"\nevent:%s\n" % name)
        return any(text.startswith(line[1:]) or line in text for text in self._texts for line in lines)

    def is_done(self) -> bool:
        """Whether the stream said `[DONE]`."""
        return b"data: [DONE]" in self.ending[-64:] or b"data:[DONE]" in self.ending[-64:]

    def opening_payloads(self) -> Sequence[bytes]:
        """The JSON text that begins in `opening`."""
        return self._payloads(self.opening)

    def _payloads(self, frame: bytes) -> Sequence[bytes]:
        """The JSON texts of one frame.

        For SSE the data lines joined, or each alone where a server forgot the blank line; and llama.cpp's
        `error:` lines. The first and the last of an array have its brackets.
        """
        if self._array:
            return (frame.strip(b" \r\n[],"),)
        if not self._sse:
            return (frame,)
        if frame.startswith(b"data:") and b"\n" not in frame:
            return (frame[5:],)
        lines = [line.partition(b":")[2] for line in frame.split(b"\n") if line.startswith((b"data:", b"error:"))]
        if len(lines) > 1 and not all(_is_object(line) for line in lines):
            return (b"\n".join(lines),)
        return lines


def _lines_end_in_lf(text: bytes) -> bytes:
    """SSE lines may end in CRLF, CR or LF; JSON strings hold none of them unescaped."""
    if b"\r" in text:
        return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return text


def _is_object(line: bytes) -> bool:
    """Whether a data line is a JSON object by itself, as far as its ends show."""
    stripped = line.strip()
    return (stripped[:1] == b"{" and stripped[-1:] == b"}") or stripped == DONE
