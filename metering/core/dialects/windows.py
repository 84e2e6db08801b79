"""Bounded keeping: the first and the last bytes of a body of any size.

Usage stands near the end of a body (OpenAI, Ollama) or at both ends of a stream (Anthropic), so a head and a
tail are all a reader needs. A document that fits is kept whole. Of a stream, whose many small frames say little,
much less is kept: a worker carries hundreds of them for minutes.
"""

from zlib import crc32

import msgspec

HEAD_BYTES = 32 * 1024
TAIL_BYTES = 128 * 1024
# A longer body is cut to its ends, now and then: a reader keeps up to this, a tail's length more, and one piece.
KEPT_BYTES_MAX = HEAD_BYTES + 2 * TAIL_BYTES
# Of a stream: so much of each end, the first and the last frames in any case (a last one may hold a whole response).
STREAM_END_BYTES = 6 * 1024
STREAM_END_FRAMES = 4
STREAM_KEPT_BYTES_MAX = 3 * STREAM_END_BYTES
# Of a stream that may have to be counted by its text: more of its beginning, as far as an allowance grants it.
STREAM_GRANTED_BYTES_MAX = 256 * 1024
GRANT_BYTES = 16 * 1024
# What a kept piece takes beside its bytes: a body in pieces of one byte is bounded too.
PIECE_OVERHEAD_BYTES = 64
BOM = b"\xef\xbb\xbf"
# What stands alone on a line between the objects of a streamed array: Google sends the first.
ARRAY_SEPARATORS = (b"\n,\r\n", b"\n,\n")
# Each frame of an AWS event stream has this header; behind it, no frame's beginning is far.
FRAME_MARK = b"\r:message-type"
SSE_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")


class Kept(msgspec.Struct, frozen=True):
    """What is left of a body: all of it in `head` if `dropped` is 0, else its two ends."""

    head: bytes
    tail: bytes
    dropped: int


class Allowance:
    """Bytes that many bodies together may keep beyond their ends."""

    __slots__ = ("left",)

    def __init__(self, total_bytes: int) -> None:
        self.left = total_bytes

    def take(self, amount_bytes: int) -> bool:
        """Whether there is so much left; then it is taken, until it is added to `left` again."""
        if self.left < amount_bytes:
            return False
        self.left -= amount_bytes
        return True

    def hold(self, kept: Kept) -> "Held | None":
        """`kept` as long as somebody holds it; None if there is not so much left."""
        return Held(kept, self) if self.take(len(kept.head) + len(kept.tail)) else None


class Held:
    """What is kept of a body at the cost of an allowance, which gets it back when nobody holds this any more."""

    __slots__ = ("_allowance", "kept")

    def __init__(self, kept: Kept, allowance: Allowance) -> None:
        self.kept, self._allowance = kept, allowance

    def __del__(self) -> None:
        self._allowance.left += len(self.kept.head) + len(self.kept.tail)


