"""Read the price list that the `genai-prices` package carries into our own rows. Its data only, not its arithmetic.

How its words become ours:

- Each model is a `match`; of several that match a call, the list's first is used, as there.
- A dated set of prices holds from midnight UTC of its date until the next one. The first set of a model has no
  date: it holds from the beginning, as the list does not say since when.
- A set for hours of the day stands above the others at those hours.
- Context tiers are cliffs: over the threshold, every token of the call has the tier's price. A threshold one token
  below a rung of the context ladder (199,999) is read as the rung; the two differ for a call of exactly that size.
- `processing: batch`, `service_tier: …` and `speed: fast` become service tiers. What a variant doesn't price keeps the
  standard price. Other variants, and units we don't meter, are left out and counted.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, time
from decimal import Decimal
from importlib.metadata import version

import msgspec
from genai_prices import types
from genai_prices.data import providers as published_providers

from metering.core.event import CONTEXT_LADDER_TOKENS
from metering.core.model_match import Match
from metering.core.money import HOUR_MS, round_price
from metering.core.prices import ProviderRule
from metering.core.sku_price import Layer, PriceKind, SkuPrice, standard_tier
from metering.core.usage import Meter
from metering.errors import InputError

SOURCE_NAME = "genai-prices"
MILLION, THOUSAND = 1_000_000, 1_000
UNITS: dict[str, tuple[Meter, int]] = {
    "input_mtok": (Meter.INPUT, MILLION),
    "cache_read_mtok": (Meter.CACHE_READ_INPUT, MILLION),
    "cache_write_mtok": (Meter.CACHE_WRITE_INPUT, MILLION),
    "cache_write_1h_mtok": (Meter.CACHE_WRITE_1H_INPUT, MILLION),
    "input_audio_mtok": (Meter.AUDIO_INPUT, MILLION),
    "cache_audio_read_mtok": (Meter.CACHE_READ_AUDIO_INPUT, MILLION),
    "input_image_mtok": (Meter.IMAGE_INPUT, MILLION),
    "input_video_mtok": (Meter.VIDEO_INPUT, MILLION),
    "output_mtok": (Meter.OUTPUT, MILLION),
    "output_reasoning_mtok": (Meter.REASONING_OUTPUT, MILLION),
    "output_audio_mtok": (Meter.AUDIO_OUTPUT, MILLION),
    "output_image_mtok": (Meter.IMAGE_OUTPUT, MILLION),
    "input_audio_hours": (Meter.AUDIO_INPUT_MS, HOUR_MS),
    "output_audio_hours": (Meter.AUDIO_OUTPUT_MS, HOUR_MS),
    "input_mchars": (Meter.CHARACTER, MILLION),
    "input_document_kpages": (Meter.PAGE, THOUSAND),
    "web_searches_kcount": (Meter.WEB_SEARCH, THOUSAND),
    "storage_searches_kcount": (Meter.FILE_SEARCH, THOUSAND),
    "code_executions_kcount": (Meter.CODE_EXECUTION, THOUSAND),
    "rerank_searches_kcount": (Meter.SEARCH_UNIT, THOUSAND),
    "requests_kcount": (Meter.REQUEST, THOUSAND),
}
# A unit of which others are parts, and what else of a call makes it that unit. Where a part has no price, this is it.
WHOLES = {"audio_hours": ("input_audio_hours", "output_audio_hours")}
VARIANTS = {"input_annotated_document_kpages": ("input_document_kpages", "annotated")}


class PriceList(msgspec.Struct, frozen=True, kw_only=True):
    """What a source of prices says. `left_out`: how often it priced something that we don't meter, by its name."""

    source_name: str
    source_version: str
    layer: Layer
    prices: list[SkuPrice]
    rules: list[ProviderRule] = []
    left_out: dict[str, int] = {}


class _Span(msgspec.Struct, frozen=True):
    """When a set of prices holds: dates (aware UTC, half-open) and hours (UTC)."""

    start_at: datetime | None = None
    end_at: datetime | None = None
    daily_from: time | None = None
    daily_to: time | None = None


def read_published() -> PriceList:
    """The whole list: some 15,000 rows. `InputError` if the package holds something we can't read."""
    left_out: Counter[str] = Counter()
    source = f"{SOURCE_NAME} {version(SOURCE_NAME)}"
    prices = [
        row
        for provider in published_providers
        for order, model in enumerate(provider.models)
        for row in _model_rows(provider.id, model, order, source, left_out)
    ]
    rules = [
        ProviderRule(
            provider_name=provider.id,
            match=to_match(provider.provider_match) if provider.provider_match else None,
            serves=tuple(provider.fallback_model_providers or ()),
        )
        for provider in published_providers
    ]
    return PriceList(
        source_name=SOURCE_NAME,
        source_version=version(SOURCE_NAME),
        layer=Layer.PUBLISHED,
        prices=prices,
        rules=rules,
        left_out=dict(sorted(left_out.items())),
    )


