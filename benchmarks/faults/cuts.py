"""The campaign `cuts`: the connection between shipper and Postgres breaks behind every single message, of either side.

One shipment is watched first; then it is repeated with a spool of its own for each boundary. Nothing here is random.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.faults.spooled import append_calls, compare_spooled
from benchmarks.faults.wiretap import Move, Side, Wiretap
from benchmarks.workshop import Workshop
from metering.lab.programs import run_command
from metering.sidecar.ship.pause import Stop
from metering.sidecar.ship.shipper import run_shipper
from metering.sidecar.ship.status import ShipTotals
from metering.sidecar.spool.writer import SpoolWriter

CALLS = 5  # a shipment
AT_ONCE = 4  # most of the time is the shipper's pause before it tries again


class Cuts(msgspec.Struct):
    """What came of all cuts: numbers of calls 1 … `calls` are in the spools, `totals` is what the shippers told."""

    calls: int = 0
    client_messages: int = 0
    server_messages: int = 0
    totals: ShipTotals = msgspec.field(default_factory=ShipTotals)


def run_round(workshop: Workshop, *, seed: int, number: int, kills: int, calls: int) -> dict[str, Any]:  # noqa: ARG001
    """All cuts there are, whatever the seed and the numbers."""
    run_command(["migrate"], workshop.stack.environ)
    begun = time.monotonic()
    cuts = cut_everywhere(workshop.folder / "spools", workshop.database_url)
    return {
        "cuts": {"client": cuts.client_messages, "server": cuts.server_messages},
        "calls": cuts.calls,
        "committed_unheard": cuts.totals.confirmed,
        **compare_spooled(cuts.calls, workshop.booked()).to_json(),
        "seconds": round(time.monotonic() - begun, 1),
    }


def cut_everywhere(folder: Path, database_url: str) -> Cuts:
    """Ship through a wiretap that cuts at one boundary, for every boundary there is."""
    cuts = Cuts()
    spools: Iterator[int] = count()
    _ship(folder / "first", database_url, range(1, CALLS + 1), lambda _message: Move.PASS)  # makes the partition
    _, seen = _ship(folder / "watched", database_url, range(CALLS + 1, 2 * CALLS + 1), lambda _message: Move.PASS)
    cuts.client_messages, cuts.server_messages = seen[Side.CLIENT], seen[Side.SERVER]
    cuts.calls = 2 * CALLS
    boundaries = [(side, number) for side in Side for number in range(1, seen[side] + 1)]

    def ship(boundary: tuple[Side, int], first: int) -> ShipTotals:
        return _ship(folder / f"cut-{next(spools)}", database_url, range(first, first + CALLS), _cut(*boundary))[0]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        firsts = range(cuts.calls + 1, cuts.calls + 1 + CALLS * len(boundaries), CALLS)
        for totals in pool.map(ship, boundaries, firsts):
            cuts.totals.add(totals)
    cuts.calls += CALLS * len(boundaries)
    return cuts


def _cut(side: Side, number: int) -> Any:
    return lambda message: Move.CUT_AFTER if (message.side, message.number) == (side, number) else Move.PASS


def _ship(folder: Path, database_url: str, calls: range, watch: Any) -> tuple[ShipTotals, dict[Side, int]]:
    writer = SpoolWriter.open(folder / "worker-0")
    append_calls(writer, calls)
    writer.close()
    tap = Wiretap(database_url, watch)
    stop = Stop()
    try:
        return run_shipper(folder, tap.url, once=True, stop=stop), tap.numbers
    finally:
        stop.close()
        tap.close()
