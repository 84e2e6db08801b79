"""Answers that are small on the wire and huge when decoded. What is repeated is encoded once."""

import gzip
import zlib

import brotli  # type: ignore[import-untyped]  # ships no types
import msgspec
import zstandard

from tests.sidecar.rig import ANSWER, USAGE

MIB = 1024 * 1024
_ZEROS = b"0" * MIB
_FRONT, _BACK = b'{"id":"c","object":"chat.completion","model":"m",' + USAGE + b',"x":"', b'"}'


class Bomb(msgspec.Struct, frozen=True, kw_only=True):
    """`body` as sent, with `encoding`; `ratio` decoded to encoded bytes; `reported`: small enough to be read."""

    name: str
    encoding: str
    body: bytes
    ratio: float
    reported: bool = False


def _deflate(megabytes: int, window_bits: int) -> bytes:
    encoder = zlib.compressobj(9, zlib.DEFLATED, window_bits)
    return b"".join(encoder.compress(_ZEROS) for _ in range(megabytes)) + encoder.flush()


def _brotli(megabytes: int) -> bytes:
    encoder = brotli.Compressor(quality=5)
    pieces: list[bytes] = [
        encoder.process(_FRONT),
        *(encoder.process(_ZEROS) for _ in range(megabytes)),
        encoder.finish(),
    ]
    return b"".join(pieces)


def _zstd(megabytes: int) -> bytes:
    encoder = zstandard.ZstdCompressor(level=3).compressobj()
    return b"".join(encoder.compress(_ZEROS) for _ in range(megabytes)) + encoder.flush()


def _bomb(name: str, encoding: str, body: bytes, megabytes: int) -> Bomb:
    return Bomb(name=name, encoding=encoding, body=body, ratio=megabytes * MIB / len(body))


def make_bombs() -> list[Bomb]:
    """About a second's work."""
    member, frame = _deflate(32, 31), _zstd(128)
    large = _FRONT + b"0" * 3 * MIB + _BACK
    return [
        _bomb("gzip", "gzip", member, 32),
        _bomb("gzip by its other name", "x-gzip", member, 32),
        _bomb("gzip of many members", "gzip", member * 32, 1024),
        _bomb("gzip behind an honest member", "gzip", gzip.compress(ANSWER) + member * 8, 256),
        _bomb("gzip in gzip", "gzip", gzip.compress(member * 32), 1024),
        _bomb("gzip in gzip, both said", "gzip, gzip", gzip.compress(member * 32), 1024),
        _bomb("deflate", "deflate", _deflate(32, 15), 32),
        _bomb("deflate without its header", "deflate", _deflate(32, -15), 32),
        _bomb("brotli", "br", _brotli(64), 64),
        _bomb("zstd", "zstd", frame, 128),
        _bomb("zstd of many frames", "zstd", frame * 64, 64 * 128),
        Bomb(name="large and honest", encoding="gzip", body=gzip.compress(large), ratio=1, reported=True),
    ]
