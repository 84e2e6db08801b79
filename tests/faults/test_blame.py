"""Whose fault a failed call is: only those of a killed worker's own connections and of a killed supervisor."""

import pytest

from benchmarks.faults.blame import NOBODY, Kill, find_blame
from benchmarks.faults.load import Failure

WORKER = Kill(kind="worker", after_calls=1, at=10.0, until=10.0, ports=frozenset({4001}))
SUPERVISOR = Kill(kind="supervisor", after_calls=1, at=20.0, until=21.0)
SHIPPER = Kill(kind="shipper", after_calls=1, at=30.0, until=30.0)
POSTGRES = Kill(kind="postgres", after_calls=1, at=30.0, until=30.0)
KILLS = [WORKER, SUPERVISOR, SHIPPER, POSTGRES]


def failure(port: int, dialled_at: float, ended_at: float) -> Failure:
    return Failure("1", "closed", port, dialled_at, dialled_at, ended_at)


@pytest.mark.parametrize(
    ("failed", "kind"),
    [
        (failure(4001, 9.0, 10.1), "worker"),
        (failure(4002, 9.0, 10.1), NOBODY),  # on another worker's connection
        (failure(4001, 10.5, 11.0), NOBODY),  # the same port again, on its successor
        (failure(4001, 8.0, 9.9), NOBODY),  # before
        (failure(4003, 19.0, 20.5), "supervisor"),
        (failure(4003, 20.5, 22.0), "supervisor"),  # came while the old workers drained
        (failure(4003, 21.5, 22.0), NOBODY),
        (failure(4003, 19.0, 60.0), NOBODY),  # no orphan drains that long
        (failure(4004, 29.0, 30.1), NOBODY),  # for a dead shipper or Postgres no call may fail
    ],
)
def test_a_failed_call_has_one_cause(failed: Failure, kind: str) -> None:
    blame = find_blame([failed], [], KILLS)
    assert dict(blame.failed) == {kind: 1}
    assert blame.unexplained == ([failed] if kind == NOBODY else [])


def test_only_a_killed_supervisor_refuses_new_connections() -> None:
    blame = find_blame([], [10.0, 20.5, 30.0], KILLS)
    assert dict(blame.refused) == {NOBODY: 2, "supervisor": 1}
