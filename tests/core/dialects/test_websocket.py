import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core.dialects.websocket import PREFIX_BYTES, Inflater, Messages, read_extensions
from metering.core.dialects.windows import KEPT_BYTES_MAX, Kept
from metering.jobs.reframe import Framer, frame

COMPRESSED, FIN, CLOSE, PING, BINARY = 0x40, 0x80, 8, 9, 2
MASK = b"\x01\x80\xfe\x7f"


class Ear:
    """A reader of one direction, and what it heard."""

    def __init__(self, *, refers: bool | None = None, wanted: bytes = b"") -> None:
        self.heard: list[Kept] = []
        inflater = None if refers is None else Inflater(refers=refers)
        self.messages = Messages(lambda head: head.startswith(wanted), self.heard.append, inflater)

    def hear(self, *wire: bytes) -> list[bytes]:
        for chunk in wire:
            self.messages.feed(chunk)
        return [kept.head for kept in self.heard]


def squeeze(*texts: bytes) -> list[bytes]:
    """Each text as a compressed message's payload; later ones refer to earlier ones."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return [(deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4] for text in texts]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
@pytest.mark.parametrize("mask", [b"", MASK])
def test_a_message_of_any_length(length: int, mask: bytes) -> None:
    text = random.Random(length).randbytes(length)
    wire = frame(text, mask=mask)
    assert Ear().hear(wire, wire) == [text, text]
    assert Ear().hear(*(wire[at : at + 997] for at in range(0, len(wire), 997))) == [text]
    if length < 1000:
        assert Ear().hear(*(bytes([byte]) for byte in wire)) == [text]


def test_control_frames_stand_between_fragments() -> None:
    wire = frame(b"he", flags=0) + frame(b"are you there", opcode=PING) + frame(b"", opcode=0, flags=0)
    assert Ear().hear(wire + frame(b"llo", opcode=0, mask=MASK)) == [b"hello"]


def test_the_agreed_compression_is_undone() -> None:
    first, second = b"the first message", b"the first message, again"
    one, two = squeeze(first, second)
    assert len(two) < len(one)  # it refers to the first
    wires = [frame(one, flags=FIN | COMPRESSED), frame(two[:2], flags=COMPRESSED), frame(two[2:], opcode=0)]
    wires.insert(1, frame(b"plain"))  # not each message need be compressed
    assert Ear(refers=True).hear(*wires) == [first, b"plain", second]


def test_each_message_by_itself_without_takeover() -> None:
    [payload] = squeeze(b"hello hello")
    wire = frame(payload, flags=FIN | COMPRESSED)
    assert Ear(refers=False).hear(wire, wire) == [b"hello hello"] * 2


def test_a_stream_that_ends_with_its_message() -> None:
    """RFC 7692 section 7.2.3.4: a final block, and one byte so that it can be cut off."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    wire = frame(deflate.compress(b"Hello") + deflate.flush() + b"\x00", flags=FIN | COMPRESSED)
    assert Ear(refers=True).hear(wire, wire) == [b"Hello", b"Hello"]


@pytest.mark.parametrize(
    ("header", "server", "client"),
    [
        ("permessage-deflate", True, True),
        ("Permessage-Deflate; server_no_context_takeover", False, True),
        (" permessage-deflate ; client_no_context_takeover; server_max_window_bits=10", True, False),
        ('permessage-deflate; client_max_window_bits="9"; server_no_context_takeover', False, True),
    ],
)
def test_what_was_agreed(header: str, server: bool, client: bool) -> None:
    agreed = read_extensions(header)
    assert agreed is not None
    assert (agreed.server_refers, agreed.client_refers) == (server, client)


def test_nothing_or_something_else_was_agreed() -> None:
    assert read_extensions(" ") is None
    for header in ("x-webkit-deflate-frame", "permessage-deflate, x-other", "permessage-deflater"):
        with pytest.raises(ValueError, match="not known"):
            read_extensions(header)


