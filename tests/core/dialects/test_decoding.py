import gzip
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]  # ships no types
import pytest
import zstandard

from metering.core.dialects import Reading, classify, open_reader
from metering.core.dialects.decoding import PIECE_BYTES, Decoding
from metering.core.usage import UsageSource

CHAT = classify("POST", "/v1/chat/completions")
BODY = b'{"choices":[{"message":"%s"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'


def _raw_deflate(body: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return encoder.compress(body) + encoder.flush()


def _zstd(body: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(body)


def _two_members(body: bytes) -> bytes:
    return gzip.compress(body[:10]) + gzip.compress(body[10:])


ENCODERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    (" GZIP ", gzip.compress),
    ("x-gzip", _two_members),
    ("deflate", zlib.compress),
    ("deflate", _raw_deflate),
    ("br", brotli.compress),
    ("zstd", _zstd),
    ("identity", bytes),
    ("gzip", bytes),  # the header says so, the bytes do not
    ("br", bytes),
]


def _read(encoding: str, *chunks: bytes) -> Reading:
    reader = open_reader(CHAT, status=200, content_type="application/json", content_encoding=encoding)
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish()


@pytest.mark.parametrize(("encoding", "encode"), ENCODERS)
@pytest.mark.parametrize("text", [b"short", b"long " * 100_000], ids=["short", "long"])
def test_encodings_are_undone_on_the_copy(encoding: str, encode: Callable[[bytes], bytes], text: bytes) -> None:
    encoded = encode(BODY % text)
    cut = len(encoded) // 3
    reading = _read(encoding, encoded[:cut], encoded[cut : 2 * cut], encoded[2 * cut :])
    assert reading.usage is not None
    assert (reading.usage.input_tokens, reading.usage.output_tokens) == (3, 4)


@pytest.mark.parametrize("encode", [gzip.compress, zlib.compress, _raw_deflate, brotli.compress, _zstd])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "unheard-of", "gzip, br"])
def test_broken_and_mislabelled_bodies_are_unknown(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    broken = encode(BODY % b"x")[:-30]
    reading = _read(encoding, broken, b"\x00\xff" * 50)
    assert (reading.usage, reading.usage_source) == (None, UsageSource.UNKNOWN)


def test_what_came_before_a_cut_is_read() -> None:
    start = b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":9}}}\n\n'
    encoder = zlib.compressobj(wbits=31)
    encoded = encoder.compress(start) + encoder.flush(zlib.Z_SYNC_FLUSH)
    messages = classify("POST", "/v1/messages")
    reader = open_reader(messages, status=200, content_type="text/event-stream", content_encoding="gzip")
    reader.feed(encoded)
    reading = reader.finish()
    assert reading.usage is not None
    assert (reading.usage.input_tokens, reading.usage_source) == (9, UsageSource.PARTIAL)


def _brotli(body: bytes) -> bytes:
    encoded: bytes = brotli.compress(body, quality=1)
    return encoded


@pytest.mark.parametrize(("encoding", "encode"), [("gzip", zlib.compress), ("br", _brotli), ("zstd", _zstd)])
def test_a_bomb_is_given_up_before_it_grows(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    pieces: list[int] = []
    decoding = Decoding(encoding, lambda piece: pieces.append(len(piece)))
    bomb = encode(bytes(20_000_000))
    for start in range(0, len(bomb), 1000):
        decoding.feed(bomb[start : start + 1000])
    decoding.finish()
    assert not decoding.readable
    assert sum(pieces) < 15_000_000
    assert max(pieces) <= 4 * PIECE_BYTES
    assert _read(encoding, bomb).usage_source is UsageSource.UNKNOWN


@pytest.mark.parametrize(("encoding", "encode"), [("gzip", zlib.compress), ("br", _brotli), ("zstd", _zstd)])
def test_a_large_encoded_body_is_decoded_as_it_comes(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    decoded = 0

    def count(piece: bytes) -> None:
        nonlocal decoded
        decoded += len(piece)

    decoding = Decoding(encoding, count)
    noise = b"".join(zlib.crc32(n.to_bytes(4, "big")).to_bytes(4, "big") for n in range(60_000))
    decoding.feed(encode(noise))
    assert decoded > len(noise) / 3
    decoding.finish()
    assert (decoded, decoding.readable) == (len(noise), True)
    decoding.feed(b"bytes behind the end")
    decoding.finish()
    assert decoded == len(noise)
