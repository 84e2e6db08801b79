"""One dated price of one thing. Never edited; a later row or a later version of its source supersedes it."""

import hashlib
import re
from datetime import UTC, datetime, time
from decimal import Decimal
from enum import StrEnum

import msgspec

from metering.core.model_match import Match, folded
from metering.core.money import HOUR_MS, MINUTE_MS, PRICE_SCALE, to_text
from metering.core.period import on_slot
from metering.core.units import DURATIONS, pricing_unit
from metering.core.usage import UNBILLED_METERS, Meter
from metering.errors import InputError

_AMOUNT = re.compile(r"[0-9]{1,20}(\.[0-9]{1,12})?")
# What providers call "no special tier". A price without a tier is the price of all of these.
STANDARD_TIERS = frozenset({"", "default", "standard", "auto", "on_demand", "ondemand", "on-demand"})


class PriceKind(StrEnum):
    """What everybody pays, or what we pay. Both are kept side by side (FOCUS ListCost, ContractedCost)."""

    LIST = "list"
    CONTRACTED = "contracted"


class Layer(StrEnum):
    """Who said so. Of two equally specific prices of one kind, the operator's own is used."""

    OWN = "own"
    PUBLISHED = "published"


class SkuPrice(msgspec.Struct, frozen=True, kw_only=True):
    """`unit_price` per `unit_quantity` of `meter`, for the models that `match`, from / to (half-open, aware UTC).

    `service_tier`, `region` and `variant` `None` = any that has no price of its own. `context_over_tokens` makes it the
    price of calls that read more than that, for all their tokens. `daily_from`/`daily_to` (UTC, may wrap around
    midnight) make it the price of those hours. `InputError` for a row that can't be used, naming it.
    """

    provider_name: str
    model: str  # what people call it; `match` decides
    match: Match
    meter: Meter
    unit_price: Decimal
    unit_quantity: int = 1_000_000
    currency: str = "USD"
    service_tier: str | None = None
    region: str | None = None
    variant: str | None = None
    context_over_tokens: int | None = None
    daily_from: time | None = None
    daily_to: time | None = None
    effective_from: datetime | None = None  # None = since ever
    effective_to: datetime | None = None  # None = until superseded
    kind: PriceKind = PriceKind.LIST
    layer: Layer = Layer.OWN
    match_order: int = 0  # of several models of one layer that match, the lowest is used
    source: str = ""  # file and row, or list and version
    price_id: str = ""

    def __post_init__(self) -> None:
        """Check the row and give it its id: a digest of everything that makes it this price."""
        if self.price_id:
            return  # read back from the ledger: it was checked when it got its id
        if refused := _refusal(self):
            raise InputError(f"{self.source or 'price'} ({self.sku_id}): {refused}")
        for name in ("effective_from", "effective_to"):
            at = getattr(self, name)
            msgspec.structs.force_setattr(self, name, at and at.astimezone(UTC))
        msgspec.structs.force_setattr(self, "unit_price", Decimal(to_text(self.unit_price)))
        msgspec.structs.force_setattr(self, "price_id", _price_id(self))

    @property
    def sku_id(self) -> str:
        """What is priced, for people and FOCUS: `openai/gpt-4o/input`, then what else makes it this price.

        In order: `@tier`, `@region`, `@variant`, `>tokens`, `@hours`.
        """
        parts = [f"{self.provider_name}/{self.model}/{self.meter.value}"]
        parts += [f"@{part}" for part in (self.service_tier, self.region, self.variant) if part]
        parts += [f">{self.context_over_tokens}"] if self.context_over_tokens else []
        parts += [f"@{self.daily_from:%H:%M}-{self.daily_to:%H:%M}Z"] if self.daily_from and self.daily_to else []
        return "".join(parts)

    @property
    def pricing_unit(self) -> str:
        """FOCUS PricingUnit: `1000000 Tokens`, `1 Hour`."""
        return pricing_unit(self.meter, self.unit_quantity)

    def applies_at(self, at: datetime) -> bool:
        """Whether this is a price at `at` (aware)."""
        if (self.effective_from and at < self.effective_from) or (self.effective_to and at >= self.effective_to):
            return False
        return self.daily_from is None or self.daily_to is None or _within(at, self.daily_from, self.daily_to)


