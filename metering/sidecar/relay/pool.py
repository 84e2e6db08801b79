"""Keep-alive connections to one destination: lent to one call at a time, bounded, dialled when there is none."""

import asyncio
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING

from metering.sidecar.config import Limits
from metering.sidecar.logline import log
from metering.sidecar.relay.response_head import ResponseHead
from metering.sidecar.relay.routes import Destination
from metering.sidecar.relay.upstream import UpstreamConnection

if TYPE_CHECKING:
    from metering.sidecar.relay.exchange import Exchange

COMPLAIN_SECONDS = 1.0


class Pool:
    """The connections of one worker to one destination."""

    def __init__(self, destination: Destination, limits: Limits) -> None:
        self.destination = destination
        self.head_bytes = limits.head_bytes
        self._limits = limits
        self._idle: list[UpstreamConnection] = []  # the last one used is the first one lent: it is the freshest
        self._waiting: deque[Exchange] = deque()
        self._dialling: set[asyncio.Task[None]] = set()
        self._complain_at = 0.0
        self.connections = 0  # open or being dialled
        self.last_answer: ResponseHead | None = None  # the next one's head is likely much the same

    def take(self, call: "Exchange", *, once: bool) -> UpstreamConnection | None:
        """A pooled connection, or None: then the call hears of `attached` or `fail`.

        `once`: the call's bytes can't be sent again, so a connection whose end has come but was not read yet won't do.
        """
        idle = self._idle
        while idle:
            connection = idle.pop()
            if not connection.is_closing() and not (once and connection.has_news()):
                return connection
        if self.connections < self._limits.upstream_connections:
            self.dial(call)
        else:
            self._waiting.append(call)  # bounded: a waiting call holds one of the client connections
        return None

    def put(self, connection: UpstreamConnection) -> None:
        """Take a connection back, its answer read to the end."""
        connection.renew()
        if self._waiting and (call := self._next_waiting()) is not None:
            call.attached(connection)
        else:
            self._idle.append(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection is gone."""
        self.connections -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if (call := self._next_waiting()) is not None:
            self.dial(call)

    def dial(self, call: "Exchange") -> None:
        """Open a connection for `call`. The only task a call can cause."""
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._dial(call))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    def sweep(self, idle_sweeps_max: float) -> None:
        """Close connections nobody borrowed for that many sweeps."""
        for connection in self._idle.copy():
            connection.idle_sweeps += 1
            if connection.idle_sweeps == 1:
                connection.settle()
            if connection.idle_sweeps > idle_sweeps_max:
                self._idle.remove(connection)
                connection.abort()

    def close(self) -> None:
        """Close what is idle and stop dialling."""
        for task in self._dialling:
            task.cancel()
        while self._idle:
            self._idle.pop().abort()

    async def _dial(self, call: "Exchange") -> None:
        destination = self.destination
        try:
            async with asyncio.timeout(self._limits.dial_seconds):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: UpstreamConnection(self),
                    destination.host,
                    destination.port,
                    ssl=destination.trust,
                    server_hostname=destination.host if destination.tls else None,
                )
        except TimeoutError:
            self._failed(call, 504, f"did not accept a connection within {self._limits.dial_seconds:g} s", "timeout")
        except ssl.SSLCertVerificationError as error:
            self._failed(call, 502, "has a TLS certificate that is not trusted; set ca_file on its route", str(error))
        except (OSError, UnicodeError) as error:
            self._failed(call, 502, "can't be reached; check the route's upstream and that it is up", str(error))
        else:
            if call.done:
                self.put(connection)
            else:
                call.attached(connection)

    def _failed(self, call: "Exchange", status: int, what: str, error: str) -> None:
        self.connections -= 1
        if time.monotonic() >= self._complain_at:  # an outage meets every call
            self._complain_at = time.monotonic() + COMPLAIN_SECONDS
            log("dial_failed", upstream=self.destination.name, error=error)
        if not call.done:
            call.fail(status, f"The model's server {what}.")
        if (waiting := self._next_waiting()) is not None:
            self.dial(waiting)

    def _next_waiting(self) -> "Exchange | None":
        while self._waiting:
            call = self._waiting.popleft()
            if not call.done:
                return call
        return None
