"""Look for what a price book lacks: usage without a price, holes between prices, thresholds rollups can't decide."""

from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from metering.core.event import CONTEXT_LADDER_TOKENS
from metering.core.period import Period
from metering.core.prices import off_ladder
from metering.core.rating import ProblemKind
from metering.core.sku_price import SkuPrice, same_sku
from metering.jobs.statement import rate_period
from metering.ledger.engine import Engine
from metering.ledger.snapshot import snapshot


class FindingKind(StrEnum):
    """What was found. Off-ladder thresholds are the list's business; the others are for the operator to mend."""

    UNPRICED = "unpriced"
    GAP = "gap"
    APPROXIMATE = "approximate"
    OFF_LADDER = "off-ladder"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to know, in a sentence. `needs_action`: a statement would be wrong or incomplete."""

    kind: FindingKind
    sku: str
    sentence: str

    @property
    def needs_action(self) -> bool:
        """Whether somebody should do something about it."""
        return self.kind is not FindingKind.OFF_LADDER


def check_rows(prices: Sequence[SkuPrice]) -> list[Finding]:
    """What can be seen in the rows alone. Overlaps can't be here: no book with any can be made."""
    return [*_gaps(prices), *_off_ladder(prices)]


def check_ledger(engine: Engine, period: Period) -> list[Finding]:
    """What the book in force lacks for the usage of `period`, and what can be seen in its rows."""
    with snapshot(engine) as connection:
        rated = rate_period(connection, period)
    found = [
        Finding(
            kind=FindingKind.UNPRICED if problem.kind is ProblemKind.UNPRICED else FindingKind.APPROXIMATE,
            sku=f"{problem.provider_name}/{problem.model or 'unknown model'}/{problem.meter}",
            sentence=problem.sentence,
        )
        for problem in rated.problems
    ]
    return [*found, *check_rows(rated.book.prices)]


def _gaps(prices: Sequence[SkuPrice]) -> list[Finding]:
    """Holes between a row and the next one for the same thing. An end without a successor may be meant."""
    rows_of: dict[tuple[object, ...], list[SkuPrice]] = defaultdict(list)
    for price in prices:
        rows_of[(*same_sku(price), price.daily_from, price.daily_to)].append(price)
    found = []
    for rows in rows_of.values():
        dated = sorted((row for row in rows if row.effective_from), key=lambda row: str(row.effective_from))
        ends = {row.effective_to for row in rows if row.effective_to}
        starts = [row.effective_from for row in dated if row.effective_from]
        for end_at in sorted(ends):
            later = [at for at in starts if at >= end_at]
            if later and later[0] > end_at:
                sku = rows[0].sku_id
                span = f"from {end_at.isoformat()} to {later[0].isoformat()}"
                found.append(Finding(kind=FindingKind.GAP, sku=sku, sentence=f"{sku} has no price {span}"))
    return found


def _off_ladder(prices: Sequence[SkuPrice]) -> list[Finding]:
    """One finding a provider and threshold, as lists bring them by the dozen."""
    models: dict[tuple[str, int], set[str]] = defaultdict(set)
    for price in prices:
        if price.context_over_tokens and off_ladder(price):
            models[price.provider_name, price.context_over_tokens].add(price.model)
    rungs = ", ".join(f"{rung:,}" for rung in CONTEXT_LADDER_TOKENS)
    return [
        Finding(
            kind=FindingKind.OFF_LADDER,
            sku=f"{provider_name}/…>{threshold}",
            sentence=(
                f"{provider_name} changes the price of {', '.join(sorted(names)[:5])}{' …' if len(names) > 5 else ''} "
                f"over {threshold:,} input tokens; calls are counted by {rungs}, so those between the sizes around it "
                "get the lower rate and are marked"
            ),
        )
        for (provider_name, threshold), names in sorted(models.items())
    ]
