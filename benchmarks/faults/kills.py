"""The campaign `kills`: SIGKILL at random moments under load, in rounds that each begin anew from their own seed."""

import random
import threading
import time
from collections import Counter
from typing import Any

import msgspec
import uvloop

from benchmarks.faults.blame import Kill, find_blame
from benchmarks.faults.killers import Killer, PostgresKeeper
from benchmarks.faults.load import Load
from benchmarks.faults.path import begin, judge, settle
from benchmarks.workshop import Workshop
from metering.errors import MeteringError

CONNECTIONS = 48
PROPORTION = ("worker", "worker", "shipper", "postgres", "supervisor")
JITTER_SECONDS = 0.03  # so that no kill is in step with a send
STUCK_SECONDS = 120.0


class PlannedKill(msgspec.Struct, frozen=True):
    """A kill as the seed says it: of whom, once so many calls were sent, and a little later."""

    kind: str
    after_calls: int
    jitter_seconds: float


def plan_kills(seed: str, kills: int, calls: int) -> list[PlannedKill]:
    """`kills` of all kinds at random places of a round of `calls`."""
    dice = random.Random(f"kills {seed}")
    kinds = [PROPORTION[place % len(PROPORTION)] for place in range(kills)]
    dice.shuffle(kinds)
    places = sorted(dice.randrange(calls) for _ in kinds)
    return [PlannedKill(kind, place, dice.random() * JITTER_SECONDS) for kind, place in zip(kinds, places, strict=True)]


def run_round(workshop: Workshop, *, seed: int, number: int, kills: int, calls: int) -> dict[str, Any]:
    """One round on a fresh workshop; what was found."""
    name = f"{seed}.{number}"
    load = begin(workshop, seed, number)
    keeper = PostgresKeeper(workshop)
    killing = _Killing(plan_kills(name, kills, calls), random.Random(f"targets {name}"), Killer(workshop, keeper), load)
    begun = time.monotonic()
    killing.thread.start()
    uvloop.run(load.run(CONNECTIONS, lambda: load.sent >= calls and not killing.thread.is_alive()))
    seconds = time.monotonic() - begun
    killing.thread.join()
    keeper.stop()
    if killing.error:
        raise killing.error
    settle(workshop)
    return {**tell_traffic(load, killing.done), **judge(workshop, load.attempts), "seconds": round(seconds, 1)}


def tell_traffic(load: Load, kills: list[Kill]) -> dict[str, Any]:
    """How the clients fared, and whose fault it is."""
    blame = find_blame(load.failures, load.refused_at, kills)
    return {
        "kills": dict(Counter(kill.kind for kill in kills)),
        "calls": load.sent,
        "failed": dict(blame.failed),
        "refused_dials": dict(blame.refused),
        "unexplained": [_beside(failure, kills) for failure in blame.unexplained[:5]],
        "unaffected": not blame.unexplained and not blame.refused["nobody"],
        "longest_answer_seconds": round(load.longest_seconds, 2),
        "longest_supervisor_start_seconds": round(
            max((kill.until - kill.at for kill in kills if kill.kind == "supervisor"), default=0.0), 2
        ),
    }


def _beside(failure: Any, kills: list[Kill]) -> dict[str, Any]:
    """A failure that nobody's death explains, with the kills just before it."""
    before = [kill for kill in kills if failure.sent_at - 10 < kill.at <= failure.ended_at][-3:]
    return {
        "call_id": failure.call_id,
        "why": failure.why,
        "seconds": round(failure.ended_at - failure.sent_at, 3),
        "connection_age": round(failure.sent_at - failure.dialled_at, 3),
        "kills_before": [f"{kill.kind} {failure.ended_at - kill.at:.3f} s before its end" for kill in before],
    }


class _Killing:
    """The killer's thread: follows the plan as the load goes on."""

    def __init__(self, plan: list[PlannedKill], dice: random.Random, killer: Killer, load: Load) -> None:
        self._plan, self._dice, self._killer, self._load = plan, dice, killer, load
        self.done: list[Kill] = []
        self.error: MeteringError | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            for planned in self._plan:
                self._wait_for(planned.after_calls)
                time.sleep(planned.jitter_seconds)
                self.done.append(self._killer.kill(planned.kind, self._dice, self._load.sent))
        except MeteringError as error:
            self.error = error

    def _wait_for(self, calls: int) -> None:
        deadline = time.monotonic() + STUCK_SECONDS
        while self._load.sent < calls:
            if time.monotonic() > deadline:
                raise MeteringError(f"the load is stuck at {self._load.sent} calls")
            time.sleep(0.002)
