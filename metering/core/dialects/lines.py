"""Answers of any length that tell something on each line: a line is read when it has come, and let go."""

from metering.core.dialects.found import Found, Meaning
from metering.core.dialects.windows import Kept, Windows


class Lines:
    """Feeds each line to `Meaning.read_line`, at most both ends of it as `Windows` keeps them.

    No longer than until the meaning has found that such an answer tells nothing.
    """

    __slots__ = ("_began", "_found", "_line", "_meaning", "_readable")

    def __init__(self, meaning: Meaning, found: Found) -> None:
        self._meaning = meaning
        self._found = found
        self._line = Windows()  # the beginning of a line whose end has not come
        self._began = False
        self._readable = True

    def feed(self, chunk: bytes) -> None:
        """Read the lines that end in `chunk`."""
        start, end = 0, chunk.find(b"\n")
        while end >= 0 and not self._found.idle:
            piece = chunk[start:end]
            if self._began:
                self._line.feed(piece)
                self._end_line()
            else:
                self._read(Kept(piece, b"", 0))
            start, end = end + 1, chunk.find(b"\n", end + 1)
        if start < len(chunk) and not self._found.idle:
            self._line.feed(chunk[start:])
            self._began = True

    def finish(self) -> bool:
        """Read a last line that has no end; whether it can be read, or the one before it if there is none."""
        if self._began:
            self._end_line()
        return self._readable

    def _end_line(self) -> None:
        line, self._line, self._began = self._line.kept(), Windows(), False
        self._read(line)

    def _read(self, line: Kept) -> None:
        if not line.head.isspace() and line.head:
            self._readable = self._meaning.read_line(line, self._found)
