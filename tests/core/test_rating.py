"""Rating: every quantity becomes a charge, with a cost or without one."""

from decimal import Decimal
from typing import Any

import pytest

from metering.core.model_match import Match
from metering.core.prices import PriceBook
from metering.core.rating import ProblemKind, event_cost, rate
from metering.core.sku_price import PriceKind
from metering.core.usage import Meter
from tests.worlds import OCTOBER, billed, october, price, total

BOTH = {Meter.INPUT: 1_000, Meter.OUTPUT: 10}


def test_a_charge_is_quantity_times_price() -> None:
    book = PriceBook([price("2.5"), price("10", Meter.OUTPUT)])
    charges, problems = rate([total(BOTH)], book, OCTOBER)
    assert [(c.meter, c.billed_cost, c.currency) for c in charges] == [
        (Meter.INPUT, Decimal("0.0025"), "USD"),
        (Meter.OUTPUT, Decimal("0.0001"), "USD"),
    ]
    assert problems == []
    one = charges[0]
    assert (one.charge_category, one.priced_as, one.pricing_quantity) == ("Usage", Meter.INPUT, Decimal("0.001"))
    assert (one.list_unit_price, one.list_cost) == (Decimal("2.5"), Decimal("0.0025"))
    assert (one.charge_period_start, one.charge_period_end) == (OCTOBER.start_at, OCTOBER.end_at)
    assert billed(charges) == {"USD": Decimal("0.0026")}


def test_list_and_contracted_stand_side_by_side() -> None:
    rows = [price("0.0025", unit_quantity=1_000), price("2", kind=PriceKind.CONTRACTED)]
    (charge,), _ = rate([total({Meter.INPUT: 500_000})], PriceBook(rows), OCTOBER)
    assert (charge.contracted_unit_price, charge.contracted_cost) == (Decimal(2), Decimal(1))
    # The list price is told per the contract's unit, so that the two can be compared.
    assert (charge.list_unit_price, charge.list_cost) == (Decimal("2.5"), Decimal("1.25"))


def test_a_list_price_in_another_currency_is_left_out() -> None:
    rows = [price("2.5"), price("2", kind=PriceKind.CONTRACTED, currency="EUR")]
    (charge,), _ = rate([total({Meter.INPUT: 1})], PriceBook(rows), OCTOBER)
    assert (charge.currency, charge.list_cost, charge.list_unit_price) == ("EUR", None, None)


def test_what_has_no_price_is_a_charge_without_a_cost_and_a_problem() -> None:
    totals = [total(BOTH), total({Meter.INPUT: 5}, number=2, model=None)]
    charges, problems = rate(totals, PriceBook([price("10", Meter.OUTPUT)]), OCTOBER)
    unpriced = [c for c in charges if c.price is None]
    assert [(c.meter, c.consumed_quantity) for c in unpriced] == [(Meter.INPUT, 1_000), (Meter.INPUT, 5)]
    assert {(c.billed_cost, c.list_cost, c.currency, c.priced_as, c.pricing_quantity) for c in unpriced} == {
        (None,) * 5
    }
    assert [(p.kind, p.model, p.quantity) for p in problems] == [
        (ProblemKind.UNPRICED, None, 5),
        (ProblemKind.UNPRICED, "m", 1_000),
    ]
    assert "no price for 1,000 input of acme/m" in problems[1].sentence
    assert "unknown model" in problems[0].sentence
    assert billed(charges) == {"USD": Decimal("0.0001")}


def test_a_request_is_charged_only_where_requests_are_sold() -> None:
    quantities = {Meter.REQUEST: 3}
    assert rate([total(quantities, calls=3)], PriceBook([]), OCTOBER) == ([], [])
    (charge,), _ = rate([total(quantities)], PriceBook([price("5", Meter.REQUEST, unit_quantity=1_000)]), OCTOBER)
    assert (charge.billed_cost, charge.price and charge.price.pricing_unit) == (Decimal("0.015"), "1000 Requests")


