"""Whose cost centre a team's usage is, and since when. Rows are dated; a team may move at any quarter-hour."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from metering.core.period import Period, on_slot
from metering.errors import InputError


class TeamAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """`team` belongs to `cost_center` from / to (half-open, aware UTC; `None` = since ever, until further notice)."""

    team: str
    cost_center: str
    effective_from: datetime | None = None
    effective_to: datetime | None = None

    def applies_at(self, at: datetime) -> bool:
        """Whether this row holds at `at` (aware)."""
        if self.effective_from and at < self.effective_from:
            return False
        return not (self.effective_to and at >= self.effective_to)


class TeamDirectory:
    """All assignments; `digest` (SHA-256, hex) names them. `InputError` if a team would be in two places at once."""

    def __init__(self, assignments: Iterable[TeamAssignment] = ()) -> None:
        self.assignments = tuple(sorted(assignments, key=_order))
        self._of: dict[str, list[TeamAssignment]] = defaultdict(list)
        for assignment in self.assignments:
            _check(assignment)
            before = self._of[assignment.team]
            if before and _reaches_into(before[-1], assignment):
                raise InputError(
                    f"team {assignment.team!r} is in {before[-1].cost_center!r} and {assignment.cost_center!r} at the "
                    "same time: end one row before the other begins"
                )
            before.append(assignment)
        self.digest = hashlib.sha256(msgspec.json.encode(self.assignments)).hexdigest()

    def cost_center(self, team: str | None, at: datetime) -> str | None:
        """The cost centre of `team` at `at`; `None` = nobody said."""
        if team is None or team not in self._of:
            return None
        return next((row.cost_center for row in self._of[team] if row.applies_at(at)), None)

    def boundaries(self, period: Period) -> list[datetime]:
        """The instants inside `period` at which a team moves, sorted."""
        instants = {at for row in self.assignments for at in (row.effective_from, row.effective_to) if at}
        return sorted(at for at in instants if period.start_at < at < period.end_at)


def _order(row: TeamAssignment) -> tuple[str, bool, datetime, str]:
    start_at = row.effective_from or datetime.min.replace(tzinfo=UTC)
    return row.team, row.effective_from is not None, start_at, row.cost_center


def _check(row: TeamAssignment) -> None:
    if not row.team.strip() or not row.cost_center.strip():
        raise InputError(f"team {row.team!r} with cost centre {row.cost_center!r}: neither may be empty")
    for name in ("effective_from", "effective_to"):
        at = getattr(row, name)
        if at is not None and (at.tzinfo is None or not on_slot(at)):
            raise InputError(f"team {row.team!r}: {name} {at.isoformat()} must be on a quarter-hour with a time zone")
    if row.effective_from and row.effective_to and row.effective_from >= row.effective_to:
        raise InputError(f"team {row.team!r} in {row.cost_center!r} would end before it begins: check its dates")


def _reaches_into(earlier: TeamAssignment, later: TeamAssignment) -> bool:
    return earlier.effective_to is None or later.effective_from is None or earlier.effective_to > later.effective_from
