"""The AWS event stream: binary frames with lengths and CRCs, unwrapped into the JSON texts or the bytes they carry.

A frame is: its length, the length of its headers, the CRC of these two (four bytes each, big-endian), headers, payload,
the CRC of all before. A broken frame is left out; where the lengths can't be trusted, the next frame is found again
by its own. https://smithy.io/2.0/aws/amazon-eventstream.html
"""

import re
from struct import Struct
from zlib import crc32

import msgspec

from metering.core.dialects.framing import Framing, sniff
from metering.core.dialects.windows import Kept, is_prelude

_PRELUDE_BYTES, _CRC_BYTES, _FRAME_BYTES_MIN = 12, 4, 16
_HEADERS_BYTES = 256  # where the headers that matter stand
_read_lengths, _read_crc = Struct(">II").unpack_from, Struct(">I").unpack_from
# A frame has at most 16 MiB, its headers 128 KiB: where one may begin. Texts hold no zero bytes.
_MAYBE_PRELUDE = re.compile(rb"(?=\x00.{3}\x00[\x00\x01])", re.DOTALL)
_FAILURES = (b":message-type\x07\x00\x09exception", b":message-type\x07\x00\x05error")
# SageMaker cuts what a container streams wherever it likes; Bedrock's frames are JSON texts.
_OPAQUE = b"PayloadPart"


class Unwrapped(msgspec.Struct, frozen=True):
    """What a stream's frames carried, framed anew: `framing` is that of `kept`."""

    kept: Kept
    framing: Framing
    corrupt: bool  # a frame was left out
    failed: bool  # it told an exception


def unwrap(kept: Kept) -> Unwrapped:
    """The payloads of the whole frames in what was kept of an event stream."""
    head, last, corrupt = _payloads(kept.head, 0)
    tail: list[bytes] = []
    if kept.dropped:
        tail, last, corrupt_tail = _payloads(kept.tail, _find_frame(kept.tail, 0))
        corrupt = corrupt or corrupt_tail
    failed = any(mark in last for mark in _FAILURES)  # nothing comes after it
    if _OPAQUE in kept.head[:_HEADERS_BYTES]:
        opaque = Kept(b"".join(head), b"".join(tail), kept.dropped)
        return Unwrapped(opaque, sniff(opaque.head, ""), corrupt, failed)
    lines = _lines(head)
    if kept.dropped:
        return Unwrapped(Kept(lines + b"\n", b"\n" + _lines(tail), kept.dropped), Framing.NDJSON, corrupt, failed)
    return Unwrapped(Kept(lines, b"", 0), Framing.NDJSON, corrupt, failed)


def _lines(texts: list[bytes]) -> bytes:
    """JSON texts, a line each."""
    lines = b"\n".join(texts)
    if lines.count(b"\n") < len(texts):
        return lines
    return b"\n".join(text.replace(b"\n", b" ") for text in texts)


def _payloads(text: bytes, at: int) -> tuple[list[bytes], bytes, bool]:
    """The payloads of the frames from `at` on, how the last begins, and whether a broken one was left out.

    What is unfinished at the end is not broken.
    """
    payloads, corrupt, last, length = [], False, 0, len(text)
    while at + _FRAME_BYTES_MIN <= length:
        total, headers = _read_lengths(text, at)
        end = at + total
        body_end = end - _CRC_BYTES
        if at < body_end and end <= length and crc32(text[at:body_end]) == _read_crc(text, body_end)[0]:
            payloads.append(text[at + _PRELUDE_BYTES + headers : body_end])
            last, at = at, end
        elif not is_prelude(text, at):
            corrupt, at = True, _find_frame(text, at + 1)
        elif end > length:
            break
        else:
            corrupt, at = True, max(end, at + _PRELUDE_BYTES)
    return payloads, text[last : last + _HEADERS_BYTES], corrupt


def _find_frame(text: bytes, start: int) -> int:
    """Where the next frame begins, or the end of `text`."""
    places = (match.start() for match in _MAYBE_PRELUDE.finditer(text, start))
    return next((at for at in places if is_prelude(text, at)), len(text))
