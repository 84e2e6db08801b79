"""Kill everything, again and again, during a replay; then every call must be in the books exactly once.

    python -m benchmarks.faults --seed 1 --kills 10 --output json [--quick]

Workers, the supervisor, the shipper and Postgres get SIGKILL at random moments (seeded), `--kills` times each, while
calls go through; failed calls are sent again as new attempts. Then the attempts (the client's view), the calls that
the emulator received, and the rows are joined by trace id: nothing lost, nothing double, nothing wrong.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from itertools import cycle
from typing import Any

from benchmarks.killers import Killer
from benchmarks.workshop import Workshop, mint_keys, open_workshop
from metering.errors import MeteringError
from metering.lab.books import compare, read_attempts, read_received, sums_by_team
from metering.lab.calls import PARTS, Call
from metering.lab.programs import run_command
from metering.lab.replay import Pace, ReplayOutcome, replay
from metering.lab.tally import expected, tokens_by
from metering.lab.wire import RequestWriter, read_target

TEAMS = [f"team-{number}" for number in range(1, 9)]
PAUSE_SECONDS = (0.2, 1.2)  # between two kills: long enough that programs are up again, mostly
SHIP_SECONDS = 60


def main() -> int:
    """Run it; 0 if nothing is lost, double or wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--output", choices=("json", "table"), default="table")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=10, help="of each kind")
    parser.add_argument("--quick", action="store_true", help="two kills of each kind")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--concurrency", type=int, default=24)
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    options = parser.parse_args()
    with open_workshop("metering-faults-", keep=options.keep) as workshop:
        found = _run(workshop, options)
    print(json.dumps(found, indent=2 if options.output == "json" else None))
    return 0 if found["equal"] else 5


def _run(workshop: Workshop, options: argparse.Namespace) -> dict[str, Any]:
    stack = workshop.stack
    run_command(["migrate"], stack.environ)
    secrets, planned = mint_keys(TEAMS[::2])
    received, attempts = workshop.folder / "received", workshop.folder / "attempts"
    stack.start(
        keys=planned,
        workers=options.workers,
        emulator_options=("--content", "short", "--pace-ms", "5", "--call-log", str(received)),
    )
    dice = random.Random(options.seed)
    kinds = [kind for kind in Killer.KINDS for _ in range(2 if options.quick else options.kills)]
    dice.shuffle(kinds)
    killer = Killer(workshop)
    over = threading.Event()
    killing = threading.Thread(target=_kill_all, args=(killer, kinds, dice, over), daemon=True)
    sent: list[Call] = []
    target = read_target(stack.url, direct=False)
    killing.start()
    outcome = replay(
        target,
        RequestWriter(target, secrets, chunks=4),
        _calls_until(over, options.seed, sent),
        Pace(concurrency=options.concurrency, retry=True, call_timeout_seconds=20, patience_seconds=60),
        log=attempts,
    )
    killing.join()
    _ship_everything(workshop)
    found = compare(read_attempts(attempts), read_received(received), workshop.booked())
    return {**found.to_json(), **_sums(workshop, sent, outcome, attempts), "kills": killer.counts, "seed": options.seed}


def _calls_until(over: threading.Event, seed: int, sent: list[Call]) -> Iterator[Call]:
    """Calls of all dialects and teams until the killing is over; `sent` remembers them."""
    dice = random.Random(f"calls {seed}")
    for part in cycle(PARTS):
        if over.is_set():
            return
        call = Call(
            at_ms=0,
            team=dice.choice(TEAMS),
            project="replay",
            dialect=part.dialect,
            model=part.model,
            input_tokens=dice.randint(1, 5000),
            output_tokens=dice.randint(1, 900),
            streamed=dice.random() < 0.7,
        )
        sent.append(call)
        yield call


def _kill_all(killer: Killer, kinds: list[str], dice: random.Random, over: threading.Event) -> None:
    try:
        for kind in kinds:
            time.sleep(dice.uniform(*PAUSE_SECONDS))
            killer.kill(kind, dice)
        time.sleep(PAUSE_SECONDS[1])
    except MeteringError as error:
        print(f"the killing stopped: {error}", file=sys.stderr)
    finally:
        over.set()


def _ship_everything(workshop: Workshop) -> None:
    """Bring every spool's last record into the ledger: stop, start once more so that all spools are recovered, stop."""
    stack = workshop.stack
    for _ in range(2):
        if stack.sidecar:
            stack.sidecar.stop()
        stack.start_sidecar()
        time.sleep(2)  # spools without a worker are adopted, then shipped
    if stack.sidecar:
        stack.sidecar.stop()
    run_command(["ship", "--config", str(stack.config), "--once"], stack.environ)
    if stack.emulator:
        stack.emulator.stop()
    run_command(["count"], stack.environ)


def _sums(workshop: Workshop, sent: list[Call], outcome: ReplayOutcome, attempts: Any) -> dict[str, Any]:
    """Whether the finished calls' sums by team are the same in the trace, at the client, and in the books."""
    trace = tokens_by(expected(sent).by("team"))
    client = tokens_by(outcome.tally.by("team"))
    books = sums_by_team(read_attempts(attempts), workshop.booked())
    broken = workshop.broken_checks()
    slots, events = workshop.slot_sums("team"), workshop.event_sums("team")
    return {
        "calls": len(sent),
        "same_sums": {"client": client == trace, "books": books == trace, "slots": slots == events},
        "verify": broken or "empty",
        "seconds": round(outcome.seconds, 1),
        "calls_per_second": round(len(sent) / outcome.seconds),
    }


if __name__ == "__main__":
    sys.exit(main())
