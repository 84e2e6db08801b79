"""Whose fault a failed call is: pure, from what the clients saw and what the killer did.

A killed worker takes the calls on its own connections with it, a killed supervisor those on connections dialled
before its successor was ready. No other call may fail: not for a dead shipper, not for a dead Postgres.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from benchmarks.faults.load import Failure

NOBODY = "nobody"
DRAIN_SECONDS = 15.0  # after a supervisor's successor is there, its orphaned workers are gone for certain


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """One SIGKILL. `at` and `until` (all is up again, as far as we start it ourselves) are monotonic seconds."""

    kind: str
    after_calls: int
    at: float
    until: float
    ports: frozenset[int] = frozenset()  # of a worker: the clients' ends of its connections


class Blame(msgspec.Struct, kw_only=True):
    """Failed calls and refused dials by who was killed, and those that nobody's death explains."""

    failed: Counter[str]
    refused: Counter[str]
    unexplained: list[Failure]


def find_blame(failures: Iterable[Failure], refused_at: Iterable[float], kills: Sequence[Kill]) -> Blame:
    """Look for each failure's cause among `kills`."""
    blame = Blame(failed=Counter(), refused=Counter(), unexplained=[])
    for failure in failures:
        kind = next((kill.kind for kill in kills if _explains(kill, failure)), NOBODY)
        blame.failed[kind] += 1
        if kind == NOBODY:
            blame.unexplained.append(failure)
    for moment in refused_at:
        kinds = (kill.kind for kill in kills if kill.kind == "supervisor" and kill.at <= moment <= kill.until)
        blame.refused[next(kinds, NOBODY)] += 1
    return blame


def _explains(kill: Kill, failure: Failure) -> bool:
    if kill.kind == "worker":
        return failure.port in kill.ports and failure.dialled_at <= kill.at <= failure.ended_at
    if kill.kind != "supervisor" or failure.dialled_at > kill.until:
        return False
    return kill.at <= failure.ended_at <= kill.until + DRAIN_SECONDS
