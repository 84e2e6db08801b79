"""The statement: charges and calls of a period, gathered into lines that add up to the total.

Every call and every token is on exactly one line. What has no price stands on lines of its own, without a
cost; what has no owner stands under `unallocated`. Money is rounded once, over all lines together, so that the
lines add up to the total and the total is the same however they are cut. Currencies are never added.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum

import msgspec

from metering.core.money import EXACT, add, plain, round_lines, round_share, round_total
from metering.core.period import Period
from metering.core.placement import By, LineKey, Placed, line_id, place
from metering.core.rating import Charge, Problem
from metering.core.slot import SlotTotal
from metering.core.teams import TeamDirectory
from metering.core.usage import TOKEN_METERS, UNBILLED_METERS, Meter, UsageSource

# Sources whose numbers are not the provider's final word.
INEXACT_SOURCES = frozenset({UsageSource.ESTIMATED.value, UsageSource.PARTIAL.value})


class LineStatus(StrEnum):
    """Whether the line has a cost."""

    USAGE = "usage"
    UNPRICED = "unpriced"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line. `quantities` by meter; `cost` is rounded, `cost_exact` is what was rounded; `None` = unpriced.

    `estimated_calls` are those whose count is an estimate or was cut short, `estimated_tokens` their tokens, and
    `estimated_share` is their share of the line's tokens; `estimated` says so of anything on the line, also of a part
    of a call on another line. `unknown_calls` consumed something nobody counted.
    """

    line_id: str
    name: str
    status: LineStatus
    unallocated: bool
    currency: str | None
    calls: int
    unknown_calls: int
    quantities: dict[Meter, int]
    estimated: bool
    estimated_calls: int
    estimated_tokens: int
    estimated_share: Decimal | None
    cost: Decimal | None
    cost_exact: Decimal | None
    list_cost: Decimal | None

    @property
    def tokens(self) -> int:
        """All tokens on the line."""
        return _tokens(self.quantities)

    @property
    def unpriced_quantities(self) -> dict[Meter, int]:
        """What of the line lacks a price."""
        if self.status is not LineStatus.UNPRICED:
            return {}
        return {meter: quantity for meter, quantity in self.quantities.items() if meter not in UNBILLED_METERS}


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of the lines in one currency. `list_cost` is `None` if any line has none."""

    currency: str
    cost: Decimal
    cost_exact: Decimal
    list_cost: Decimal | None


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of all lines; one amount a currency."""

    amounts: tuple[Amount, ...]
    calls: int
    unknown_calls: int
    quantities: dict[Meter, int]
    tokens: int
    unpriced_tokens: int
    unallocated_tokens: int
    estimated: bool
    estimated_calls: int
    estimated_tokens: int
    estimated_share: Decimal | None


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What the numbers were made of: with the same of each, the same statement comes out."""

    price_book_digest: str
    price_book_versions: tuple[str, ...]
    team_directory_digest: str
    ledger_watermark: int  # how many batches had been counted into the rollups
    code_version: str


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A period's statement. `digest` (SHA-256, hex) is over everything else in it."""

    period: Period
    by: By
    lines: tuple[Line, ...]
    total: Total
    problems: tuple[Problem, ...]
    provenance: Provenance
    digest: str = ""


class _Gathered:
    """What has been put on a line so far."""

    def __init__(self) -> None:
        self.calls = 0
        self.unknown_calls = 0
        self.quantities: dict[Meter, int] = defaultdict(int)
        self.estimated = False
        self.estimated_calls = 0
        self.estimated_tokens = 0
        self.costs: list[Decimal] = []
        self.list_costs: list[Decimal | None] = []

    @property
    def exact_cost(self) -> Decimal | None:
        """The sum before rounding; `None` = unpriced."""
        return plain(add(self.costs)) if self.costs else None

    @property
    def exact_list_cost(self) -> Decimal | None:
        """What everybody would pay; `None` if that is not known of every charge."""
        known = [amount for amount in self.list_costs if amount is not None]
        return plain(add(known)) if known and len(known) == len(self.list_costs) else None


def compose(
    totals: Sequence[SlotTotal],
    rated: tuple[Sequence[Charge], Sequence[Problem]],
    by: By,
    period: Period,
    directory: TeamDirectory,
    provenance: Provenance,
) -> Statement:
    """Gather `totals` and the charges made of them (`rate`'s result) into lines by `by`."""
    charges, problems = rated
    gathered: dict[LineKey, _Gathered] = defaultdict(_Gathered)
    for placed in place(totals, charges, by, period, directory):
        _put(gathered[placed.key], placed)
    rounded = _round(gathered)
    lines = tuple(
        _line(line_id(period, by, key), key, gathered[key], rounded.get(key, (None, None))) for key in sorted(gathered)
    )
    statement = Statement(
        period=period, by=by, lines=lines, total=_total(lines), problems=tuple(problems), provenance=provenance
    )
    return msgspec.structs.replace(statement, digest=digest(statement))


def digest(statement: Statement) -> str:
    """SHA-256 (hex) of the statement without its digest."""
    blank = msgspec.structs.replace(statement, digest="")
    return hashlib.sha256(msgspec.json.encode(blank, order="deterministic")).hexdigest()


