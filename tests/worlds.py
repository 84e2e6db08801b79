"""Tiny literal worlds for the tests of money: prices, usage and periods with everything unsaid left at a default."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from metering.core.model_match import Match
from metering.core.money import add
from metering.core.period import Period
from metering.core.rating import Charge
from metering.core.sku_price import SkuPrice
from metering.core.slot import Dimension, SlotTotal
from metering.core.statement import Provenance
from metering.core.usage import Meter

OCTOBER = Period("2026-10", datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
PROVENANCE = Provenance(
    price_book_digest="p",
    price_book_versions=("list 1 #1",),
    team_directory_digest="t",
    ledger_watermark=7,
    code_version="0",
)


def october(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, 10, day, hour, minute, tzinfo=UTC)


def price(amount: str, meter: Meter = Meter.INPUT, **facts: Any) -> SkuPrice:
    """A price of provider `acme`'s model `m`."""
    name = facts.pop("model", "m")
    said: dict[str, Any] = {"provider_name": "acme", "model": name, "match": Match(equals=name), "meter": meter}
    return SkuPrice(**(said | {"unit_price": Decimal(amount)} | facts))


def dimension(number: int = 1, **facts: Any) -> Dimension:
    """Who and what, of provider `acme`'s model `m`, owned by nobody."""
    said: dict[str, Any] = dict.fromkeys(Dimension.__struct_fields__)
    said |= {"dimension_id": number, "provider_name": "acme", "model": "m", "operation_name": "chat"}
    said |= {"context_band": 0, "usage_source": "reported", "outcome": "completed"}
    return Dimension(**(said | facts))


def total(
    quantities: Mapping[Meter, int], calls: int = 1, at: datetime = OCTOBER.start_at, number: int = 1, **facts: Any
) -> SlotTotal:
    return SlotTotal(
        dimension=dimension(number, **facts), segment_start_at=at, calls=calls, quantities=dict(quantities)
    )


def billed(charges: Iterable[Charge]) -> dict[str, Decimal]:
    """The exact billed cost per currency; unpriced charges have none."""
    amounts: dict[str, list[Decimal]] = {}
    for charge in charges:
        if charge.currency and charge.billed_cost is not None:
            amounts.setdefault(charge.currency, []).append(charge.billed_cost)
    return {currency: add(amounts[currency]) for currency in sorted(amounts)}
