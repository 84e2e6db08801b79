"""Between supervisor and worker: a socket pair, one word or one JSON tally a line.

A worker whose supervisor was killed sees the socket close and drains, so no orphan holds the port.
"""

import asyncio
from collections.abc import Callable
from typing import cast

import msgspec

from metering.sidecar.tally import Tally

READY = b"ready\n"
ASK = b"metrics\n"  # say your tally
RETIRE = b"retire\n"  # a successor serves: end, without haste
HURRY = b"hurry\n"  # end now


class Ending:
    """Whether and how a worker is to end. It can only become more urgent."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.patient = False  # idle clients may take their time: somebody else takes the new ones
        self.hurried = False  # calls in flight are interrupted

    def retire(self) -> None:
        """Finish what is here; new connections go to a successor."""
        self.patient = not self.begun.is_set()
        self.begun.set()

    def stop(self) -> None:
        """Finish what is in flight."""
        self.patient = False
        self.begun.set()

    def hurry(self) -> None:
        """Finish nothing more."""
        self.hurried = True
        self.stop()


class WorkerControl(asyncio.Protocol):
    """The worker's end."""

    def __init__(self, count: Callable[[], Tally], ending: Ending) -> None:
        self._count = count
        self._ending = ending
        self._encode = msgspec.json.Encoder().encode
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say that this worker serves."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(READY)

    def data_received(self, data: bytes) -> None:
        """Do as told. Words are short: they arrive whole."""
        for word in data.splitlines(keepends=True):
            if word == ASK:
                self.tell()
            elif word == RETIRE:
                self._ending.retire()
            elif word == HURRY:
                self._ending.hurry()

    def tell(self) -> None:
        """Say the counters."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._encode(self._count()) + b"\n")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - its end is all that matters
        """The supervisor is gone."""
        self._ending.stop()
