"""Which line of a statement every call and every charge stands on. `compose` and `explain` both go by this."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from metering.core.period import Period
from metering.core.rating import Charge
from metering.core.slot import Dimension, SlotTotal
from metering.core.teams import TeamDirectory
from metering.core.usage import UNBILLED_METERS
from metering.errors import InputError

UNALLOCATED = "unallocated"
NOT_REPORTED = "not reported"


class By(StrEnum):
    """What lines are gathered by."""

    COST_CENTER = "cost-center"
    TEAM = "team"
    PROJECT = "project"
    ENVIRONMENT = "environment"
    PRINCIPAL = "principal"
    CREDENTIAL = "credential"
    PROVIDER = "provider"
    MODEL = "model"
    DEPLOYMENT = "deployment"
    REGION = "region"
    OPERATION = "operation"
    SERVICE_TIER = "service-tier"


# Usage that lacks one of these has no owner; usage that lacks another fact is merely unlabelled.
OWNERS = frozenset({By.COST_CENTER, By.TEAM, By.PROJECT, By.ENVIRONMENT, By.PRINCIPAL, By.CREDENTIAL})
_FIELD = {
    By.CREDENTIAL: "credential_id",
    By.PROVIDER: "provider_name",
    By.OPERATION: "operation_name",
    By.SERVICE_TIER: "service_tier",
}


class LineKey(msgspec.Struct, frozen=True, order=True):
    """What makes a line, in the order lines are printed: usage first, unpriced last, unallocated after the named."""

    unpriced: bool
    unallocated: bool
    name: str
    currency: str  # empty if unpriced, or if nothing on the line has a price


class Placed(msgspec.Struct, frozen=True):
    """What of one total stands on one line: these charges, and its calls if `counts_calls`."""

    key: LineKey
    total: SlotTotal
    charges: Sequence[Charge]
    counts_calls: bool


def parse_by(name: str) -> By:
    """Read a grouping such as `team`; `InputError` naming all of them for anything else."""
    try:
        return By(name)
    except ValueError:
        raise InputError(f"can't gather by {name!r}: choose one of {', '.join(by.value for by in By)}") from None


def place(
    totals: Sequence[SlotTotal], charges: Sequence[Charge], by: By, period: Period, directory: TeamDirectory
) -> Iterator[Placed]:
    """Put every charge on one line, and the calls of every total on one line.

    Calls stand where their tokens are, on the priced line first. Calls without any charge stand on the first line
    of their name, so that they don't tear it in two. What the provider does not bill stands where the calls do.
    """
    placed: dict[tuple[int, datetime], dict[LineKey, list[Charge]]] = defaultdict(lambda: defaultdict(list))
    unbilled: dict[tuple[int, datetime], list[Charge]] = defaultdict(list)
    for charge in charges:
        if charge.meter in UNBILLED_METERS:
            unbilled[charge.dimension.dimension_id, charge.charge_period_start].append(charge)
            continue
        key = _key(charge.dimension, charge.charge_period_start, by, directory, charge)
        placed[charge.dimension.dimension_id, charge.charge_period_start][key].append(charge)
    keys = {key for of_total in placed.values() for key in of_total}
    first = {(key.name, key.unallocated): key for key in sorted(keys, reverse=True)}
    for total in totals:
        start_at = max(total.segment_start_at, period.start_at)
        of_total = placed.get((total.dimension.dimension_id, start_at))
        if not of_total:
            bare = _key(total.dimension, start_at, by, directory, None)
            of_total = {first.get((bare.name, bare.unallocated), bare): []}
        home = min(of_total)
        for key in sorted(of_total):
            free = unbilled.get((total.dimension.dimension_id, start_at), []) if key == home else []
            yield Placed(key, total, [*of_total[key], *free], counts_calls=key == home)


def line_id(period: Period, by: By, key: LineKey) -> str:
    """A short name for a line that stays the same from one statement of the period to the next."""
    return hashlib.sha256(msgspec.json.encode((period.name, by, key))).hexdigest()[:12]


def _key(dimension: Dimension, at: datetime, by: By, directory: TeamDirectory, charge: Charge | None) -> LineKey:
    name = _name(dimension, by, directory, at)
    owned = by in OWNERS
    return LineKey(
        unpriced=charge is not None and charge.unpriced,
        unallocated=owned and name is None,
        name=(UNALLOCATED if owned else NOT_REPORTED) if name is None else name,
        currency=(charge and charge.currency) or "",
    )


def _name(dimension: Dimension, by: By, directory: TeamDirectory, at: datetime) -> str | None:
    """What `dimension` is called under `by` at `at`; `None` = nobody said."""
    if by is By.COST_CENTER:
        return directory.cost_center(dimension.team, at)
    value: str | None = getattr(dimension, _FIELD.get(by, by.value))
    return value or None  # a blank says nothing
