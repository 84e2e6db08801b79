"""The price book: every dated price we know, and the one rule that finds the price of a meter at an instant.

The rule, in order:

1. the meter's own price, else the price of the meter it falls back on (`FALLBACKS`);
2. a price that names the call's variant beats one that doesn't; then the same for the tier, then for the region;
3. contracted beats list; the operator's own row beats a published one;
4. the earlier model match, then the highest context threshold the call is over, then hours of the day.

Nothing found is `None`, never zero: such usage is unpriced.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from metering.core.event import CONTEXT_LADDER_TOKENS
from metering.core.model_match import Match, Predicate, compile_match, dashed_date
from metering.core.period import Period
from metering.core.sku_price import Layer, PriceKind, SkuPrice, overlap, same_sku, standard_tier
from metering.core.usage import Meter
from metering.errors import InputError

# A meter without a price of its own is charged as the next in its row. Providers that don't price a
# kind of token apart charge it as the kind it is part of.
FALLBACKS: dict[Meter, tuple[Meter, ...]] = {
    Meter.CACHE_READ_INPUT: (Meter.INPUT,),
    Meter.CACHE_WRITE_INPUT: (Meter.INPUT,),
    Meter.CACHE_WRITE_1H_INPUT: (Meter.CACHE_WRITE_INPUT, Meter.INPUT),
    Meter.AUDIO_INPUT: (Meter.INPUT,),
    Meter.CACHE_READ_AUDIO_INPUT: (Meter.CACHE_READ_INPUT, Meter.AUDIO_INPUT, Meter.INPUT),
    Meter.IMAGE_INPUT: (Meter.INPUT,),
    Meter.VIDEO_INPUT: (Meter.INPUT,),
    Meter.REASONING_OUTPUT: (Meter.OUTPUT,),
    Meter.AUDIO_OUTPUT: (Meter.OUTPUT,),
    Meter.IMAGE_OUTPUT: (Meter.OUTPUT,),
}


class PriceKey(NamedTuple):
    """What of a call decides its prices, besides meter and time. `context_band` is a rung of the ladder."""

    provider_name: str
    model: str | None
    region: str | None = None
    service_tier: str | None = None
    context_band: int = 0
    variant: str | None = None


class ProviderRule(msgspec.Struct, frozen=True, kw_only=True):
    """Other names of a provider, and whose models it also serves (Azure serves OpenAI's) at the maker's price."""

    provider_name: str
    match: Match | None = None
    serves: tuple[str, ...] = ()


class Resolution(msgspec.Struct, frozen=True):
    """The price found. `list_price` is the best list price beside it (the same row if none is contracted).

    `approximate`: a threshold off the context ladder may or may not apply; the price below it was taken.
    """

    price: SkuPrice | None = None
    list_price: SkuPrice | None = None
    approximate: bool = False


UNPRICED = Resolution()


class PriceBook:
    """An immutable set of prices. `digest` (SHA-256, hex) names it. `InputError` if two rows overlap."""

    def __init__(self, prices: Iterable[SkuPrice], rules: Iterable[ProviderRule] = ()) -> None:
        self.prices = tuple(sorted(prices, key=lambda price: (price.layer, price.match_order, price.price_id)))
        self.rules = {rule.provider_name: rule for rule in rules}
        refuse_overlaps(self.prices)
        self.digest = _digest(self.prices, self.rules)
        self._models = _by_model(self.prices)
        self._aliases = [(compile_match(rule.match), rule.provider_name) for rule in self.rules.values() if rule.match]
        self._matching: dict[tuple[str, str], list[SkuPrice]] = {}
        self._ranked: dict[tuple[PriceKey, Meter], tuple[tuple[SkuPrice, bool], ...]] = {}

    def resolve(self, key: PriceKey, meter: Meter, at: datetime) -> Resolution:
        """The price of `meter` for a call like `key` at `at`, and the list price beside it."""
        price, approximate = None, False
        for candidate, doubtful in self._rank(key, meter):
            if not candidate.applies_at(at):
                continue
            if doubtful:
                approximate = approximate or price is None
                continue
            price = price or candidate
            if candidate.kind is PriceKind.LIST:
                return Resolution(price, candidate, approximate)
        return Resolution(price, None, approximate) if price else UNPRICED

    def rows_for(self, key: PriceKey, meter: Meter) -> tuple[SkuPrice, ...]:
        """Every row that could be the price of `meter` at some time, in the order they are tried."""
        return tuple(price for price, _ in self._rank(key, meter))

    def provider(self, name: str) -> str:
        """The provider's name in this book: `bedrock` is `aws`."""
        published = any(layer is Layer.PUBLISHED for layer, _, _ in self._models.get(name, ()))
        if published or name in self.rules:
            return name
        return next((known for matches, known in self._aliases if matches(name.lower().strip())), name)

    def _rank(self, key: PriceKey, meter: Meter) -> tuple[tuple[SkuPrice, bool], ...]:
        ranked = self._ranked.get((key, meter))
        if ranked is None:
            matching = self._match(key.provider_name, key.model)
            ranked = tuple(
                row for charged_as in (meter, *FALLBACKS.get(meter, ())) for row in _in_order(matching, key, charged_as)
            )
            self._ranked[key, meter] = ranked
        return ranked

    def _match(self, provider_name: str, model: str | None) -> list[SkuPrice]:
        """The rows whose model matches: all own ones, and of the published ones the first model's."""
        if not model:
            return []
        name = model.lower()
        known = self._matching.get((provider_name, name))
        if known is None:
            # Each looks for the name as it is first: an own row for it must not hide the list's row for the dashed one.
            names = dict.fromkeys((name, dashed_date(name)))
            own = next(filter(None, (self._own(provider_name, each) for each in names)), [])
            known = own + next(filter(None, (self._published(provider_name, each) for each in names)), [])
            self._matching[provider_name, name] = known
        return known

    def _own(self, provider_name: str, name: str) -> list[SkuPrice]:
        return [
            row
            for place in dict.fromkeys((provider_name, self.provider(provider_name)))
            for layer, matches, rows in self._models.get(place, ())
            if layer is Layer.OWN and matches(name)
            for row in rows
        ]

    def _published(self, provider_name: str, name: str) -> list[SkuPrice]:
        canonical = self.provider(provider_name)
        if published := self._first_published(canonical, name):
            return published
        for maker in self.rules[canonical].serves if canonical in self.rules else ():
            # A maker's special tiers are its own: somebody else's batch or flex is not sold at its rates.
            if published := [row for row in self._first_published(maker, name) if row.service_tier is None]:
                return published
        return []

    def _first_published(self, provider_name: str, name: str) -> list[SkuPrice]:
        for layer, matches, rows in self._models.get(provider_name, ()):
            if layer is Layer.PUBLISHED and matches(name):
                return rows
        return []


def boundaries(book: PriceBook, keys: Iterable[PriceKey], period: Period) -> list[datetime]:
    """The instants inside `period` at which a price of any of `keys` begins or ends, sorted.

    Totals cut at these instants have one price each. Hours of the day give up to two instants a day.
    """
    instants: set[datetime] = set()
    rows = {row.price_id: row for key in set(keys) for meter in Meter for row in book.rows_for(key, meter)}
    for row in rows.values():
        instants.update(at for at in (row.effective_from, row.effective_to) if at)
        instants.update(_daily(row, period))
    return sorted(at for at in instants if period.start_at < at < period.end_at)


def refuse_overlaps(prices: Sequence[SkuPrice]) -> None:
    """`InputError` naming both rows where two rows for the same thing apply at one instant."""
    rows_of: dict[tuple[object, ...], list[SkuPrice]] = defaultdict(list)
    for price in prices:
        rows_of[same_sku(price)].append(price)
    for rows in rows_of.values():
        for place, one in enumerate(rows):
            for other in rows[place + 1 :]:
                if overlap(one, other):
                    raise InputError(_overlap_sentence(one, other))


def off_ladder(price: SkuPrice) -> bool:
    """Whether the row's threshold can't be decided from rollups for calls between two rungs."""
    return price.context_over_tokens is not None and price.context_over_tokens not in CONTEXT_LADDER_TOKENS


def _overlap_sentence(one: SkuPrice, other: SkuPrice) -> str:
    def name(row: SkuPrice) -> str:
        start = row.effective_from.isoformat() if row.effective_from else "the beginning"
        end = row.effective_to.isoformat() if row.effective_to else "further notice"
        return f"{row.source or row.price_id} ({row.kind} {row.unit_price} {row.currency}, {start} to {end})"

    return f"two prices for {one.sku_id} overlap: {name(one)} and {name(other)}: end one before the other begins"


def _in_order(rows: list[SkuPrice], key: PriceKey, meter: Meter) -> list[tuple[SkuPrice, bool]]:
    """The rows for exactly this meter that may apply to `key`, best first; `True` marks an undecidable threshold."""
    tier = standard_tier(key.service_tier)
    region, variant = ((name or "").lower() or None for name in (key.region, key.variant))
    usable = []
    for row in rows:
        if row.meter is not meter or standard_tier(row.service_tier) not in (None, tier):
            continue
        if row.region is not None and row.region.lower() != region:
            continue
        if row.variant is not None and row.variant.lower() != variant:
            continue
        applies = _over(row.context_over_tokens, key.context_band)
        if applies is not False:
            usable.append((row, applies is None))
    return sorted(usable, key=lambda pair: _rank_of(pair[0], key))


def _rank_of(row: SkuPrice, key: PriceKey) -> tuple[object, ...]:
    return (
        row.variant is None,
        standard_tier(row.service_tier) is None,
        row.region is None,
        row.kind is PriceKind.LIST,
        row.layer is Layer.PUBLISHED,
        row.provider_name != key.provider_name,  # under the provider's other name
        row.match_order,
        -(row.context_over_tokens or 0),
        row.daily_from is None,
        row.price_id,
    )


def _over(threshold: int | None, band: int) -> bool | None:
    """Whether a call in `band` (over that rung, not over the next) read more than `threshold`; `None` = can't tell."""
    if threshold is None or threshold <= band:
        return True
    next_rung = min((rung for rung in CONTEXT_LADDER_TOKENS if rung > band), default=None)
    return False if next_rung is not None and next_rung <= threshold else None


def _daily(row: SkuPrice, period: Period) -> Iterable[datetime]:
    if row.daily_from is None or row.daily_to is None:
        return
    day = period.start_at.astimezone(UTC).date()
    while (midnight := datetime(day.year, day.month, day.day, tzinfo=UTC)) < period.end_at:
        for t in (row.daily_from, row.daily_to):
            yield midnight + timedelta(hours=t.hour, minutes=t.minute)
        day += timedelta(days=1)


def _by_model(prices: Sequence[SkuPrice]) -> dict[str, list[tuple[Layer, Predicate, list[SkuPrice]]]]:
    """Per provider, its models in the order they are tried, each with its rows."""
    groups: dict[tuple[str, Layer, int, Match], list[SkuPrice]] = defaultdict(list)
    for price in prices:
        groups[price.provider_name, price.layer, price.match_order, price.match].append(price)
    models: dict[str, list[tuple[Layer, Predicate, list[SkuPrice]]]] = defaultdict(list)
    for (provider_name, layer, _, match), rows in groups.items():
        models[provider_name].append((layer, compile_match(match), rows))
    return dict(models)


def _digest(prices: Sequence[SkuPrice], rules: dict[str, ProviderRule]) -> str:
    digest = hashlib.sha256()
    for price in prices:
        digest.update(f"{price.price_id} {price.layer} {price.match_order}\n".encode())
    digest.update(msgspec.json.encode([rules[name] for name in sorted(rules)]))
    return digest.hexdigest()
