"""The hot queries use the index made for them.

Sequential scans are switched off: on a table of a test's size they are always cheapest, and what matters is
that the query can use the index at all.
"""

import re
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, Select

from metering.core.slot import DIMENSION_FIELDS, Dimension
from metering.ledger.copying import COPY_OUT
from metering.ledger.dimensions import look_up_sql
from metering.ledger.engine import transaction
from metering.ledger.events import events_in_slot
from metering.ledger.rows import first_event_id
from metering.ledger.slots import claim_batches, count_batches, totals_of
from tests.ledger.worlds import NOON, OCTOBER, ship, some_events

SAID = ("provider_name", "operation_name", "context_band", "usage_source", "outcome")
NOBODY = msgspec.convert(
    dict.fromkeys(DIMENSION_FIELDS) | dict.fromkeys(SAID, "0") | {"dimension_id": 1}, Dimension, strict=False
)


@pytest.fixture
def ledger(engine: Engine) -> Engine:
    """Three days of events."""
    for day in range(3):
        ship(engine, some_events(40, NOON + timedelta(days=day)))
    count_batches(engine, 2)
    return engine


def plan(engine: Engine, query: str | Select[Any], parameters: dict[str, Any] | None = None) -> str:
    with transaction(engine) as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        if not isinstance(query, str):
            compiled = query.compile(connection)
            query, parameters = str(compiled), dict(compiled.params)
        lines = connection.exec_driver_sql(f"EXPLAIN {query}", parameters or {})
        return "\n".join(lines.scalars())


def test_claiming_reads_only_what_is_uncounted(ledger: Engine) -> None:
    assert "ix_shipped_batch_uncounted" in plan(ledger, claim_batches(16))


def test_counting_a_batch_reads_its_days_by_key_or_batch(ledger: Engine) -> None:
    span = {"started_at_min": NOON, "started_at_max": NOON + timedelta(seconds=39)}
    ids = {"event_id_min": first_event_id(NOON), "event_id_end": first_event_id(NOON + timedelta(minutes=1))}
    said = plan(ledger, COPY_OUT, {"batch_ids": [1], **span, **ids})
    assert "usage_event_20261005_pkey" in said or "usage_event_20261005_batch_id_idx" in said
    assert "20261006" not in said
    assert "20261007" not in said


def test_a_batch_that_came_late_is_found_by_its_number(ledger: Engine) -> None:
    said = plan(ledger, "SELECT * FROM usage_event WHERE batch_id = 2")
    assert "usage_event_20261006_batch_id_idx" in said


def test_a_month_of_slots_is_one_range_of_the_key(ledger: Engine) -> None:
    assert "pk_usage_slot" in plan(ledger, totals_of(OCTOBER, [OCTOBER.start_at]))


def test_the_events_of_a_quarter_hour_are_one_range_of_one_partition(ledger: Engine) -> None:
    said = plan(ledger, events_in_slot(NOON, NOBODY, None))
    assert "usage_event_20261005_pkey" in said
    assert "20261006" not in said


@pytest.mark.parametrize("named", [("model",), ("model", "team", "provider_name"), DIMENSION_FIELDS])
def test_dimensions_are_looked_up_in_their_index(ledger: Engine, named: tuple[str, ...]) -> None:
    named = tuple(dict.fromkeys([*named, *SAID]))
    arrays = {name: [1] if name == "context_band" else ["x"] for name in named}
    query = re.sub(r"CAST\(:(\w+) AS", r"CAST(%(\1)s AS", look_up_sql(named))
    assert "uq_usage_dimension" in plan(ledger, query, arrays)
