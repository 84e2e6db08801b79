"""Random price books and random events, and the plainest way to price them: one event, one look through all rows."""

from collections import defaultdict
from datetime import datetime, time, timedelta
from fractions import Fraction
from itertools import pairwise

from hypothesis import strategies as st

from metering.core.event import CONTEXT_LADDER_TOKENS
from metering.core.prices import FALLBACKS, PriceBook, boundaries
from metering.core.rating import price_key
from metering.core.sku_price import Layer, PriceKind, SkuPrice
from metering.core.slot import Dimension, SlotTotal
from metering.core.usage import Meter
from tests.worlds import OCTOBER, dimension, price

METERS = (Meter.INPUT, Meter.CACHE_READ_INPUT, Meter.OUTPUT, Meter.REASONING_OUTPUT)
BANDS = (0, 128_000, 200_000)
# Three of four stretches have a price. Few cuts and few kinds of calls, so that they meet.
AMOUNTS = st.sampled_from((None, "0.001", "2.5", "100"))
SLOTS = int((OCTOBER.end_at - OCTOBER.start_at) / timedelta(minutes=15))
Event = tuple[datetime, Dimension, dict[Meter, int]]


@st.composite
def price_rows(draw: st.DrawFn) -> list[SkuPrice]:
    """Rows for one model that never overlap: each SKU's time is cut into stretches, some of them without a price."""
    rows = []
    for meter in METERS:
        chosen = draw(st.integers(0, 2 ** len(SKUS) - 1))
        for facts in (sku for bit, sku in enumerate(SKUS) if chosen >> bit & 1):
            cuts = sorted(draw(st.sets(st.sampled_from(range(24, SLOTS - 1, 73)), max_size=2)))
            edges = [None, *(OCTOBER.start_at + timedelta(minutes=15 * cut) for cut in cuts), None]
            for start_at, end_at in pairwise(edges):
                if amount := draw(AMOUNTS):
                    span = {"effective_from": start_at, "effective_to": end_at}
                    rows.append(price(amount, meter, **facts, **span))
    return rows


SKUS: tuple[dict[str, object], ...] = (
    {},
    {"layer": Layer.PUBLISHED},
    {"kind": PriceKind.CONTRACTED},
    {"service_tier": "batch"},
    {"context_over_tokens": 128_000},
    {"region": "eu"},
    {"variant": "1024x1024 hd"},
    {"daily_from": time(22, 30), "daily_to": time(6, 15)},
    {"kind": PriceKind.CONTRACTED, "daily_from": time(9), "daily_to": time(9, 15)},
)

DIMENSIONS = tuple(
    dimension(number, model=model, service_tier=tier, context_band=band, region=region, variant=variant, team=team)
    for number, (model, tier, band, region, variant, team) in enumerate(
        (model, tier, band, region, variant, team)
        for model in ("m", "m", "m", "unknown")
        for tier in (None, "batch")
        for band in BANDS
        for region in (None, "eu")
        for variant in (None, "1024x1024 hd")
        for team in (None, "red")
    )
)


def usage_events() -> st.SearchStrategy[list[Event]]:
    """4 to 20 calls anywhere in October."""
    quantities = st.dictionaries(st.sampled_from(METERS), st.integers(1, 10**6), min_size=1, max_size=3)
    instants = st.integers(0, SLOTS * 900 - 1).map(lambda second: OCTOBER.start_at + timedelta(seconds=second))
    return st.lists(st.tuples(instants, st.sampled_from(DIMENSIONS), quantities), min_size=4, max_size=20)


def count_segments(events: list[Event], cuts: list[datetime]) -> list[SlotTotal]:
    """What `slot_totals` would return for `events`, cut at `cuts`."""
    counted: dict[tuple[datetime, int], list[Event]] = defaultdict(list)
    for event in events:
        start_at = max([OCTOBER.start_at, *(cut for cut in cuts if cut <= event[0])])
        counted[start_at, event[1].dimension_id].append(event)
    return [
        SlotTotal(dimension=group[0][1], segment_start_at=start_at, calls=len(group), quantities=_summed(group))
        for (start_at, _), group in sorted(counted.items(), key=lambda item: item[0])
    ]


def cuts_of(book: PriceBook, events: list[Event]) -> list[datetime]:
    """Where the book says that totals must be cut for these events."""
    return boundaries(book, [price_key(event[1]) for event in events], OCTOBER)


def priced_one_by_one(rows: list[SkuPrice], event: Event) -> Fraction | None:
    """What an event costs, by the documented rule and nothing else; `None` if any of its meters has no price."""
    at, who, quantities = event
    cost = Fraction(0)
    for meter, quantity in quantities.items():
        row = _best(rows, who, meter, at)
        if row is None:
            return None
        cost += Fraction(row.unit_price) * quantity / row.unit_quantity
    return cost


def _best(rows: list[SkuPrice], who: Dimension, meter: Meter, at: datetime) -> SkuPrice | None:
    for charged_as in (meter, *FALLBACKS.get(meter, ())):
        fitting = [row for row in rows if row.meter is charged_as and _fits(row, who, at)]
        if fitting:
            return max(fitting, key=_closeness)
    return None


def _fits(row: SkuPrice, who: Dimension, at: datetime) -> bool:
    over = row.context_over_tokens or 0
    assert over in (0, *CONTEXT_LADDER_TOKENS)
    facts = ("service_tier", "region", "variant")
    said = all(getattr(row, name) in (None, getattr(who, name)) for name in facts)
    if row.model != who.model or not said or over > who.context_band:
        return False
    if (row.effective_from and at < row.effective_from) or (row.effective_to and row.effective_to <= at):
        return False
    if not row.daily_from or not row.daily_to:
        return True
    minutes = [t.hour * 60 + t.minute for t in (row.daily_from, at.time(), row.daily_to)]
    return (minutes[1] - minutes[0]) % 1440 < (minutes[2] - minutes[0]) % 1440


def _closeness(row: SkuPrice) -> tuple[object, ...]:
    return (
        row.variant is not None,
        row.service_tier is not None,
        row.region is not None,
        row.kind is PriceKind.CONTRACTED,
        row.layer is Layer.OWN,
        row.context_over_tokens or 0,
        row.daily_from is not None,
    )


def _summed(group: list[Event]) -> dict[Meter, int]:
    sums: dict[Meter, int] = defaultdict(int)
    for _, _, quantities in group:
        for meter, quantity in quantities.items():
            sums[meter] += quantity
    return dict(sums)
