"""Between supervisor and worker: a socket pair. `metrics` is answered with the counters, its end with draining.

A worker whose supervisor was killed sees the socket close and drains, so no orphan holds the port.
"""

import asyncio
from collections.abc import Callable
from typing import cast

import msgspec

from metering.sidecar.tally import Tally

READY = b"ready\n"
ASK = b"metrics\n"


class WorkerControl(asyncio.Protocol):
    """The worker's end."""

    def __init__(self, count: Callable[[], Tally], stop: Callable[[], None]) -> None:
        self._count = count
        self._stop = stop
        self._encode = msgspec.json.Encoder().encode
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say that this worker serves."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(READY)

    def data_received(self, data: bytes) -> None:
        """Answer every question."""
        if self._transport is not None:
            for _ in range(data.count(ASK)):
                self._transport.write(self._encode(self._count()) + b"\n")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - its end is all that matters
        """The supervisor is gone."""
        self._stop()
