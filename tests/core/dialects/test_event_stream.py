"""AWS event streams: frames of our own making, whole, cut and broken."""

import base64
import json
from itertools import pairwise
from random import Random
from zlib import crc32

import pytest

from metering.core.dialects.event_stream import unwrap
from metering.core.dialects.framing import Framing, Stream, sniff
from metering.core.dialects.windows import HEAD_BYTES, TAIL_BYTES, Kept, Windows


def header(name: str, value: str) -> bytes:
    return bytes([len(name)]) + name.encode() + b"\x07" + len(value).to_bytes(2) + value.encode()


def frame(payload: object, *, kind: str = "chunk", message: str = "event") -> bytes:
    """One frame; bytes are its payload as they are, anything else as JSON."""
    named = header(":event-type" if message == "event" else ":exception-type", kind)
    headers = named + header(":content-type", "application/json") + header(":message-type", message)
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    prelude = (16 + len(headers) + len(text)).to_bytes(4) + len(headers).to_bytes(4)
    body = prelude + crc32(prelude).to_bytes(4) + headers + text
    return body + crc32(body).to_bytes(4)


def wrapped(document: object) -> bytes:
    """A frame as Bedrock's invoke sends it."""
    return frame({"bytes": base64.b64encode(json.dumps(document).encode()).decode(), "p": "abc"})


def _texts(body: bytes) -> tuple[list[bytes], bool, bool]:
    unwrapped = unwrap(Kept(body, b"", 0))
    texts = list(Stream(unwrapped.kept, unwrapped.framing).having(b'"n"'))
    return texts, unwrapped.corrupt, unwrapped.failed


FRAMES = [frame({"n": number}) for number in range(4)]
BODY = b"".join(FRAMES)
TEXTS = [b'{"n": %d}' % number for number in range(4)]


def test_frames_are_unwrapped() -> None:
    assert sniff(BODY, "") is Framing.EVENT_STREAM
    assert sniff(b"", "application/vnd.amazon.eventstream") is Framing.EVENT_STREAM
    assert _texts(BODY) == (TEXTS, False, False)


@pytest.mark.parametrize("end", range(1, len(BODY), 7))
def test_an_unfinished_frame_is_no_broken_one(end: int) -> None:
    texts, corrupt, _ = _texts(BODY[:end])
    assert texts == TEXTS[: end // len(FRAMES[0])]
    assert not corrupt


def test_any_byte_that_is_changed_costs_one_frame_and_is_noticed() -> None:
    length = len(FRAMES[0])
    for at in range(length, 2 * length):
        broken = bytearray(BODY)
        broken[at] ^= 0x21
        assert _texts(bytes(broken)) == ([TEXTS[0], *TEXTS[2:]], True, False), at


def test_bytes_that_are_no_frames_are_passed_over() -> None:
    assert _texts(FRAMES[0] + b"\0\0\0\0\0 noise" * 9 + FRAMES[1]) == (TEXTS[:2], True, False)
    assert _texts(b"\0" * 300) == ([], True, False)


@pytest.mark.parametrize("message", ["exception", "error"])
def test_an_exception_is_a_failure(message: str) -> None:
    assert _texts(FRAMES[0] + frame({"message": "slow down"}, kind="throttlingException", message=message)) == (
        TEXTS[:1], False, True,
    )  # fmt: skip


def test_a_container_streams_bytes_cut_anywhere() -> None:
    sse = b'data: {"n":1}\n\ndata: {"n":2}\n\n'
    body = b"".join(frame(sse[a:b], kind="PayloadPart") for a, b in pairwise([0, 5, 17, len(sse)]))
    unwrapped = unwrap(Kept(body, b"", 0))
    assert (unwrapped.kept.head, unwrapped.framing) == (sse, Framing.SSE)


@pytest.mark.parametrize("large", [None, 0, 60, 119])
def test_of_a_long_stream_both_ends_are_kept(large: int | None) -> None:
    frames = [frame({"n": n, "text": "word " * (9_000 if n == large else 40)}) for n in range(120)]
    body = b"".join(frames)
    dice = Random(7)
    for pieces in (1, 50, 400):
        bounds = sorted({0, len(body), *(dice.randrange(len(body)) for _ in range(pieces))})
        windows = Windows()
        for start, end in pairwise(bounds):
            windows.feed(body[start:end])
        kept = windows.kept()
        assert len(kept.head) <= HEAD_BYTES
        assert len(kept.tail) <= TAIL_BYTES
        assert kept.dropped
        unwrapped = unwrap(kept)
        texts = list(Stream(unwrapped.kept, unwrapped.framing).having(b'"n"'))
        numbers = [json.loads(text)["n"] for text in texts]
        assert numbers[-3:] == [117, 118, 119]
        assert numbers[:1] == ([0] if large != 0 else numbers[:1])
        assert not unwrapped.corrupt
