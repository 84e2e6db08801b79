"""Rating groups gives what pricing each event by itself would give, for any book and any events."""

from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from metering.core.prices import PriceBook
from metering.core.rating import price_key, rate
from metering.core.sku_price import SkuPrice
from tests.properties.money_worlds import Event, count_segments, cuts_of, price_rows, priced_one_by_one, usage_events
from tests.worlds import OCTOBER, billed


@settings(max_examples=60)
@given(price_rows(), usage_events())
def test_groups_cost_what_their_events_cost_one_by_one(rows: list[SkuPrice], events: list[Event]) -> None:
    book = PriceBook(rows)
    priced = [event for event in events if priced_one_by_one(rows, event) is not None]
    cuts = cuts_of(book, events)
    charges, problems = rate(count_segments(priced, cuts), book, OCTOBER, cuts)
    expected = sum((priced_one_by_one(rows, event) or Fraction(0) for event in priced), Fraction(0))
    assert Fraction(billed(charges).get("USD", Decimal(0))) == expected
    assert problems == []


@settings(max_examples=60)
@given(price_rows(), usage_events())
def test_every_quantity_is_rated_or_unrated(rows: list[SkuPrice], events: list[Event]) -> None:
    book = PriceBook(rows)
    cuts = cuts_of(book, events)
    charges, problems = rate(count_segments(events, cuts), book, OCTOBER, cuts)
    used: dict[str, int] = defaultdict(int)
    for _, _, quantities in events:
        for meter, quantity in quantities.items():
            used[meter] += quantity
    for charge in charges:
        used[charge.meter] -= charge.consumed_quantity
    assert not any(used.values())
    unpriced = sum(charge.consumed_quantity for charge in charges if charge.price is None)
    assert sum(problem.quantity for problem in problems) == unpriced


@settings(max_examples=60)
@given(
    price_rows(),
    usage_events(),
    st.sets(st.integers(1, 30).map(lambda day: datetime.fromisoformat(f"2026-10-{day:02}T00:00Z"))),
)
def test_cutting_more_often_changes_no_cost(rows: list[SkuPrice], events: list[Event], more: set[datetime]) -> None:
    book = PriceBook(rows)
    cuts = cuts_of(book, events)
    finer = sorted({*cuts, *(cut for cut in more if cut > OCTOBER.start_at)})
    coarse, fine = (rate(count_segments(events, each), book, OCTOBER, each) for each in (cuts, finer))
    assert billed(fine[0]) == billed(coarse[0])
    assert fine[1] == coarse[1]


@settings(max_examples=60)
@given(price_rows(), usage_events())
def test_between_two_boundaries_no_price_changes(rows: list[SkuPrice], events: list[Event]) -> None:
    book = PriceBook(rows)
    cuts = cuts_of(book, events)
    for at, who, quantities in events:
        segment = max([OCTOBER.start_at, *(cut for cut in cuts if cut <= at)])
        for meter in quantities:
            then, first = (book.resolve(price_key(who), meter, instant).price for instant in (at, segment))
            assert then == first
