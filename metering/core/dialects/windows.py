"""Bounded keeping: the first and the last bytes of a body of any size.

Usage stands near the end of a body (OpenAI, Ollama) or at both ends of a stream (Anthropic), so a head and a
tail are all a reader needs. A body that fits is kept whole.
"""

import msgspec

HEAD_BYTES = 32 * 1024
TAIL_BYTES = 128 * 1024
# Trimmed only now and then, so that feeding costs an append; a reader never keeps more than this and one piece.
KEPT_BYTES_MAX = HEAD_BYTES + 2 * TAIL_BYTES


class Kept(msgspec.Struct, frozen=True):
    """What is left of a body: all of it in `head` if `dropped` is 0, else its two ends."""

    head: bytes
    tail: bytes
    dropped: int


class Windows:
    """Keeps the head and the tail of what it is fed."""

    __slots__ = ("_buffer", "_dropped")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._dropped = 0

    def feed(self, chunk: bytes) -> None:
        """Append `chunk`; forget bytes of the middle once the bound is reached."""
        if len(chunk) > TAIL_BYTES:
            view = memoryview(chunk)
            for start in range(0, len(chunk), TAIL_BYTES):
                self._append(view[start : start + TAIL_BYTES])
        else:
            self._append(chunk)

    def _append(self, piece: bytes | memoryview) -> None:
        self._buffer += piece
        if len(self._buffer) > KEPT_BYTES_MAX:
            self._trim()

    def _trim(self) -> None:
        excess = len(self._buffer) - HEAD_BYTES - TAIL_BYTES
        if excess > 0:
            del self._buffer[HEAD_BYTES : HEAD_BYTES + excess]
            self._dropped += excess

    def kept(self) -> Kept:
        """What was kept. A body of up to `KEPT_BYTES_MAX` is whole."""
        if not self._dropped:
            return Kept(bytes(self._buffer), b"", 0)
        self._trim()
        return Kept(bytes(self._buffer[:HEAD_BYTES]), bytes(self._buffer[HEAD_BYTES:]), self._dropped)
