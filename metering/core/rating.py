"""Rating: integer quantities in, exact charges out. Each group is priced once, with `Decimal`.

A charge carries FOCUS' names (snake_cased). What can't be priced is still a charge, with its quantity and
no cost, and a problem that says what is missing.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from metering.core.money import add, cost, plain
from metering.core.period import Period
from metering.core.prices import PriceBook, PriceKey, Resolution
from metering.core.sku_price import SkuPrice
from metering.core.slot import Dimension, SlotTotal
from metering.core.units import quantity_text
from metering.core.usage import UNBILLED_METERS, Meter


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """What one meter of one group of calls costs over a stretch of time with one price.

    Costs are exact, in `currency`; `None` = unpriced. `list_cost` is what everybody would pay, `contracted_cost` what
    our contract says (the list price where there is none), `billed_cost` what we expect on the bill. `list_*` is
    `None` where no list price is known in `currency`.
    """

    dimension: Dimension
    meter: Meter
    charge_period_start: datetime
    charge_period_end: datetime
    consumed_quantity: int
    charge_category: str = "Usage"
    price: SkuPrice | None = None
    list_unit_price: Decimal | None = None
    list_cost: Decimal | None = None
    contracted_unit_price: Decimal | None = None
    contracted_cost: Decimal | None = None
    approximate: bool = False  # a threshold off the context ladder may or may not apply

    @property
    def unpriced(self) -> bool:
        """Whether a price is missing: not where the provider bills nothing."""
        return self.price is None and self.meter not in UNBILLED_METERS

    @property
    def billed_cost(self) -> Decimal | None:
        """What the provider's bill should say: the contracted cost. `None` = unpriced."""
        return self.contracted_cost

    @property
    def currency(self) -> str | None:
        """ISO 4217, the price's; `None` = unpriced."""
        return self.price.currency if self.price else None

    @property
    def priced_as(self) -> Meter | None:
        """The meter whose price was used: not `meter` where that one has no price of its own."""
        return self.price.meter if self.price else None

    @property
    def pricing_quantity(self) -> Decimal | None:
        """`consumed_quantity` in the price's units (FOCUS PricingQuantity)."""
        return cost(self.consumed_quantity, Decimal(1), self.price.unit_quantity) if self.price else None


class ProblemKind(StrEnum):
    """What rating couldn't settle."""

    UNPRICED = "unpriced"
    APPROXIMATE = "approximate"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a person should mend, over all charges it concerns."""

    kind: ProblemKind
    provider_name: str
    model: str | None
    meter: Meter
    quantity: int

    @property
    def sentence(self) -> str:
        """What is wrong and what to do."""
        what = f"{quantity_text(self.meter, self.quantity)} of {self.provider_name}/{self.model or 'unknown model'}"
        if self.kind is ProblemKind.UNPRICED:
            return f"no price for {what}: add it to your price file and run `metering prices import FILE`"
        return f"the price of {what} depends on a context threshold that rollups can't decide: the lower rate was taken"


def price_key(dimension: Dimension) -> PriceKey:
    """What of `dimension` decides its prices."""
    return PriceKey(
        dimension.provider_name,
        dimension.model,
        dimension.region,
        dimension.service_tier,
        dimension.context_band,
        dimension.variant,
    )


def rate(
    totals: Iterable[SlotTotal], book: PriceBook, period: Period, boundaries: Sequence[datetime] = ()
) -> tuple[list[Charge], list[Problem]]:
    """Price every meter of every total once. `boundaries` are the instants the totals were cut at, sorted.

    Nothing is dropped: a quantity without a price is a charge without a cost, and so is what the provider does not
    bill. A request count is a charge only where somebody sells requests.
    """
    charges: list[Charge] = []
    for total in totals:
        key = price_key(total.dimension)
        start_at = max(total.segment_start_at, period.start_at)
        place = bisect_right(boundaries, start_at)
        end_at = boundaries[place] if place < len(boundaries) else period.end_at
        for meter in Meter:
            if quantity := total.quantities.get(meter):
                found = book.resolve(key, meter, start_at)
                if found.price or meter is not Meter.REQUEST:
                    charges.append(_charge(total.dimension, meter, quantity, found, (start_at, end_at)))
    return charges, _problems(charges)


def event_cost(quantities: Mapping[Meter, int], charges: Iterable[Charge]) -> Decimal | None:
    """What an event's `quantities` cost at the prices of the `charges` it is counted in; `None` if none has a price."""
    costs = [
        cost(quantities[charge.meter], charge.price.unit_price, charge.price.unit_quantity)
        for charge in charges
        if charge.price and charge.meter in quantities
    ]
    return plain(add(costs)) if costs else None


def _charge(
    dimension: Dimension, meter: Meter, quantity: int, found: Resolution, span: tuple[datetime, datetime]
) -> Charge:
    price, listed = found.price, found.list_price
    if listed and price and listed.currency != price.currency:
        listed = None  # amounts in two currencies don't belong beside each other
    return Charge(
        dimension=dimension,
        meter=meter,
        charge_period_start=span[0],
        charge_period_end=span[1],
        consumed_quantity=quantity,
        price=price,
        list_unit_price=_per(listed, price),
        list_cost=cost(quantity, listed.unit_price, listed.unit_quantity) if listed else None,
        contracted_unit_price=price.unit_price if price else None,
        contracted_cost=cost(quantity, price.unit_price, price.unit_quantity) if price else None,
        approximate=found.approximate,
    )


def _per(listed: SkuPrice | None, price: SkuPrice | None) -> Decimal | None:
    """The list unit price per the same unit as the price that is charged."""
    if not listed or not price:
        return None
    return cost(price.unit_quantity, listed.unit_price, listed.unit_quantity)


def _problems(charges: Iterable[Charge]) -> list[Problem]:
    quantities: dict[tuple[ProblemKind, str, str | None, Meter], int] = {}
    for charge in charges:
        if charge.unpriced or charge.approximate:
            kind = ProblemKind.UNPRICED if charge.unpriced else ProblemKind.APPROXIMATE
            key = (kind, charge.dimension.provider_name, charge.dimension.model, charge.meter)
            quantities[key] = quantities.get(key, 0) + charge.consumed_quantity
    return [
        Problem(kind=kind, provider_name=provider, model=model, meter=meter, quantity=quantity)
        for (kind, provider, model, meter), quantity in sorted(
            quantities.items(), key=lambda item: (item[0][0], item[0][1], item[0][2] or "", item[0][3])
        )
    ]
