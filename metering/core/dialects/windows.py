"""Bounded keeping: the first and the last bytes of a body of any size.

Usage stands near the end of a body (OpenAI, Ollama) or at both ends of a stream (Anthropic), so a head and a
tail are all a reader needs. A body that fits is kept whole.
"""

import msgspec

HEAD_BYTES = 32 * 1024
TAIL_BYTES = 128 * 1024
# A longer body is cut to its ends, now and then: a reader keeps up to this, a tail's length more, and one piece.
KEPT_BYTES_MAX = HEAD_BYTES + 2 * TAIL_BYTES
# What a kept piece takes beside its bytes: a body in pieces of one byte is bounded too.
PIECE_OVERHEAD_BYTES = 64


class Kept(msgspec.Struct, frozen=True):
    """What is left of a body: all of it in `head` if `dropped` is 0, else its two ends."""

    head: bytes
    tail: bytes
    dropped: int


class Windows:
    """Keeps the head and the tail of what it is fed.

    Pieces are kept as they came and joined at the end: copying each into one buffer cost more than all else a
    piece of a stream costs its reader.
    """

    __slots__ = ("_dropped", "_pieces", "_room")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._room = KEPT_BYTES_MAX  # before the pieces are joined
        self._dropped = 0

    def feed(self, chunk: bytes) -> None:
        """Keep `chunk`; forget bytes of the middle once the bound is reached."""
        self._pieces.append(chunk)
        self._room -= len(chunk) + PIECE_OVERHEAD_BYTES
        if self._room < 0:
            self._join()

    def _join(self) -> None:
        """Make one piece of all. At least a tail's length of room is left, so that joins stay rare."""
        last = self._pieces[-1]
        if len(last) > KEPT_BYTES_MAX:  # do not copy all of a huge piece to keep its ends
            ends = b"".join(self._pieces[:-1])
            head = (ends + last[: max(0, HEAD_BYTES - len(ends))])[:HEAD_BYTES]
            self._dropped += len(ends) + len(last) - HEAD_BYTES - TAIL_BYTES
            text = head + last[-TAIL_BYTES:]
        else:
            text = self._cut(b"".join(self._pieces))
        self._pieces = [text]
        self._room = max(KEPT_BYTES_MAX - len(text), TAIL_BYTES)

    def _cut(self, text: bytes) -> bytes:
        """`text` without its middle, if it is too long or has lost some of it before."""
        excess = len(text) - HEAD_BYTES - TAIL_BYTES
        if excess <= 0 or (len(text) <= KEPT_BYTES_MAX and not self._dropped):
            return text
        self._dropped += excess
        return text[:HEAD_BYTES] + text[-TAIL_BYTES:]

    def kept(self) -> Kept:
        """What was kept. A body of up to `KEPT_BYTES_MAX` is whole."""
        text = self._cut(b"".join(self._pieces))
        if not self._dropped:
            return Kept(text, b"", 0)
        self._pieces = [text]
        return Kept(text[:HEAD_BYTES], text[HEAD_BYTES:], self._dropped)
