"""Two parsers that had no part in the relay's decisions about a body: what do they make of a connection's bytes?

h11 is strict and pure Python; llhttp is what Node and uvicorn read with. Fed the same bytes, both must find the
requests that were meant.
"""

from typing import Any, Protocol

import h11
import httptools
import msgspec

HEAD_BYTES_MAX = 256 * 1024


class Seen(msgspec.Struct, frozen=True):
    """A complete request, as a server reads it."""

    method: bytes
    target: bytes
    body: bytes


class Oracle(Protocol):
    """Fed a connection's bytes, gives the requests they complete. Raises for bytes that are no HTTP."""

    def feed(self, data: bytes) -> list[Seen]: ...


class H11:
    """h11 as a server."""

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._request: h11.Request | None = None
        self._body = b""

    def feed(self, data: bytes) -> list[Seen]:
        found = []
        self._connection.receive_data(data)
        while (event := self._connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                self._request, self._body = event, b""
            elif isinstance(event, h11.Data):
                self._body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                found.append(Seen(self._request.method, self._request.target, self._body))
                self._connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                self._connection.send(h11.EndOfMessage())
                self._connection.start_next_cycle()
        return found


class Llhttp:
    """llhttp by way of httptools."""

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpRequestParser(self)
        self._found: list[Seen] = []
        self._target = self._body = b""

    def feed(self, data: bytes) -> list[Seen]:
        self._found = []
        self._parser.feed_data(data)
        return self._found

    def on_message_begin(self) -> None:
        self._target = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._found.append(Seen(self._parser.get_method(), self._target, self._body))


ORACLES: tuple[type[H11] | type[Llhttp], ...] = (H11, Llhttp)
