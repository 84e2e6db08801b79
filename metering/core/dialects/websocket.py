"""WebSocket messages (RFC 6455) out of one direction's bytes, in any chunking; permessage-deflate (RFC 7692) undone.

Most of what a realtime session sends is sound, which tells nothing: a message is judged by its first bytes and then
stepped over. Of one that may matter both ends are kept. What breaks the protocol ends the reading, not the session.
"""

import re
import zlib
from collections.abc import Callable

from metering.core.dialects.decoding import PIECE_BYTES, RATIO_FROM_BYTES, RATIO_MAX
from metering.core.dialects.windows import Kept, Windows

PREFIX_BYTES = 512  # of a message, by which it is judged
_CONTINUATION, _BINARY, _CLOSE, _PONG = 0, 2, 8, 10
_FIN, _COMPRESSED, _RESERVED, _MASKED, _CONTROL = 0x80, 0x40, 0x30, 0x80, 0x08
_CONTROL_BYTES_MAX = 125
_FLUSHED = b"\x00\x00\xff\xff"  # the end of a deflate block that senders leave out
_DEFLATE = re.compile(r"\s*permessage-deflate\s*((?:;[^,]*)?)")


class Deflate:
    """What both sides agreed on: whether each one's messages refer to its earlier ones.

    The agreed window sizes are not needed: a window of the largest size reads them all.
    """

    __slots__ = ("client_refers", "server_refers")

    def __init__(self, parameters: str) -> None:
        self.server_refers = "server_no_context_takeover" not in parameters
        self.client_refers = "client_no_context_takeover" not in parameters


def read_extensions(header: str) -> Deflate | None:
    """What the `Sec-WebSocket-Extensions` of a 101 says; None if there are none. `ValueError` for another extension."""
    if not header.strip():
        return None
    agreed = _DEFLATE.fullmatch(header.lower())
    if agreed is None:
        raise ValueError(f"a WebSocket extension that is not known: {header[:100]!r}")
    return Deflate(agreed[1])


class _Broken(Exception):
    """What came is not what the RFC allows, or is larger than the caps."""


class Inflater:
    """Undoes permessage-deflate, in pieces, up to the ratio that bodies may have too."""

    __slots__ = ("_decoded_bytes", "_encoded_bytes", "_refers", "_stream")

    def __init__(self, *, refers: bool) -> None:
        self._refers = refers
        self._stream: zlib._Decompress | None = None
        self._encoded_bytes = self._decoded_bytes = 0

    def feed(self, encoded: bytes, sink: Callable[[bytes], None]) -> None:
        """Decode a part of a message. `zlib.error`, `_Broken`."""
        self._encoded_bytes += len(encoded)
        while encoded:
            if self._stream is None or self._stream.eof:  # a sender may end its stream with a message
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
            piece = self._stream.decompress(encoded, PIECE_BYTES)
            self._count(piece, sink)
            while len(piece) == PIECE_BYTES:
                piece = self._stream.decompress(self._stream.unconsumed_tail, PIECE_BYTES)
                self._count(piece, sink)
            encoded = self._stream.unused_data

    def _count(self, piece: bytes, sink: Callable[[bytes], None]) -> None:
        self._decoded_bytes += len(piece)
        if self._decoded_bytes > max(RATIO_FROM_BYTES, self._encoded_bytes * RATIO_MAX):
            raise _Broken
        if piece:
            sink(piece)

    def end(self, sink: Callable[[bytes], None]) -> None:
        """The message has ended. `zlib.error`, `_Broken`."""
        self.feed(_FLUSHED, sink)
        if not self._refers:
            self._stream = None


