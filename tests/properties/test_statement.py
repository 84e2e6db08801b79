"""A statement loses nothing and doubles nothing, for any book, events and grouping."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from metering.core.money import add, round_total
from metering.core.placement import By
from metering.core.prices import PriceBook
from metering.core.rating import rate
from metering.core.sku_price import SkuPrice
from metering.core.statement import Statement, compose
from metering.core.teams import TeamAssignment, TeamDirectory
from tests.properties.money_worlds import Event, count_segments, cuts_of, price_rows, usage_events
from tests.worlds import OCTOBER, PROVENANCE, billed

TEAMS = TeamDirectory([TeamAssignment(team="red", cost_center="cc-1")])


def state(book: PriceBook, events: list[Event], by: By) -> Statement:
    cuts = cuts_of(book, events)
    totals = count_segments(events, cuts)
    return compose(totals, rate(totals, book, OCTOBER, cuts), by, OCTOBER, TEAMS, PROVENANCE)


@settings(max_examples=60)
@given(price_rows(), usage_events(), st.sampled_from(By))
def test_lines_add_up_to_the_total_and_the_total_to_the_usage(
    rows: list[SkuPrice], events: list[Event], by: By
) -> None:
    book = PriceBook(rows)
    statement = state(book, events, by)
    total = statement.total
    assert total.calls == sum(line.calls for line in statement.lines) == len(events)
    assert total.tokens == sum(line.tokens for line in statement.lines) == sum(sum(each[2].values()) for each in events)
    for amount in total.amounts:
        own = [line for line in statement.lines if line.currency == amount.currency]
        assert amount.cost == add(line.cost for line in own if line.cost is not None)
        assert amount.cost == round_total(amount.cost_exact, amount.currency)
        if amount.list_cost is not None:
            assert amount.list_cost == add(line.list_cost for line in own if line.list_cost is not None)
        assert all(
            abs(add([line.cost or Decimal(0), -(line.cost_exact or Decimal(0))])) < Decimal("0.01") for line in own
        )
    charges = rate(count_segments(events, cuts_of(book, events)), book, OCTOBER, cuts_of(book, events))[0]
    assert {amount.currency: amount.cost_exact for amount in total.amounts} == billed(charges)


@settings(max_examples=60)
@given(price_rows(), usage_events(), st.sampled_from(By), st.sampled_from(By))
def test_however_it_is_gathered_it_is_the_same_usage(
    rows: list[SkuPrice], events: list[Event], one: By, other: By
) -> None:
    book = PriceBook(rows)
    first, second = state(book, events, one).total, state(book, events, other).total
    assert (first.calls, first.quantities, first.unpriced_tokens) == (
        second.calls,
        second.quantities,
        second.unpriced_tokens,
    )
    assert [(a.cost_exact, a.cost) for a in first.amounts] == [(a.cost_exact, a.cost) for a in second.amounts]


@settings(max_examples=40)
@given(price_rows(), usage_events(), st.sampled_from(By), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_events_does_not_matter(
    rows: list[SkuPrice], events: list[Event], by: By, random: object
) -> None:
    statement = state(PriceBook(rows), events, by)
    random.shuffle(rows)  # type: ignore[attr-defined]
    random.shuffle(events)  # type: ignore[attr-defined]
    assert state(PriceBook(rows), events, by) == statement
