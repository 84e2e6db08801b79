"""The AWS event stream: binary frames with lengths and CRCs, unwrapped into the JSON texts or the bytes they carry.

A frame is: its length, the length of its headers, the CRC of these two (four bytes each, big-endian), headers, payload,
the CRC of all before. A broken frame is left out; where the lengths can't be trusted, the next frame is found again
by its own. https://smithy.io/2.0/aws/amazon-eventstream.html
"""

import re
from itertools import chain
from zlib import crc32

import msgspec

from metering.core.dialects.framing import Framing, sniff
from metering.core.dialects.windows import Kept, is_prelude

_PRELUDE_BYTES, _CRC_BYTES = 12, 4
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
    head, corrupt = _payloads(kept.head, 0)
    tail: list[bytes] = []
    if kept.dropped:
        tail, corrupt_tail = _payloads(kept.tail, _find_frame(kept.tail, 0))
        corrupt = corrupt or corrupt_tail
    failed = any(mark in text for mark in _FAILURES for text in (kept.head, kept.tail))
    if _OPAQUE in kept.head[:256]:
        opaque = Kept(b"".join(head), b"".join(tail), kept.dropped)
        return Unwrapped(opaque, sniff(opaque.head, ""), corrupt, failed)
    for texts in (head, tail):
        for number, text in enumerate(texts):
            if b"\n" in text:
                texts[number] = text.replace(b"\n", b" ")
    joined = b"\n".join(head)
    if kept.dropped:
        return Unwrapped(
            Kept(joined + b"\n", b"\n".join(chain((b"",), tail)), kept.dropped), Framing.NDJSON, corrupt, failed
        )
    return Unwrapped(Kept(joined, b"", 0), Framing.NDJSON, corrupt, failed)


def _payloads(text: bytes, at: int) -> tuple[list[bytes], bool]:
    """The payloads of the frames from `at` on, and whether a broken one was left out. The last may be unfinished."""
    payloads, corrupt, length = [], False, len(text)
    while at + _PRELUDE_BYTES <= length:
        end = at + int.from_bytes(text[at : at + 4])
        body_end = end - _CRC_BYTES
        if end <= length and crc32(text[at:body_end]) == int.from_bytes(text[body_end:end]) and end > at:
            start = at + _PRELUDE_BYTES + int.from_bytes(text[at + 4 : at + 8])
            payloads.append(text[start:body_end])
            at = end
            continue
        if not is_prelude(text, at):
            end = _find_frame(text, at + 1)
        elif end > length:
            break
        corrupt, at = True, max(end, at + _PRELUDE_BYTES)
    return payloads, corrupt


def _find_frame(text: bytes, start: int) -> int:
    """Where the next frame begins, or the end of `text`."""
    places = (match.start() for match in _MAYBE_PRELUDE.finditer(text, start))
    return next((at for at in places if is_prelude(text, at)), len(text))