@pytest.mark.parametrize(
    "wire",
    {
        "a reserved bit": frame(b"x", flags=FIN | 0x20),
        "compressed though not agreed": frame(b"x", flags=FIN | COMPRESSED),
        "an unknown opcode": frame(b"x", opcode=3),
        "an unknown control opcode": frame(b"x", opcode=11),
        "a long ping": frame(b"x" * 126, opcode=PING),
        "a ping in parts": frame(b"x", opcode=PING, flags=0),
        "a continuation of nothing": frame(b"x", opcode=0),
        "a message inside a message": frame(b"x", flags=0) + frame(b"y"),
        "a length of 2^63": b"\x81\x7f\x80" + bytes(7),
        "no frames at all": b"GET / HTTP/1.1\r\n\r\n",
    }.values(),
    ids=lambda wire: wire[:4].hex(),
)
def test_what_breaks_the_protocol_ends_the_reading(wire: bytes) -> None:
    ear = Ear()
    assert ear.hear(frame(b"before") + wire, frame(b"after")) == [b"before"]
    assert ear.messages.done
    assert ear.messages.close_code is None


@pytest.mark.parametrize("damage", [b"\xff" * 30, b"\x00" * 30])
def test_what_does_not_inflate_ends_the_reading(damage: bytes) -> None:
    ear = Ear(refers=True)
    assert ear.hear(frame(damage, flags=FIN | COMPRESSED), frame(b"after")) == []
    assert ear.messages.done


@pytest.mark.parametrize(
    ("payload", "code"), [(b"", 1005), (b"\x03", 1005), (b"\x03\xe8", 1000), (b"\x03\xf3why not", 1011)]
)
def test_a_close_ends_it_and_says_why(payload: bytes, code: int) -> None:
    ear = Ear()
    wire = frame(payload, opcode=CLOSE, mask=MASK)
    ear.hear(*(bytes([byte]) for byte in wire), frame(b"after"))
    assert (ear.messages.done, ear.messages.close_code, ear.heard) == (True, code, [])


def test_a_bomb_ends_the_reading() -> None:
    [payload] = squeeze(bytes(64 << 20))
    wire = frame(payload, flags=FIN | COMPRESSED)
    ear = Ear(refers=True)
    tracemalloc.start()
    ear.hear(wire)
    assert tracemalloc.get_traced_memory()[1] < 4 * KEPT_BYTES_MAX
    tracemalloc.stop()
    assert ear.messages.done


def test_a_message_that_is_not_wanted_is_not_kept() -> None:
    ear = Ear(wanted=b"{")
    sound = random.Random(1).randbytes(1 << 20)
    assert ear.hear(frame(b"~" + sound, opcode=BINARY) + frame(b"{}") + frame(b"no")) == [b"{}"]
    long = b"{" + sound
    ear.hear(frame(long))
    assert (ear.heard[-1].head, ear.heard[-1].dropped > 0) == (long[: len(ear.heard[-1].head)], True)
    assert long.endswith(ear.heard[-1].tail)


def test_a_message_without_an_end_is_bounded() -> None:
    ear = Ear()
    piece = bytes(1 << 16)
    tracemalloc.start()
    for _ in range(200):
        ear.hear(frame(piece, opcode=0 if ear.messages.in_message else 1, flags=0))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 2 * KEPT_BYTES_MAX


TEXTS = st.lists(st.binary(max_size=3 * PREFIX_BYTES), max_size=6)


@given(TEXTS, st.integers(0, 2**32), st.booleans(), st.booleans(), st.booleans())
def test_any_framing_reads_the_same(texts: list[bytes], seed: int, compresses: bool, refers: bool, masks: bool) -> None:
    framer = Framer(random.Random(seed), compresses=compresses, refers=refers, masks=masks)
    ear = Ear(refers=refers if compresses else None)
    assert ear.hear(*(chunk for text in texts for chunk in framer.chunks(text))) == texts


@given(st.lists(st.binary(max_size=40), max_size=6), st.sampled_from([None, True, False]))
def test_any_bytes_break_nothing(chunks: list[bytes], refers: bool | None) -> None:
    Ear(refers=refers).hear(*chunks)
