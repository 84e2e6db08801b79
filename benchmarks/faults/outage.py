"""The campaign `outage`: Postgres is gone for all of the load, and comes back to a backlog."""

import random
import time
from typing import Any

import uvloop

from benchmarks.faults.killers import PostgresKeeper
from benchmarks.faults.kills import CONNECTIONS, tell_traffic
from benchmarks.faults.path import begin, judge, settle
from benchmarks.workshop import Workshop
from metering.lab.books import read_received

DRAIN_SECONDS = 180.0


def run_round(workshop: Workshop, *, seed: int, number: int, kills: int, calls: int) -> dict[str, Any]:  # noqa: ARG001 - one kill is enough
    """One round: no call may fail, and all must be in the ledger soon after its return."""
    load = begin(workshop, seed, number)
    keeper = PostgresKeeper(workshop)
    keeper.kill(random.Random(seed), comes_back=False)
    begun = time.monotonic()
    uvloop.run(load.run(CONNECTIONS, lambda: load.sent >= calls))
    seconds = time.monotonic() - begun
    backlog = len(read_received(workshop.folder / "received"))
    keeper.start()
    keeper.stop()
    back_at = time.monotonic()
    workshop.wait_until_shipped(backlog, DRAIN_SECONDS)
    drained = time.monotonic() - back_at
    settle(workshop)
    told = tell_traffic(load, [])
    return {
        **told,
        **judge(workshop, load.attempts),
        "seconds": round(seconds, 1),
        "backlog": backlog,
        "longest_drain_seconds": round(drained, 1),
    }