def parse_amount(value: object) -> Decimal:
    """A price as people write it, exactly: a string or int, at most 12 decimals. `InputError` for all else.

    A float is refused: 0.1 in a file is not one tenth once a float has held it.
    """
    if isinstance(value, float):
        raise InputError(f'a price is exact: write it in quotes, price = "{value}"')
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _AMOUNT.fullmatch(text):
        raise InputError(f"{value!r} is not a price: write digits with at most {PRICE_SCALE} decimals, such as 2.50")
    return Decimal(text)


def standard_tier(service_tier: str | None) -> str | None:
    """`None` for the tier everybody gets, else the tier's lower-cased name."""
    lowered = (service_tier or "").lower()
    return None if lowered in STANDARD_TIERS else lowered


def same_sku(price: SkuPrice) -> tuple[object, ...]:
    """Rows with the same value compete: at no instant may two of them apply."""
    # Hourly rows stand above the all-day row, so the two don't compete.
    hourly = price.daily_from is not None
    rank = (price.layer, price.kind, price.provider_name, folded(price.match), price.meter)
    region, variant = (name and name.lower() for name in (price.region, price.variant))
    return (*rank, standard_tier(price.service_tier), region, variant, price.context_over_tokens, hourly)


def overlap(one: SkuPrice, other: SkuPrice) -> bool:
    """Whether there is an instant at which both rows apply."""
    if one.effective_to and other.effective_from and one.effective_to <= other.effective_from:
        return False
    if other.effective_to and one.effective_from and other.effective_to <= one.effective_from:
        return False
    return any(a < d and c < b for a, b in _minutes(one) for c, d in _minutes(other))


def _within(at: datetime, start: time, end: time) -> bool:
    now = at.astimezone(UTC).time()
    return start <= now < end if start < end else now >= start or now < end


def _minutes(price: SkuPrice) -> list[tuple[int, int]]:
    """The row's hours as minutes of the day, cut at midnight."""
    if price.daily_from is None or price.daily_to is None:
        return [(0, 1440)]
    start, end = (t.hour * 60 + t.minute for t in (price.daily_from, price.daily_to))
    return [(start, end)] if start < end else [(start, 1440), (0, end)]


def _refusal(price: SkuPrice) -> str | None:
    """Why the row can't be used, or `None`."""
    if not price.provider_name or not price.model:
        return "a price needs a provider and a model"
    if type(price.unit_price) is not Decimal or not _AMOUNT.fullmatch(to_text(price.unit_price)):
        return f"{price.unit_price} is not a price of at most {PRICE_SCALE} decimals"
    if not re.fullmatch("[A-Z]{3}", price.currency):
        return f"currency {price.currency!r} is not an ISO 4217 code such as USD"
    if price.context_over_tokens is not None and price.context_over_tokens < 1:
        return f"context_over_tokens {price.context_over_tokens} must be at least 1"
    return _indivisible(price) or _untimely(price)


def _indivisible(price: SkuPrice) -> str | None:
    if price.meter in UNBILLED_METERS:
        return f"{price.meter} is what the provider does not bill: it has no price"
    if price.meter in DURATIONS and price.unit_quantity in (HOUR_MS, MINUTE_MS):
        return None  # `cost` knows what to do
    if price.unit_quantity < 1 or price.unit_quantity != 10 ** (len(str(price.unit_quantity)) - 1):
        return f"per {price.unit_quantity} is not a power of ten: the division would not be exact"
    return None


def _untimely(price: SkuPrice) -> str | None:
    for name in ("effective_from", "effective_to"):
        at = getattr(price, name)
        if at is not None and (at.tzinfo is None or not on_slot(at)):
            return f"{name} {at.isoformat()} must be on a quarter-hour with a time zone: prices change between slots"
    if price.effective_from and price.effective_to and price.effective_from >= price.effective_to:
        return f"it would end ({price.effective_to.isoformat()}) before it begins ({price.effective_from.isoformat()})"
    hours = (price.daily_from, price.daily_to)
    if (hours[0] is None) != (hours[1] is None) or (hours[0] is not None and hours[0] == hours[1]):
        return "daily hours need a start and another end"
    if any(t is not None and (t.minute % 15 or t.second or t.microsecond or t.tzinfo) for t in hours):
        return "daily hours must be plain UTC times on a quarter-hour"
    return None


def _price_id(price: SkuPrice) -> str:
    # Position and source are left out: a longer list must not give an unchanged price a new id.
    facts = msgspec.structs.asdict(price) | {"price_id": "-", "source": "", "match_order": 0}
    if price.variant is None:
        del facts["variant"]  # as before there were any: a price keeps its id
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:20]