class Windows:
    """Keeps the head and the tail of what it is fed; of a stream a longer head, as far as `allowance` grants it.

    Pieces are kept as they came and joined at the end: copying each into one buffer cost more than all else a
    piece of a stream costs its reader.
    """

    __slots__ = ("_allowance", "_dropped", "_granted", "_head_bytes", "_pieces", "_room", "_separator")

    def __init__(self, allowance: Allowance | None = None) -> None:
        self._allowance = allowance
        self._granted = 0
        self._pieces: list[bytes] = []
        self._room = STREAM_KEPT_BYTES_MAX  # before the pieces are joined
        self._dropped = 0
        self._head_bytes = HEAD_BYTES
        self._separator = b""  # of a stream's frames, once they are seen

    def __del__(self) -> None:
        if self._granted and self._allowance is not None:
            self._allowance.left += self._granted

    def feed(self, chunk: bytes) -> None:
        """Keep `chunk`; forget bytes of the middle once the bound is reached."""
        self._pieces.append(chunk)
        self._room -= len(chunk) + PIECE_OVERHEAD_BYTES
        if self._room < 0:
            self._join()

    def _join(self) -> None:
        """Make one piece of all. Room is left for half of it again at least, so that joins stay rare."""
        last = self._pieces[-1]
        if len(last) > KEPT_BYTES_MAX:  # do not copy all of a huge piece to keep its ends
            ends = b"".join(self._pieces[:-1])
            head = (ends + last[: max(0, self._head_bytes - len(ends))])[: self._head_bytes]
            self._dropped += len(ends) + len(last) - len(head) - TAIL_BYTES
            text = head + last[-TAIL_BYTES:]
        else:
            text = self._cut(b"".join(self._pieces))
        self._pieces = [text]
        if self._separator:
            self._room = max(STREAM_END_BYTES, len(text) // 2)
        else:
            self._room = max(KEPT_BYTES_MAX - len(text), TAIL_BYTES)

    def _cut(self, text: bytes) -> bytes:
        """`text` without its middle, if it is too long or has lost some of it before."""
        self._separator = self._separator or _find_separator(text)
        if self._separator:
            if not self._dropped and self._is_granted(len(text)):
                return text
            start = self._find_tail(text)
        else:
            start = len(text) - TAIL_BYTES if len(text) > KEPT_BYTES_MAX or self._dropped else 0
        if start <= self._head_bytes:
            return text
        self._dropped += start - self._head_bytes
        return text[: self._head_bytes] + text[start:]

    def _is_granted(self, size_bytes: int) -> bool:
        """Whether a stream may be kept whole so far."""
        if self._allowance is None or size_bytes > STREAM_GRANTED_BYTES_MAX:
            return False
        wanted = -(-size_bytes // GRANT_BYTES) * GRANT_BYTES - self._granted
        if wanted > 0 and not self._allowance.take(wanted):
            return False
        self._granted += max(0, wanted)
        return True

    def _find_tail(self, text: bytes) -> int:
        """Where the tail of a stream starts; once, also where its head ends."""
        if not self._dropped:
            self._head_bytes = max(_head_end(text, self._separator), min(self._granted, len(text)))
        return _tail_start(text, self._separator)

    def kept(self) -> Kept:
        """What was kept, of a stream its ends.

        A document of up to `KEPT_BYTES_MAX`, a stream of `STREAM_KEPT_BYTES_MAX` is whole.
        """
        whole = self.whole()
        if not self._granted:
            return whole
        # Only a count by the text needs more than what every stream keeps: readers get no slower by it.
        text = whole.head
        end = _head_end(text, self._separator)
        if whole.dropped:
            return Kept(text[:end], whole.tail, whole.dropped + len(text) - end)
        start = _tail_start(text, self._separator)
        return Kept(text[:end], text[start:], start - end) if start > end else whole

    def whole(self) -> Kept:
        """All that was kept."""
        text = b"".join(self._pieces)
        if not self._dropped:
            if not is_prelude(text):
                return Kept(text, b"", 0)
            text = self._cut(text)  # each frame costs half a microsecond to check, and those of the middle tell nothing
            if not self._dropped:
                return Kept(text, b"", 0)
        else:
            text = self._cut(text)
        self._pieces = [text]
        return Kept(text[: self._head_bytes], text[self._head_bytes :], self._dropped)


def is_prelude(text: bytes, at: int = 0) -> bool:
    """Whether a frame of an AWS event stream begins there: two lengths and their CRC."""
    return len(text) >= at + 12 and crc32(text[at : at + 8]) == int.from_bytes(text[at + 8 : at + 12])


def _head_end(text: bytes, separator: bytes) -> int:
    """Where the head of a stream ends."""
    end = 0
    for _ in range(STREAM_END_FRAMES):
        end = text.find(separator, end) + len(separator)
        if end < len(separator):  # it has not come yet
            end = HEAD_BYTES
            break
    return min(HEAD_BYTES, max(STREAM_END_BYTES, end))


def _tail_start(text: bytes, separator: bytes) -> int:
    """Where its tail starts."""
    start = len(text)
    for _ in range(STREAM_END_FRAMES):
        start = max(0, text.rfind(separator, 0, start))
    return max(len(text) - TAIL_BYTES, min(len(text) - STREAM_END_BYTES, start))


def _find_separator(text: bytes) -> bytes:
    """What each frame of a stream that starts with `text` has; nothing if it is none, or none ended yet."""
    if is_prelude(text):
        return FRAME_MARK
    start = text[:256].removeprefix(BOM).lstrip()
    if start.startswith(SSE_STARTS):
        return next((separator for separator in (b"\n\n", b"\r\n\r\n", b"\r\r") if separator in text), b"")
    if start.startswith(b"["):
        return next((separator for separator in ARRAY_SEPARATORS if separator in text), b"")
    # A search of all that a long document keeps, at each join, took longer than all else about it.
    first = text[:HEAD_BYTES]
    return b"\n" if start.startswith(b"{") and (b"}\n{" in first or b"}\r\n{" in first) else b""