def _put(line: _Gathered, placed: Placed) -> None:
    is_estimate = placed.total.dimension.usage_source in INEXACT_SOURCES
    line.estimated |= is_estimate
    if placed.counts_calls:
        line.calls += placed.total.calls
        if placed.total.dimension.usage_source == UsageSource.UNKNOWN.value:
            line.unknown_calls += placed.total.calls
        if is_estimate:
            line.estimated_calls += placed.total.calls
    for charge in placed.charges:
        line.quantities[charge.meter] += charge.consumed_quantity
        if charge.meter in TOKEN_METERS and is_estimate:
            line.estimated_tokens += charge.consumed_quantity
        if charge.billed_cost is not None:
            line.costs.append(charge.billed_cost)
            line.list_costs.append(charge.list_cost)


def _round(gathered: Mapping[LineKey, _Gathered]) -> dict[LineKey, tuple[Decimal, Decimal | None]]:
    """Cost and list cost of the lines that have a cost, each currency's rounded together."""
    rounded: dict[LineKey, tuple[Decimal, Decimal | None]] = {}
    for currency in {key.currency for key in gathered}:
        own = {key: line for key, line in gathered.items() if key.currency == currency}
        costs = {key: line.exact_cost for key, line in own.items()}
        exact = {key: amount for key, amount in costs.items() if amount is not None}
        listed = {key: amount for key in exact if (amount := own[key].exact_list_cost) is not None}
        cost = round_lines(exact, currency)
        rounded |= {key: (amount, None) for key, amount in cost.items()}
        rounded |= _round_list(cost, exact, listed, currency)
    return rounded


def _round_list(
    cost: Mapping[LineKey, Decimal],
    exact: Mapping[LineKey, Decimal],
    listed: Mapping[LineKey, Decimal],
    currency: str,
) -> dict[LineKey, tuple[Decimal, Decimal]]:
    """Rounded cost and list cost of the lines in `listed`.

    What list prices would add is rounded, not the list cost itself: else a line that pays list prices might cost
    a cent more, or less, than its list cost.
    """
    saved = {key: EXACT.subtract(amount, exact[key]) for key, amount in listed.items()}
    # All lines have a list cost: they add up to its rounded total. Otherwise there is no total to add up to.
    whole = EXACT.subtract(round_total(add(listed.values()), currency), add(cost.values()))
    rounded = round_lines(saved, currency, whole if len(listed) == len(exact) else None)
    return {key: (cost[key], EXACT.add(cost[key], rounded[key])) for key in listed}


def _line(name: str, key: LineKey, gathered: _Gathered, rounded: tuple[Decimal | None, Decimal | None]) -> Line:
    quantities = {meter: gathered.quantities[meter] for meter in Meter if meter in gathered.quantities}
    return Line(
        line_id=name,
        name=key.name,
        status=LineStatus.UNPRICED if key.unpriced else LineStatus.USAGE,
        unallocated=key.unallocated,
        currency=key.currency or None,
        calls=gathered.calls,
        unknown_calls=gathered.unknown_calls,
        quantities=quantities,
        estimated=gathered.estimated,
        estimated_calls=gathered.estimated_calls,
        estimated_tokens=gathered.estimated_tokens,
        estimated_share=round_share(gathered.estimated_tokens, _tokens(quantities)),
        cost=rounded[0],
        cost_exact=gathered.exact_cost,
        list_cost=rounded[1],
    )


def _total(lines: Sequence[Line]) -> Total:
    quantities: dict[Meter, int] = defaultdict(int)
    for line in lines:
        for meter, quantity in line.quantities.items():
            quantities[meter] += quantity
    currencies = sorted({line.currency for line in lines if line.currency})
    tokens, estimated = _tokens(quantities), sum(line.estimated_tokens for line in lines)
    return Total(
        amounts=tuple(_amount(currency, lines) for currency in currencies),
        calls=sum(line.calls for line in lines),
        unknown_calls=sum(line.unknown_calls for line in lines),
        quantities={meter: quantities[meter] for meter in Meter if meter in quantities},
        tokens=tokens,
        unpriced_tokens=sum(_tokens(line.unpriced_quantities) for line in lines),
        unallocated_tokens=sum(line.tokens for line in lines if line.unallocated),
        estimated=any(line.estimated for line in lines),
        estimated_calls=sum(line.estimated_calls for line in lines),
        estimated_tokens=estimated,
        estimated_share=round_share(estimated, tokens),
    )


def _amount(currency: str, lines: Iterable[Line]) -> Amount:
    own = [line for line in lines if line.currency == currency]
    listed = [line.list_cost for line in own if line.list_cost is not None]
    return Amount(
        currency=currency,
        cost=add(line.cost for line in own if line.cost is not None),
        cost_exact=plain(add(line.cost_exact for line in own if line.cost_exact is not None)),
        list_cost=add(listed) if len(listed) == len(own) else None,
    )


def _tokens(quantities: dict[Meter, int]) -> int:
    return sum(quantity for meter, quantity in quantities.items() if meter in TOKEN_METERS)
