"""What all connections of one worker share, and the sweep that bounds their waiting."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from metering.core.dialects import Allowance
from metering.sidecar.call_counts import CallCounts
from metering.sidecar.config import SidecarConfig
from metering.sidecar.control import Ending
from metering.sidecar.relay.admission import Admission
from metering.sidecar.relay.downstream import Downstream
from metering.sidecar.relay.estimates import Estimates
from metering.sidecar.relay.journal import Journal
from metering.sidecar.relay.pool import Pool
from metering.sidecar.relay.refusals import Refusals
from metering.sidecar.relay.routes import Destination, Route
from metering.sidecar.spool.writer import SpoolWriter
from metering.sidecar.tally import Tally

if TYPE_CHECKING:
    from metering.sidecar.relay.aws_signing import Signer
    from metering.sidecar.relay.exchange import Exchange

SWEEP_SECONDS = 1.0
IDLE_GRACE_SECONDS = 0.5
SETTLE_SECONDS = 3.0  # what calls get that ended and are being counted


class Relay:
    """One worker's relay. Give `Downstream(relay)` to a server; run `sweep` every `sweep_seconds`.

    Time-outs cost calls nothing: instead of a timer each, the sweep looks once a second whether bytes moved.
    """

    def __init__(
        self,
        config: SidecarConfig,
        spool: SpoolWriter,
        sweep_seconds: float = SWEEP_SECONDS,
        *,
        estimates: bool = False,
    ) -> None:
        """`estimates`: an estimator runs beside this worker."""
        self.limits = config.limits
        self.sweep_seconds = sweep_seconds
        self.tally = Tally()
        self.calls = CallCounts(self.tally)
        asked = Estimates(config.estimate, config.spool.dir, self.tally) if estimates else None
        self.journal = Journal(spool, config.spool, self.tally, asked)
        self.admission = Admission(config)
        if estimates:
            self.admission.table.allow(Allowance(config.estimate.kept_bytes))
        self.refusals = Refusals()
        self.draining = False
        self.signers = _open_signers(self.admission.table.routes)
        self._spool = spool
        self._clients: set[Downstream] = set()
        self._detached: dict[Exchange, int] = {}  # calls read on after their client left → sweeps since
        self.pools: dict[Destination, Pool] = {
            route.destination: Pool(route.destination, config.limits) for route in self.admission.table.routes
        }

    def accept(self) -> Downstream:
        """A protocol for a new client connection."""
        return Downstream(self)

    # ── what connections and calls report ─────────────────────────────────────────────────────────────

    def welcome(self, client: Downstream) -> bool:
        """A client connected; whether there is room for it."""
        self._clients.add(client)
        return len(self._clients) <= self.limits.connections

    def farewell(self, client: Downstream) -> None:
        """A client's connection closed."""
        self._clients.discard(client)

    def drain(self, call: "Exchange") -> None:
        """A call goes on without its client."""
        self._detached[call] = 0

    def ended(self, call: "Exchange") -> None:
        """A forwarded call is over."""
        self.tally.calls_in_flight -= 1
        if call.drained_from is not None:
            self._detached.pop(call, None)

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────

    async def sweep_forever(self) -> None:
        """Look after everything that waits, until cancelled."""
        while True:
            await asyncio.sleep(self.sweep_seconds)
            self.sweep()

    def sweep(self) -> None:
        """Look once."""
        for client in tuple(self._clients):
            client.sweep()
        for call, sweeps in tuple(self._detached.items()):
            self._detached[call] = sweeps + 1
            if (sweeps + 1) * self.sweep_seconds > self.limits.abort_drain_seconds:
                call.client_gave_up()
        for pool in self.pools.values():
            pool.sweep(self.limits.upstream_idle_seconds / self.sweep_seconds)

    def count(self) -> Tally:
        """The counters, with this moment's gauges."""
        tally, stats = self.tally, self._spool.measure()
        tally.client_connections = len(self._clients)
        tally.upstream_connections = sum(pool.connections for pool in self.pools.values())
        tally.spool_degraded, tally.spool_full = int(stats.degraded), int(stats.full)
        tally.spool_corrupt_records, tally.spool_interrupted_calls = stats.corrupt, stats.interrupted
        return tally

    # ── stopping ──────────────────────────────────────────────────────────────────────────────────────

    async def stop(self, drain_seconds: float, ending: Ending | None = None) -> None:
        """Finish what is in flight, for that long at most; what is left is recorded as interrupted.

        An idle connection may have a request under way to us: from when it became idle it gets a moment, if `ending`
        is patient half the time, to send one more, whose answer says `Connection: close`, before it is closed.
        """
        self.draining = True
        ending = ending or Ending()
        loop = asyncio.get_running_loop()
        began, idle_since = loop.time(), dict[Downstream, float]()
        while (self._clients or self._detached) and loop.time() < began + drain_seconds and not ending.hurried:
            grace = min(drain_seconds if ending.patient else IDLE_GRACE_SECONDS, drain_seconds / 2)
            for client in tuple(self._clients):
                if client.call is not None:
                    idle_since.pop(client, None)
                elif loop.time() > idle_since.setdefault(client, loop.time()) + grace:
                    client.drain()
            await asyncio.sleep(min(0.02, drain_seconds))
        for call in (*self._detached, *(client.call for client in self._clients)):
            if call is not None:
                call.interrupt()
        self.journal.flush()
        await self.journal.settle(0 if ending.hurried else SETTLE_SECONDS)
        for pool in self.pools.values():
            pool.close()
        for signer in self.signers.values():
            signer.threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.sleep(0)  # the last writes leave


def _open_signers(routes: Sequence[Route]) -> "dict[Route, Signer]":
    """What signs, by route. botocore takes memory and time to import, and few workers need it."""
    signed = [(route, route.config.sign) for route in routes if route.config.sign]
    if not signed:
        return {}
    from metering.sidecar.relay.aws_signing import THREADS, Signer  # noqa: PLC0415

    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="sign")
    return {route: Signer(signing, route.config.upstream, threads) for route, signing in signed}
