"""One HTTP exchange as both its ends will play it, and what is known beforehand about how it must end."""

from dataclasses import dataclass
from typing import Literal

End = Literal["keep", "eof", "reset"]


@dataclass(frozen=True)
class Request:
    """What the client does."""

    method: str
    pieces: tuple[bytes, ...]  # written one by one
    head_bytes: int  # of their sum; the rest is the body as it is framed
    version: str
    keeps: bool  # whether the client wants the connection to stay
    expects: bool  # 100-continue
    waits_after: int | None = None  # pieces after which it waits for the first byte of an answer
    stops: bool = False  # if that answer is a final one, the rest of the body is not sent
    half_closes: bool = False

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def body(self) -> bytes:
        return self.raw[self.head_bytes :]


@dataclass(frozen=True)
class Answer:
    """What the upstream does."""

    pieces: tuple[bytes, ...]  # written one by one: interim heads, head and body, perhaps cut
    framing: Literal["length", "chunked", "open", "none"]
    status: int
    end: End  # what the upstream does with its connection afterwards
    whole: bool = True  # not cut
    early: int | None = None  # pieces that are sent before the request's body is read; None: the body comes first
    reads_on: bool = True  # after an early piece the body is read, or it never is


@dataclass(frozen=True)
class Exchange:
    """A request, its answer, and the row that must come of them."""

    trace_id: str
    request: Request
    answer: Answer
    dialect: str
    model: str | None
    tokens: tuple[int, int] | None  # what the answer tells when it is whole
    failed: bool  # status 400 or above, or the answer itself says so


@dataclass(frozen=True)
class Conversation:
    """Exchanges on one client connection, one after the other. Made again from `seed` and `number`."""

    seed: int
    number: int
    exchanges: tuple[Exchange, ...]
    pipelined: bool  # all requests are sent before the first answer is read
