from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from metering.core.frames import EVENT_SCHEMA, SLOT_KEY, count
from metering.core.slot import QUANTITY_FIELDS

NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)


def frame(*events: dict[str, Any]) -> pl.DataFrame:
    """Calls; what a test does not name is null."""
    call = dict.fromkeys(EVENT_SCHEMA) | {"calls": 1}
    return pl.DataFrame([call | event for event in events], schema=EVENT_SCHEMA, orient="row")


def test_quarter_hours_begin_with_their_first_instant() -> None:
    tick = timedelta(milliseconds=1)
    begun = [NOON, NOON + timedelta(minutes=15) - tick, NOON + timedelta(minutes=15), NOON - tick]
    counted = count(frame(*({"started_at": instant} for instant in begun))).sort("slot_at")
    assert counted["slot_at"].to_list() == [NOON - timedelta(minutes=15), NOON, NOON + timedelta(minutes=15)]
    assert counted["calls"].to_list() == [1, 2, 1]


def test_a_part_of_a_call_adds_what_it_took_and_no_call() -> None:
    part = {"started_at": NOON, "calls": 0, "input_quantity": 5}
    counted = count(frame({"started_at": NOON, "input_quantity": 7}, part, part | {"model": "advisor"}))
    assert counted.sort("model").select("model", "calls", "input_quantity").rows() == [
        (None, 1, 12),
        ("advisor", 0, 5),
    ]


def test_nobody_is_nobody_and_not_the_empty_name() -> None:
    events = [{"started_at": NOON, "team": team, "input_quantity": 1} for team in (None, "", None, "x")]
    counted = count(frame(*events)).sort("team", nulls_last=True)
    assert counted.select("team", "input_quantity").rows() == [("", 1), ("x", 1), (None, 2)]


def test_a_quantity_nobody_reported_is_zero_in_the_sum() -> None:
    counted = count(frame({"started_at": NOON}, {"started_at": NOON, "output_quantity": 7}))
    assert counted["output_quantity"].to_list() == [7]
    assert counted["image_input_quantity"].to_list() == [0]
    assert counted.select(QUANTITY_FIELDS).null_count().sum_horizontal().item() == 0


def test_no_events_are_no_slots_of_the_same_shape() -> None:
    some, none = count(frame({"started_at": NOON})), count(frame())
    assert none.height == 0
    assert none.schema == some.schema
    assert none.columns == [*SLOT_KEY, "calls", *QUANTITY_FIELDS]


def test_a_sum_that_does_not_fit_is_refused_where_polars_alone_would_wrap() -> None:
    largest = 2**63 - 1
    fits = [{"started_at": NOON, "input_quantity": quantity} for quantity in (largest - 1, 1)]
    assert count(frame(*fits))["input_quantity"].item() == largest
    with pytest.raises(OverflowError, match="64 bits"):
        count(frame(*fits, fits[1]))


def test_lazy_or_not_makes_no_difference() -> None:
    events = frame(*({"started_at": NOON + timedelta(minutes=i), "input_quantity": i} for i in range(40)))
    assert_frame_equal(count(events), count(events.lazy()), check_row_order=False)
