"""Recorded WebSocket messages put into frames anew: whole and plain, or in any way that the RFCs allow.

A recording holds messages, not bytes, so every reading of it is of frames that were made here.
"""

import random
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec

_FIN, _COMPRESSED, _MASKED, _TEXT, _BINARY, _PING = 0x80, 0x40, 0x80, 1, 2, 9


class Message(msgspec.Struct, frozen=True):
    """One recorded message: `data` is its text, or the JSON it held."""

    direction: str | None = None  # "sent" by the client, or "received"
    data: Any = None

    @property
    def text(self) -> bytes:
        """What went over the wire."""
        return self.data.encode() if isinstance(self.data, str) else msgspec.json.encode(self.data)


def read_messages(body: bytes) -> list[Message]:
    """The messages of a recording's body. `DecodeError`."""
    messages = [msgspec.json.decode(line, type=Message) for line in body.splitlines() if line.strip()]
    return [message for message in messages if message.direction is not None and message.data is not None]


def frame(payload: bytes, *, opcode: int = _TEXT, flags: int = _FIN, mask: bytes = b"") -> bytes:
    """One frame."""
    length = len(payload)
    head = bytes([flags | opcode])
    masked = _MASKED if mask else 0
    if length < 126:
        head += bytes([masked | length])
    elif length < 1 << 16:
        head += bytes([masked | 126]) + length.to_bytes(2)
    else:
        head += bytes([masked | 127]) + length.to_bytes(8)
    if mask:
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return head + mask + payload


class Framer:
    """Frames one direction's messages as `dice` will. `refers`: compressed messages may refer to earlier ones."""

    def __init__(self, dice: random.Random, *, compresses: bool, refers: bool, masks: bool) -> None:
        self._dice = dice
        self._compresses, self._refers, self._masks = compresses, refers, masks
        self._deflate: Any = None

    def chunks(self, text: bytes) -> Iterator[bytes]:
        """The bytes of one message, as they come."""
        wire = b"".join(self._frames(text))
        cuts = sorted(self._dice.choices(range(len(wire) + 1), k=self._dice.randint(0, 5)))
        for start, end in pairwise([0, *cuts, len(wire)]):
            yield wire[start:end]

    def _frames(self, text: bytes) -> Iterator[bytes]:
        dice = self._dice
        squeezed = self._compresses and dice.random() < 0.8
        payload = self._squeeze(text) if squeezed else text
        opcode = dice.choice((_TEXT, _BINARY))
        cuts = sorted(dice.choices(range(len(payload) + 1), k=dice.choice((0, 0, 1, 4))))
        bounds = [0, *cuts, len(payload)]
        for number, (start, end) in enumerate(pairwise(bounds)):
            flags = _FIN if number == len(bounds) - 2 else 0
            if number == 0 and squeezed:
                flags |= _COMPRESSED
            yield frame(payload[start:end], opcode=0 if number else opcode, flags=flags, mask=self._mask())
            if dice.random() < 0.1:
                yield frame(dice.randbytes(dice.randint(0, 125)), opcode=_PING, mask=self._mask())

    def _mask(self) -> bytes:
        return self._dice.randbytes(4) if self._masks else b""

    def _squeeze(self, text: bytes) -> bytes:
        if self._deflate is None or not self._refers:
            self._deflate = zlib.compressobj(1, zlib.DEFLATED, -self._dice.randint(9, 15))
        squeezed: bytes = self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return squeezed.removesuffix(b"\x00\x00\xff\xff")
