"""The whole path of a round: begun with clients ready; after the faults settled, and compared with the truth."""

import time
from collections.abc import Sequence
from typing import Any

from benchmarks.faults.load import Load
from benchmarks.faults.traffic import CHUNKS, KEYED_TEAMS, plan_traffic
from benchmarks.workshop import Workshop, mint_keys
from metering.errors import MeteringError
from metering.lab.books import compare, read_received, sums_by_team
from metering.lab.programs import run_command
from metering.lab.replay import AttemptLine
from metering.lab.tally import Ending
from metering.lab.wire import RequestWriter, read_target
from metering.sidecar.spool.report import find_spools, report_spool

RECOVER_SECONDS = 60.0
WORKERS = 2
SEGMENT_BYTES = 256 * 1024  # small: segments are begun, carried over and deleted all the time


def begin(workshop: Workshop, seed: int, number: int) -> Load:
    """Start a fresh path; the load that waits to be run. Odd rounds wait for the disk (`durability = power`)."""
    stack = workshop.stack
    run_command(["migrate"], stack.environ)
    secrets, planned_keys = mint_keys(KEYED_TEAMS)
    stack.start(
        keys=planned_keys,
        workers=WORKERS,
        durability=("process", "power")[number % 2],
        segment_bytes=SEGMENT_BYTES,
        emulator_options=("--content", "short", "--call-log", str(workshop.folder / "received")),
    )
    target = read_target(stack.url, direct=False)
    writer = RequestWriter(target, secrets, chunks=CHUNKS)
    return Load(target, writer, plan_traffic(f"{seed}.{number}"), seed << 32 | number)


def settle(workshop: Workshop) -> None:
    """Stop, start once more so that every spool is recovered, stop, ship the rest, count."""
    stack = workshop.stack
    assert stack.sidecar is not None
    assert stack.emulator is not None
    stack.sidecar.stop()
    stack.start_sidecar()
    deadline = time.monotonic() + RECOVER_SECONDS
    while open_calls := sum(report_spool(spool).open_calls for spool in find_spools(stack.spool_dir)):
        if time.monotonic() > deadline:
            raise MeteringError(f"{open_calls} calls stay open in {stack.spool_dir}: no start finishes them")
        time.sleep(0.2)
    stack.sidecar.stop()
    run_command(["ship", "--config", str(stack.config), "--once"], stack.environ)
    stack.emulator.stop()
    run_command(["count"], stack.environ)


def judge(workshop: Workshop, attempts: Sequence[AttemptLine]) -> dict[str, Any]:
    """What the set check, the sums and the books' own checks say; `equal` is all of it."""
    rows = workshop.booked()
    found = compare(attempts, read_received(workshop.folder / "received"), rows)
    sent: dict[str, list[int]] = {}
    for attempt in attempts:
        if attempt.ended == Ending.COMPLETED:
            sums = sent.setdefault(attempt.team, [0, 0, 0])
            for place, quantity in enumerate((1, attempt.input_tokens, attempt.output_tokens)):
                sums[place] += quantity
    acknowledged = {team: tuple(sums) for team, sums in sorted(sent.items())}
    same_sums = {
        "acknowledged": sums_by_team(attempts, rows) == acknowledged,
        "slots": workshop.slot_sums("team") == workshop.event_sums("team"),
    }
    broken = workshop.broken_checks()
    told = found.to_json()
    told["equal"] = found.equal and all(same_sums.values()) and not broken
    return {**told, "same_sums": same_sums, "verify": broken or "empty"}
