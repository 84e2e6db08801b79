"""Content-encodings undone on the reader's copy, in bounded pieces, with caps against bombs.

The copy is decoded a slice at a time into the windows, so memory stays bounded however large the body is.
A body over a cap is given up: its usage is unknown, the client's own bytes were never touched.
"""

import zlib
from collections.abc import Callable
from typing import Protocol

import brotli  # type: ignore[import-untyped]  # ships no types
import zstandard

# Encoded bytes are collected up to a slice before decoding: small answers are decoded once, at their end.
SLICE_BYTES = 64 * 1024
PIECE_BYTES = 64 * 1024
DECODED_BYTES_MAX = 256 * 1024 * 1024
# Repetitive streams reach 50:1; deflate's own limit is 1032:1. Not judged before `RATIO_FROM_BYTES`.
RATIO_MAX = 200
RATIO_FROM_BYTES = 4 * 1024 * 1024
ZSTD_WINDOW_BYTES_MAX = 8 * 1024 * 1024  # RFC 9659: what a sender of content-encoding zstd may use

Sink = Callable[[bytes], None]


class OverCap(Exception):
    """The decoded body is larger than the caps allow."""


class Codec(Protocol):
    """Undoes one encoding; gives pieces of at most about `PIECE_BYTES` to the sink."""

    def feed(self, encoded: bytes, sink: Sink) -> None:
        """Decode `encoded`. Raises the library's own error for bytes that are not of this encoding."""


class _Zlib:
    """gzip (any number of members) and deflate (with or without its zlib header)."""

    def __init__(self, *, raw_allowed: bool) -> None:
        self._raw_allowed = raw_allowed
        self._decoder: zlib._Decompress | None = None

    def feed(self, encoded: bytes, sink: Sink) -> None:
        while encoded:
            if self._decoder is None or self._decoder.eof:
                self._decoder = zlib.decompressobj(self._window_bits(encoded))
            piece = self._decoder.decompress(encoded, PIECE_BYTES)
            sink(piece)
            while len(piece) == PIECE_BYTES:
                piece = self._decoder.decompress(self._decoder.unconsumed_tail, PIECE_BYTES)
                sink(piece)
            encoded = self._decoder.unused_data

    def _window_bits(self, encoded: bytes) -> int:
        """RFC 9110 says deflate has a zlib header; some servers send it without."""
        if self._raw_allowed and (encoded[0] & 0x0F != 8 or int.from_bytes(encoded[:2], "big") % 31):
            return -zlib.MAX_WBITS
        return zlib.MAX_WBITS | 32  # reads gzip and zlib headers


class _Brotli:
    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()

    def feed(self, encoded: bytes, sink: Sink) -> None:
        if self._decoder.is_finished():
            return
        # The decoder says it accepts more while it still holds output: only an empty piece means it is drained.
        while piece := self._decoder.process(encoded, output_buffer_limit=PIECE_BYTES):
            sink(piece)
            encoded = b""


class _Zstd:
    def __init__(self) -> None:
        self._decoder = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX)
        self._writer: zstandard.ZstdDecompressionWriter | None = None

    def feed(self, encoded: bytes, sink: Sink) -> None:
        if self._writer is None:
            into = _SinkFile(sink)
            self._writer = self._decoder.stream_writer(into, write_size=PIECE_BYTES, closefd=False)  # type: ignore[arg-type]  # only write() is called
        self._writer.write(encoded)


class _SinkFile:
    """What zstandard writes to."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, piece: bytes) -> int:
        self._sink(bytes(piece))
        return len(piece)


def open_codec(encoding: str) -> Codec | None:
    """The codec of a `content-encoding` value; None for one that is not known."""
    match encoding:
        case "gzip" | "x-gzip":
            return _Zlib(raw_allowed=False)
        case "deflate":
            return _Zlib(raw_allowed=True)
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstd()
    return None


class Decoding:
    """Feeds a body's decoded bytes to `sink`. Never raises; `readable` turns False when it has to give up."""

    __slots__ = ("_codec", "_decoded_bytes", "_encoded_bytes", "_sink", "_slice", "readable")

    def __init__(self, encoding: str, sink: Sink) -> None:
        codec = open_codec(encoding)
        self._codec = codec or _Plain()
        self._sink = sink
        self._slice = bytearray()
        self._encoded_bytes = 0
        self._decoded_bytes = 0
        self.readable = codec is not None

    def feed(self, chunk: bytes) -> None:
        """Collect encoded bytes; decode them when a slice is full."""
        if not self.readable:
            return
        for start in range(0, len(chunk), SLICE_BYTES):
            self._slice += chunk[start : start + SLICE_BYTES]
            if len(self._slice) >= SLICE_BYTES:
                self._decode()

    def finish(self) -> None:
        """Decode what is left."""
        if self.readable and self._slice:
            self._decode()

    def _decode(self) -> None:
        encoded, self._slice = bytes(self._slice), bytearray()
        first = not self._encoded_bytes
        self._encoded_bytes += len(encoded)
        try:
            self._codec.feed(encoded, self._count)
        except OverCap:
            self.readable = False
        except (zlib.error, brotli.error, zstandard.ZstdError):
            # Bytes that were never encoded although the header says so (a rewritten answer) are read as
            # they are; a body that breaks later keeps what was decoded before the break.
            if first and not self._decoded_bytes and encoded.lstrip()[:1] in (b"{", b"[", b"d", b"e", b":"):
                self._codec = _Plain()
                self._sink(encoded)

    def _count(self, piece: bytes) -> None:
        self._decoded_bytes += len(piece)
        allowed = max(RATIO_FROM_BYTES, self._encoded_bytes * RATIO_MAX)
        if self._decoded_bytes > min(DECODED_BYTES_MAX, allowed):
            raise OverCap
        self._sink(piece)


class _Plain:
    """Bytes that turned out not to be encoded."""

    def feed(self, encoded: bytes, sink: Sink) -> None:
        sink(encoded)
