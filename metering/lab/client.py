"""One client connection of a replay: a call at a time, kept alive between them."""

import asyncio
import time
from typing import TYPE_CHECKING, cast

import httptools

from metering.lab.tally import Ending

if TYPE_CHECKING:
    from metering.lab.replay import Attempt, Replay


class Connection(asyncio.Protocol):
    """Sends one attempt after the other and tells its replay how each ended."""

    def __init__(self, replay: "Replay") -> None:
        self._replay = replay
        self._transport: asyncio.Transport
        self._attempt: Attempt | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready for a first call."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class doesn't derive from asyncio's
        self._replay.free(self)

    def send(self, attempt: "Attempt", request: bytes) -> None:
        """Send one request; its end is told to the replay."""
        self._attempt = attempt
        self.sent_at = time.monotonic()
        self._parser = httptools.HttpResponseParser(self)  # a fresh one: nothing of the last answer can leak in
        self._transport.write(request)

    def abort(self) -> None:
        """Drop the connection now; a call under way ends as failed."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls back below; an answer nobody asked for or that isn't HTTP drops the line."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_body(self, _body: bytes) -> None:
        """A call that leaves early does so now."""
        if self._attempt and self._attempt.call.leaves_early:
            self._end(Ending.ABORTED)
            self._transport.abort()

    def on_message_complete(self) -> None:
        """The answer is whole."""
        keep_alive = self._parser.should_keep_alive()
        if self._attempt is None:  # left early: already told
            return
        self._end(Ending.COMPLETED if self._parser.get_status_code() < 400 else Ending.FAILED)
        if keep_alive:
            self._replay.free(self)
        else:
            self._transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        """A call under way has failed."""
        if self._attempt is not None:
            self._end(Ending.FAILED)
        self._replay.lost(self)

    def _end(self, ending: Ending) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._replay.end(self, attempt, ending, self._parser.get_status_code())
