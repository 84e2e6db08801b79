"""Count shipped batches into `usage_slot`, each exactly once; and read the slots of a period.

A batch is claimed, counted and marked in one transaction, so a counter that dies leaves no trace, two counters
take different batches, and events that arrive late are added like any others.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import polars as pl
from sqlalchemy import DateTime, RowMapping, Select, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY

from metering.core.frames import count
from metering.core.period import Period
from metering.core.slot import DIMENSION_FIELDS, QUANTITY_FIELDS, Dimension, SlotTotal
from metering.core.usage import Meter
from metering.ledger.copying import ShippedSpan, copy_out
from metering.ledger.dimensions import resolve
from metering.ledger.engine import Connection, Engine, transaction
from metering.ledger.schema.events import not_counted, shipped_batch
from metering.ledger.schema.slots import usage_dimension, usage_slot

SLOT_COLUMNS = ("slot_at", "dimension_id", "calls", *QUANTITY_FIELDS)
_KINDS = {name: "timestamptz" if name == "slot_at" else "bigint" for name in SLOT_COLUMNS}
# Sorted, so that two counters that meet in a slot wait for each other in the same order and never deadlock.
_ADD = text(
    f"INSERT INTO usage_slot ({', '.join(SLOT_COLUMNS)})"  # noqa: S608 - our own column names
    f" SELECT * FROM unnest({', '.join(f'CAST(:{name} AS {kind}[])' for name, kind in _KINDS.items())})"
    " ORDER BY 1, 2"
    " ON CONFLICT (slot_at, dimension_id) DO UPDATE SET "
    + ", ".join(f"{name} = usage_slot.{name} + excluded.{name}" for name in SLOT_COLUMNS[2:])
)


class CountResult(msgspec.Struct, frozen=True):
    """What one call of `count_batches` added to the slots."""

    batches: int
    events: int
    slots: int


def count_batches(engine: Engine, limit: int) -> CountResult:
    """Count up to `limit` batches that nobody counted or is counting now; all zero if there are none."""
    with transaction(engine) as connection:
        batches = [ShippedSpan(*row) for row in connection.execute(claim_batches(limit))]
        if not batches:
            return CountResult(0, 0, 0)
        events = copy_out(connection, batches)
        slots = count(events)
        _add(connection, slots)
        ids = [batch.batch_id for batch in batches]
        counted = update(shipped_batch).where(shipped_batch.c.batch_id.in_(ids)).values(counted_at=func.now())
        connection.execute(counted)
        return CountResult(len(batches), events.height, slots.height)


def uncounted(engine: Engine) -> int:
    """Batches still to be counted, those being counted now included."""
    with transaction(engine) as connection:
        return int(connection.execute(select(func.count()).where(not_counted())).scalar_one())


def slot_totals(connection: Connection, period: Period, boundaries: Sequence[datetime]) -> list[SlotTotal]:
    """What was counted in `period` by dimension and segment between `boundaries` (quarter-hours of UTC).

    Boundaries outside the period don't matter. In order of segment, then dimension.
    """
    inner = sorted({boundary for boundary in boundaries if period.start_at < boundary < period.end_at})
    starts = [period.start_at, *inner]
    rows = connection.execute(totals_of(period, starts))
    return [_slot_total(row, starts) for row in rows.mappings()]


def totals_of(period: Period, starts: Sequence[datetime]) -> Select[Any]:
    """The query of `slot_totals`; `starts` are those of the segments, ascending."""
    segment = func.width_bucket(usage_slot.c.slot_at, literal(list(starts), ARRAY(DateTime(timezone=True)))).label(
        "segment"
    )
    sums = [
        func.sum(usage_slot.c[name]).cast(usage_slot.c[name].type).label(name) for name in ("calls", *QUANTITY_FIELDS)
    ]
    totals = (
        select(usage_slot.c.dimension_id, segment, *sums)
        .where(usage_slot.c.slot_at >= period.start_at, usage_slot.c.slot_at < period.end_at)
        .group_by(usage_slot.c.dimension_id, segment)
        .subquery()
    )
    return (
        select(usage_dimension, *(column for column in totals.c if column.name != "dimension_id"))
        .join(totals, totals.c.dimension_id == usage_dimension.c.dimension_id)
        .order_by(totals.c.segment, usage_dimension.c.dimension_id)
    )


def _slot_total(values: RowMapping, starts: Sequence[datetime]) -> SlotTotal:
    return SlotTotal(
        dimension=Dimension(**{name: values[name] for name in Dimension.__struct_fields__}),
        segment_start_at=starts[values["segment"] - 1],
        calls=values["calls"],
        quantities={
            meter: values[name] for meter, name in zip(Meter, QUANTITY_FIELDS, strict=True) if values[name] != 0
        },
    )


def claim_batches(limit: int) -> Select[Any]:
    """Lock batches nobody else has locked. A lock dies with its connection, so no claim outlives a counter."""
    return (
        select(shipped_batch.c.batch_id, shipped_batch.c.started_at_min, shipped_batch.c.started_at_max)
        .where(not_counted())
        .order_by(shipped_batch.c.batch_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )


def _add(connection: Connection, slots: pl.DataFrame) -> None:
    if slots.is_empty():
        return
    dimensions = resolve(connection, slots.select(DIMENSION_FIELDS).unique())
    keyed = slots.join(dimensions, on=DIMENSION_FIELDS, nulls_equal=True)
    connection.execute(_ADD, {name: keyed[name].to_list() for name in SLOT_COLUMNS})
