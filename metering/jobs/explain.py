"""Take a line of a statement apart: line → groups of calls → charges with their price rows → events."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from metering.core.money import add, minor_digits, plain
from metering.core.period import Period
from metering.core.placement import By, Placed, line_id, place
from metering.core.prices import FALLBACKS
from metering.core.rating import Charge, event_cost
from metering.core.slot import CountedEvent, Dimension
from metering.core.statement import Line
from metering.core.usage import Meter
from metering.errors import InputError
from metering.jobs.statement import RatedPeriod, compose_rated, rate_period
from metering.ledger.engine import Connection, Engine
from metering.ledger.events import events_of
from metering.ledger.prices import version_of
from metering.ledger.snapshot import snapshot

GROUPS_MAX = 30  # whose events are read: a query each, and as many as a person looks at


class ExplainedCharge(msgspec.Struct, frozen=True, kw_only=True):
    """A charge, the version its price is from, and the meters that were found to have no price before."""

    charge: Charge
    price_version: str | None
    fell_back_over: tuple[Meter, ...]


class ExplainedEvent(msgspec.Struct, frozen=True):
    """A call, or a part of one, and what it cost of the line's cost, exactly; `None` = nothing of it has a price."""

    event: CountedEvent
    cost: Decimal | None
    currency: str | None


class ExplainedGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Calls, and parts of calls, that are alike in every fact a price or an owner depends on, between two instants.

    `calls` = how many calls are counted on this line (none, if they stand on the line of the group's other charges);
    `events` are the newest of the group's events, all of them if `all_events`; none were read of the smallest groups.
    """

    dimension: Dimension
    start_at: datetime
    end_at: datetime
    calls: int
    charges: tuple[ExplainedCharge, ...]
    events: tuple[ExplainedEvent, ...]
    all_events: bool


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A line and what it is made of. `adds_up`: the groups' calls, quantities and costs are the line's."""

    line: Line
    groups: tuple[ExplainedGroup, ...]
    adds_up: bool


def explain_lines(
    engine: Engine,
    period: Period,
    by: By,
    named: str,
    *,
    meter: Meter | None = None,
    events_max: int = 5,
    groups_max: int = GROUPS_MAX,
) -> list[Explanation]:
    """Explain every line whose name or id is `named`; with `meter` only its charges, and the groups that have it.

    All groups, and up to `events_max` events of each of the `groups_max` that cost most: a provider's line may have
    thousands. `InputError` naming the lines there are if none is called so.
    """
    with snapshot(engine) as connection:
        rated = rate_period(connection, period)
        statement = compose_rated(rated, by)
        lines = {line.line_id: line for line in statement.lines if named in (line.name, line.line_id)}
        if not lines:
            known = ", ".join(sorted({line.name for line in statement.lines})[:20]) or "none at all"
            raise InputError(f"no line {named!r} in {period.name} by {by}: there are {known}")
        placed_on: dict[str, list[Placed]] = {one: [] for one in lines}
        for placed in place(rated.totals, rated.charges, by, period, rated.directory):
            one = line_id(period, by, placed.key)
            if one in placed_on:
                placed_on[one].append(placed)
        reader = _Reader(connection, rated, meter, (groups_max, events_max))
        return [
            Explanation(line=line, groups=reader.groups(placed_on[one]), adds_up=_adds_up(line, placed_on[one]))
            for one, line in lines.items()
        ]


class _Reader:
    """Reads what a group needs from the ledger; each price's version once."""

    def __init__(
        self, connection: Connection, rated: RatedPeriod, meter: Meter | None, limits: tuple[int, int]
    ) -> None:
        self.connection = connection
        self.rated = rated
        self.meter = meter
        self.groups_max, self.events_max = limits
        self.ends = _ends(rated)
        self.labels: dict[str, str | None] = {}

    def groups(self, placed: Sequence[Placed]) -> tuple[ExplainedGroup, ...]:
        """The groups of a line, those that cost most first."""
        shown = [one for one in placed if self.meter is None or self._charges(one)]
        shown.sort(key=lambda one: _most_first(one, self._charges(one)))
        return tuple(
            self._group(one, self.events_max if place < self.groups_max else 0) for place, one in enumerate(shown)
        )

    def _charges(self, placed: Placed) -> list[Charge]:
        return [charge for charge in placed.charges if self.meter in (None, charge.meter)]

    def _group(self, placed: Placed, events_max: int) -> ExplainedGroup:
        start_at = max(placed.total.segment_start_at, self.rated.period.start_at)
        span = Period(self.rated.period.name, start_at, self.ends[start_at])
        dimension = placed.total.dimension
        # One more than is shown: whether there is.
        events = events_of(self.connection, dimension.dimension_id, span, events_max + 1) if events_max else []
        calls = sum(event.part_of is None for event in events)
        return ExplainedGroup(
            dimension=dimension,
            start_at=start_at,
            end_at=span.end_at,
            calls=placed.total.calls if placed.counts_calls else 0,
            charges=tuple(self._charge(charge) for charge in self._charges(placed)),
            events=tuple(
                ExplainedEvent(event, event_cost(event.quantities, placed.charges), placed.key.currency or None)
                for event in events[:events_max]
            ),
            all_events=0 < len(events) <= events_max and calls == placed.total.calls,
        )

    def _charge(self, charge: Charge) -> ExplainedCharge:
        looked_for = (charge.meter, *FALLBACKS.get(charge.meter, ()))
        found = looked_for.index(charge.price.meter) if charge.price else len(looked_for)
        return ExplainedCharge(charge=charge, price_version=self._version(charge), fell_back_over=looked_for[:found])

    def _version(self, charge: Charge) -> str | None:
        if charge.price is None:
            return None
        price_id = charge.price.price_id
        if price_id not in self.labels:
            version = version_of(self.connection, price_id, [v.version_id for v in self.rated.versions])
            self.labels[price_id] = version.label if version else None
        return self.labels[price_id]


def _ends(rated: RatedPeriod) -> dict[datetime, datetime]:
    """Where each segment that has usage ends: at the next cut, whether or not there is usage after it."""
    starts = [rated.period.start_at, *rated.cuts]
    return dict(zip(starts, [*rated.cuts, rated.period.end_at], strict=True))


def _most_first(placed: Placed, charges: Sequence[Charge]) -> tuple[object, ...]:
    cost = add(charge.billed_cost for charge in charges if charge.billed_cost is not None)
    quantity = sum(charge.consumed_quantity for charge in charges)
    return -cost, -quantity, placed.total.segment_start_at, placed.total.dimension.dimension_id


def _adds_up(line: Line, placed: Sequence[Placed]) -> bool:
    charges = [charge for one in placed for charge in one.charges]
    costs = [charge.billed_cost for charge in charges if charge.billed_cost is not None]
    exact = plain(add(costs)) if costs else None
    quantities: dict[Meter, int] = {}
    for charge in charges:
        quantities[charge.meter] = quantities.get(charge.meter, 0) + charge.consumed_quantity
    calls = sum(one.total.calls for one in placed if one.counts_calls)
    # The rounded cost is the exact one, up or down to the next smallest unit.
    unit = Decimal(1).scaleb(-minor_digits(line.currency or ""))
    return (exact is None or abs((line.cost or 0) - exact) < unit) and (exact, quantities, calls) == (
        line.cost_exact,
        line.quantities,
        line.calls,
    )