class Messages:
    """Reads one direction. `take` gets the messages whose first bytes are `wanted`; control frames may come between.

    `feed` never raises and keeps no more than a frame's head, `PREFIX_BYTES` and one message's ends (`Windows`).
    """

    __slots__ = (
        "_control", "_head", "_inflater", "_left", "_mask", "_offset", "_opcode", "_partial", "_skips", "_squeezed",
        "_started", "_take", "_wanted", "_windows", "close_code", "done", "in_message",
    )  # fmt: skip

    def __init__(
        self, wanted: Callable[[bytes], bool], take: Callable[[Kept], None], inflater: Inflater | None = None
    ) -> None:
        self._wanted = wanted
        self._take = take
        self._inflater = inflater
        self.done = False  # nothing more is read: it was closed, or is not understood
        self.close_code: int | None = None  # of a close frame; 1005 if it says none
        self.in_message = False
        self._partial = b""  # of a frame's head
        self._left = self._offset = self._opcode = 0  # of the frame's payload: bytes to come and gone by
        self._mask = b""
        self._control = b""  # a close frame's payload
        self._head = b""  # of the message, until it is judged
        self._windows: Windows | None = None  # of a message that is wanted
        self._squeezed = self._skips = False  # the message is compressed; is not wanted
        self._started = False

    def feed(self, data: bytes) -> None:
        """The next bytes of the connection."""
        if self.done:
            return
        if self._partial:
            data, self._partial = self._partial + data, b""
        try:
            self._read(data)
        except (_Broken, zlib.error):
            self.done = True
            self._head, self._windows, self._inflater = b"", None, None

    def _read(self, data: bytes) -> None:
        at, end = 0, len(data)
        while at < end and not self.done:
            if not self._started:
                head = self._read_head(data, at)
                if not head:
                    self._partial = data[at:]
                    return
                at += head
            there = min(self._left, end - at)
            if there and (not self._skips or self._opcode & _CONTROL or self._squeezed):
                self._read_payload(data[at : at + there])
            at += there
            self._offset += there
            self._left -= there
            if not self._left:
                self._started = False
                self._end_frame()

    def _read_head(self, data: bytes, at: int) -> int:
        """Read a frame's head at `at`; how long it is, 0 if it has not come whole."""
        if len(data) < at + 2:
            return 0
        first, second = data[at], data[at + 1]
        length, size = second & 0x7F, 2
        if length >= 126:
            size += 2 if length == 126 else 8
            length = int.from_bytes(data[at + 2 : at + size])
        masked = second & _MASKED
        if len(data) < at + size + (4 if masked else 0):
            return 0
        self._mask = data[at + size : at + size + 4] if masked else b""
        self._begin_frame(first, length)
        return size + len(self._mask)

    def _begin_frame(self, first: int, length: int) -> None:
        opcode = first & 0x0F
        self._left, self._offset, self._started = length, 0, True
        if first & _RESERVED or length >> 63:
            raise _Broken
        if opcode & _CONTROL:
            if opcode > _PONG or length > _CONTROL_BYTES_MAX or not first & _FIN or first & _COMPRESSED:
                raise _Broken
            self._opcode = opcode
            return
        if opcode > _BINARY or (opcode == _CONTINUATION) != self.in_message:
            raise _Broken
        if first & _COMPRESSED and (self._inflater is None or opcode == _CONTINUATION):
            raise _Broken
        if opcode != _CONTINUATION:
            self._squeezed, self._skips = bool(first & _COMPRESSED), False
        self._opcode = 0
        self.in_message = not first & _FIN

    def _read_payload(self, piece: bytes) -> None:
        if self._mask:
            piece = _unmask(piece, self._mask, self._offset)
        if self._opcode == _CLOSE:
            self._control += piece
        elif self._opcode:
            pass  # a ping or its answer
        elif self._squeezed and self._inflater is not None:
            self._inflater.feed(piece, self._keep)
        else:
            self._keep(piece)

    def _keep(self, piece: bytes) -> None:
        """Decoded bytes of a message."""
        if self._skips:
            return
        if self._windows is not None:
            self._windows.feed(piece)
            return
        head = self._head = self._head + piece if self._head else piece
        if len(head) < PREFIX_BYTES:
            return
        self._head = b""
        if self._wanted(head[:PREFIX_BYTES]):
            self._windows = Windows()
            self._windows.feed(head)
        else:
            self._skips = True

    def _end_frame(self) -> None:
        if self._opcode == _CLOSE:
            self.close_code = int.from_bytes(self._control[:2]) if len(self._control) > 1 else 1005
            self.done = True
        if self._opcode or self.in_message:
            return
        if self._squeezed and self._inflater is not None:
            self._inflater.end(self._keep)
        windows, head = self._windows, self._head
        self._windows, self._head = None, b""
        if windows is not None:
            self._take(windows.kept())
        elif not self._skips and self._wanted(head):
            self._take(Kept(head, b"", 0))


def _unmask(piece: bytes, mask: bytes, offset: int) -> bytes:
    """Undo a client's mask on the bytes that stand at `offset` of a frame. As one large number: 40 times a loop."""
    turned = offset % 4
    key = (mask[turned:] + mask[:turned]) * (len(piece) // 4 + 1)
    return (int.from_bytes(piece) ^ int.from_bytes(key[: len(piece)])).to_bytes(len(piece))