def test_what_the_provider_does_not_bill_is_never_charged_nor_unpriced() -> None:
    quantities = {Meter.INPUT: 1_000, Meter.UNBILLED_INPUT: 300, Meter.UNBILLED_OUTPUT: 5}
    charges, problems = rate([total(quantities)], PriceBook([price("2.5")]), OCTOBER)
    assert [(c.meter, c.consumed_quantity, c.billed_cost, c.unpriced) for c in charges] == [
        (Meter.INPUT, 1_000, Decimal("0.0025"), False),
        (Meter.UNBILLED_INPUT, 300, None, False),
        (Meter.UNBILLED_OUTPUT, 5, None, False),
    ]
    assert problems == []


def test_what_a_provider_may_sell_is_loud_without_a_price() -> None:
    quantities = {Meter.TOOL_REQUEST: 1, Meter.GUARDRAIL_UNIT: 2, Meter.AUDIO_INPUT_MS: 3_700}
    charges, problems = rate([total(quantities)], PriceBook([price("2.5")]), OCTOBER)
    assert all(charge.unpriced for charge in charges)
    assert sorted(problem.sentence.partition(" of acme")[0] for problem in problems) == [
        "no price for 1 tool request",
        "no price for 2 guardrail units",
        "no price for 3.7 s of audio input",
    ]


def test_a_variant_decides_the_price_and_time_is_sold_by_the_hour() -> None:
    hourly: dict[str, Any] = {"meter": Meter.AUDIO_INPUT_MS, "unit_quantity": 3_600_000}
    book = PriceBook([price("0.36", **hourly), price("0.72", variant="diarized", **hourly)])
    totals = [total({Meter.AUDIO_INPUT_MS: 3_700}, variant=variant) for variant in (None, "diarized")]
    charges, _ = rate(totals, book, OCTOBER)
    assert [str(charge.billed_cost) for charge in charges] == ["0.00037", "0.00074"]
    assert [charge.price and charge.price.pricing_unit for charge in charges] == ["1 Hour"] * 2
    assert str(charges[0].pricing_quantity) == "0.001027777777777778"
    assert event_cost({Meter.AUDIO_INPUT_MS: 1_000, Meter.REQUEST: 1}, charges[:1]) == Decimal("0.0001")
    assert event_cost({Meter.REQUEST: 1}, charges) is None


def test_an_undecidable_threshold_is_a_problem() -> None:
    book = PriceBook([price("1"), price("2", context_over_tokens=100_000)])
    (charge,), (problem,) = rate([total({Meter.INPUT: 7}, context_band=32_000)], book, OCTOBER)
    assert charge.approximate
    assert charge.contracted_unit_price == 1
    assert problem.kind is ProblemKind.APPROXIMATE
    assert "lower rate" in problem.sentence


def test_segments_have_the_price_of_their_time() -> None:
    book = PriceBook([price("1", effective_to=october(10)), price("2", effective_from=october(10))])
    cuts = [october(10), october(20)]
    charges, _ = rate([total({Meter.INPUT: 1}, at=at) for at in (OCTOBER.start_at, *cuts)], book, OCTOBER, cuts)
    assert [(str(c.contracted_unit_price), c.charge_period_end) for c in charges] == [
        ("1", october(10)),
        ("2", october(20)),
        ("2", OCTOBER.end_at),
    ]


@pytest.mark.parametrize(("tier", "expected"), [(None, "2"), ("batch", "1")])
def test_what_a_dimension_says_decides_the_price(tier: str | None, expected: str) -> None:
    book = PriceBook(
        [price("2", match=Match(starts_with="m")), price("1", service_tier="batch", match=Match(starts_with="m"))]
    )
    (charge,), _ = rate([total({Meter.INPUT: 1}, service_tier=tier, model="M-large")], book, OCTOBER)
    assert str(charge.contracted_unit_price) == expected
