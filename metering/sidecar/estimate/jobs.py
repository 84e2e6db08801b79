"""What a worker asks the estimator and what it hears: length-prefixed MessagePack over a Unix socket.

A worker imports this, so there is nothing here but the words.
"""

from collections.abc import Iterator

import msgspec

from metering.core.usage import Usage

SOCKET_NAME = "estimator.sock"  # in the spool's folder, which only the sidecar's account enters
MESSAGE_BYTES_MAX = 2 * 1024**2  # more than the ends of a request and of an answer that a worker keeps
_LENGTH_BYTES = 4


class Text(msgspec.Struct, frozen=True, array_like=True):
    """Bytes of a body: all of it in `head` if `dropped` is 0, else its two ends. Never in a log or an error."""

    head: bytes = b""
    tail: bytes = b""
    dropped: int = 0
    encoding: str = ""  # content-encoding that is still on it

    def __repr__(self) -> str:
        return f"<{len(self.head) + len(self.tail)} bytes>"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A call of which at least one side was not told."""

    number: int = 0  # given by who asks, so that the answer finds it
    dialect: str
    model: str
    route: str  # its path or host
    request: Text
    answer: Text
    content_type: str
    usage: Usage | None = None  # what the provider told


class Estimate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a job: a usage and what counted it, or why there is none."""

    number: int
    usage: Usage | None = None
    estimator: str | None = None
    refused: str = ""  # a word for metrics first: see `REFUSALS`


_encode = msgspec.msgpack.Encoder().encode
decode_job = msgspec.msgpack.Decoder(Job).decode
decode_estimate = msgspec.msgpack.Decoder(Estimate).decode


def encode(message: Job | Estimate) -> bytes:
    """The message as it goes over the socket."""
    body = _encode(message)
    return len(body).to_bytes(_LENGTH_BYTES) + body


class Messages:
    """Cuts what comes over the socket into messages. `ValueError` for one that is too long."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes; give the messages that are whole."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH_BYTES:
            length = int.from_bytes(self._buffer[:_LENGTH_BYTES])
            if length > MESSAGE_BYTES_MAX:
                raise ValueError("a message is longer than any may be")
            end = _LENGTH_BYTES + length
            if len(self._buffer) < end:
                return
            message = bytes(self._buffer[_LENGTH_BYTES:end])
            del self._buffer[:end]
            yield message