def to_match(clause: types.MatchLogic) -> Match:
    """A clause of the list as ours; the words are the same."""
    if isinstance(clause, types.ClauseOr):
        return Match(any_of=tuple(to_match(part) for part in clause.or_))
    if isinstance(clause, types.ClauseAnd):
        return Match(all_of=tuple(to_match(part) for part in clause.and_))
    return Match(**vars(clause))


def _model_rows(
    provider: str, model: types.ModelInfo, order: int, source: str, left_out: Counter[str]
) -> Iterator[SkuPrice]:
    match = to_match(model.match)
    sets = [(None, span, prices) for span, prices in _standard_sets(model)]
    for tier, span, prices in [*sets, *_variant_sets(model, left_out)]:
        for key, value in _parts(prices).items():
            unit, kind = VARIANTS.get(key, (key, None))
            if unit not in UNITS:
                left_out[unit] += 1
                continue
            meter, unit_quantity = UNITS[unit]
            for over, amount in _steps(value):
                yield SkuPrice(
                    provider_name=provider,
                    model=model.id,
                    match=match,
                    match_order=order,
                    meter=meter,
                    unit_price=round_price(amount),
                    unit_quantity=unit_quantity,
                    service_tier=tier,
                    variant=kind,
                    context_over_tokens=over,
                    daily_from=span.daily_from,
                    daily_to=span.daily_to,
                    effective_from=span.start_at,
                    effective_to=span.end_at,
                    kind=PriceKind.LIST,
                    layer=Layer.PUBLISHED,
                    source=source,
                )


def _parts(prices: types.ModelPrice) -> dict[str, Decimal | types.TieredPrices]:
    """Unit → price of what `prices` names, wholes as their parts."""
    named = {key: value for key, value in vars(prices).items() if value is not None}
    for whole, parts in WHOLES.items():
        if (value := named.pop(whole, None)) is not None:
            named = dict.fromkeys(parts, value) | named
    return named


def _standard_sets(model: types.ModelInfo) -> list[tuple[_Span, types.ModelPrice]]:
    """A model's sets of prices, each with when it holds. There, the last set that is active at an instant wins."""
    if isinstance(model.prices, types.ModelPrice):
        return [(_Span(), model.prices)]
    sets = []
    for place, conditional in enumerate(model.prices):
        later = [_start_at(other.constraint) for other in model.prices[place + 1 :]]
        end_at = min((at for at in later if at), default=None)
        # The first set is also what holds when no other does, whatever its own condition.
        start_at = _start_at(conditional.constraint) if place else None
        if start_at is None or end_at is None or start_at < end_at:
            sets.append((_span(start_at, end_at, conditional.constraint), conditional.prices))
    return sets


def _variant_sets(
    model: types.ModelInfo, left_out: Counter[str]
) -> Iterator[tuple[str | None, _Span, types.ModelPrice]]:
    """The sets for special tiers. There, the first active variant that prices a unit wins."""
    ends_at: dict[tuple[str, str], datetime | None] = {}  # (tier, unit) -> from when an earlier variant has it
    for variant in model.price_variants or ():
        named = _tier(variant.when)
        if named is None:
            left_out[", ".join(f"{key}: {value}" for key, value in sorted(variant.when.items()))] += 1
            continue
        if standard_tier(named) is None:
            continue  # the standard tier's prices are the standard prices
        start_at = _start_at(variant.constraint)
        for key, value in _parts(variant.prices).items():
            taken_from = ends_at.get((named, key))
            if (named, key) in ends_at and (taken_from is None or (start_at is not None and start_at >= taken_from)):
                continue
            yield named, _span(start_at, taken_from, variant.constraint), types.ModelPrice(**{key: value})
            ends_at[named, key] = start_at


def _tier(when: dict[str, str]) -> str | None:
    """Which service tier a variant is for; `None` if it asks for something a call doesn't tell us."""
    match list(when.items()):
        case [("service_tier", tier)]:
            return tier
        case [("processing", "batch")]:
            return "batch"
        case [("speed", "fast")]:
            return "fast"
    return None


def _steps(value: Decimal | types.TieredPrices) -> Iterator[tuple[int | None, Decimal]]:
    """(threshold or `None`, price) for each context tier."""
    if isinstance(value, Decimal):
        yield None, value
        return
    yield None, value.base
    for tier in value.tiers:
        yield (tier.start + 1 if tier.start + 1 in CONTEXT_LADDER_TOKENS else tier.start), tier.price


def _start_at(constraint: types.StartDateConstraint | types.TimeOfDateConstraint | None) -> datetime | None:
    if not isinstance(constraint, types.StartDateConstraint):
        return None
    day = constraint.start_date
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _span(
    start_at: datetime | None,
    end_at: datetime | None,
    constraint: types.StartDateConstraint | types.TimeOfDateConstraint | None,
) -> _Span:
    if not isinstance(constraint, types.TimeOfDateConstraint):
        return _Span(start_at, end_at)
    hours = [_utc(t) for t in (constraint.start_time, constraint.end_time)]
    return _Span(start_at, end_at, hours[0], hours[1])


def _utc(t: time) -> time:
    if t.tzinfo not in (None, UTC):
        raise InputError(f"the hours of a published price ({t}) are not in UTC: this version can't read that list")
    return t.replace(tzinfo=None)
