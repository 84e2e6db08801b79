"""Find rows of a price book the way people ask for them."""

from datetime import datetime
from itertools import product

from metering.core.event import CONTEXT_LADDER_TOKENS
from metering.core.prices import PriceBook, PriceKey
from metering.core.sku_price import SkuPrice
from metering.core.usage import Meter
from metering.errors import ConfigError


def find_prices(
    book: PriceBook,
    *,
    provider: str | None = None,
    model: str | None = None,
    meter: str | None = None,
    at: datetime | None = None,
) -> list[SkuPrice]:
    """Rows of `book` that fit all that is given. With `model`: the rows that would price calls of that model."""
    if meter is not None and meter not in {known.value for known in Meter}:
        raise ConfigError(f"unknown meter {meter!r}: known are {', '.join(known.value for known in Meter)}")
    rows = list(book.prices) if model is None else _for_model(book, provider, model)
    canonical = None if provider is None else book.provider(provider)
    return sorted(
        (
            row
            for row in rows
            if (canonical is None or model is not None or row.provider_name in (provider, canonical))
            and (meter is None or row.meter.value == meter)
            and (at is None or row.applies_at(at))
        ),
        key=lambda row: (row.sku_id, row.effective_from.isoformat() if row.effective_from else "", row.price_id),
    )


def _for_model(book: PriceBook, provider: str | None, model: str) -> list[SkuPrice]:
    """The rows any call of `model` could be priced by, whatever its tier, region, variant and size."""
    providers = [provider] if provider else sorted({row.provider_name for row in book.prices})
    facts = [
        sorted({getattr(row, name) or "" for row in book.prices}) for name in ("region", "service_tier", "variant")
    ]
    found: dict[str, SkuPrice] = {}
    for name, region, tier, variant in product(providers, *facts):
        key = PriceKey(name, model, region, tier, max(CONTEXT_LADDER_TOKENS), variant)
        for each in Meter:
            found.update({row.price_id: row for row in book.rows_for(key, each)})
    return list(found.values())
