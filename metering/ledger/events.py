"""Ship events into the ledger, each exactly once; and list the events behind a counted line.

Three things keep a call from being lost or doubled. A batch and the source's position move in one transaction,
by compare-and-set, so a batch whose outcome nobody heard can be sent again blindly. `event_id` is unique, so a
call that comes back by another way meets its earlier self. And what can't be stored is set aside whole in
`usage_event_conflict`, so that one bad record never stops the ones behind it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from sqlalchemy import RowMapping, Select, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError

from metering.core.event import UsageEvent, started_at
from metering.core.money import plain
from metering.core.period import SLOT, Period
from metering.core.slot import DIMENSION_FIELDS, QUANTITY_FIELDS, CountedEvent, Dimension
from metering.core.usage import Meter
from metering.errors import LedgerUnavailable, StalePosition
from metering.ledger.copying import Stored, copy_in, store_apart
from metering.ledger.engine import Connection, Engine, sqlstate, translated
from metering.ledger.partitions import is_partition_missing, make_partitions
from metering.ledger.responses import claim, release
from metering.ledger.rows import Row, encode_all, first_event_id, record_json
from metering.ledger.schema.events import shipped_batch, spool_source, usage_event, usage_event_conflict
from metering.ledger.schema.slots import usage_dimension, usage_slot

ATTEMPTS = 5
EVENT_TICK = timedelta(milliseconds=1)  # the resolution of the time in an id
_CONFLICTS_WITH_ANOTHER = ("40001", "40P01")  # serialization failure, deadlock: the same again will do


class ShipResult(msgspec.Struct, frozen=True):
    """What became of a batch's records; the four add up to it."""

    inserted: int
    duplicates: int  # here already, with the same digest
    conflicts: int  # same id, other digest: set aside in usage_event_conflict
    refused: int = 0  # no row can hold it: set aside as well


def source_position(connection: Connection, source_id: UUID, name: str) -> int:
    """The last sequence shipped from `source_id`; 0 for a source not seen before, which is registered as `name`.

    A position that stands before the source's last batch was set back by hand, and would be refused with every
    batch to come: it is put right first.
    """
    here = spool_source.c.source_id == source_id
    position = connection.execute(select(spool_source.c.position).where(here)).scalar_one_or_none()
    if position is None:
        connection.execute(upsert(spool_source).values(source_id=source_id, name=name).on_conflict_do_nothing())
        position = connection.execute(select(spool_source.c.position).where(here)).scalar_one()
    batches = select(shipped_batch.c.position_after).where(shipped_batch.c.source_id == source_id)
    last = connection.execute(batches.order_by(shipped_batch.c.position_before.desc()).limit(1)).scalar_one_or_none()
    if last is not None and last > position:
        moved = update(spool_source).where(here, spool_source.c.position < last)
        connection.execute(moved.values(position=last, moved_at=func.now()))
        return int(last)
    return int(position)


def ship_batch(
    engine: Engine,
    source_id: UUID,
    expected_position: int,
    new_position: int,
    records: Sequence[tuple[UsageEvent, bytes]],
) -> ShipResult:
    """Store `records` (events with the SHA-256 of their spool record) and move the source's position, or neither.

    `StalePosition` if the source does not stand at `expected_position`; `LedgerUnavailable` if Postgres went
    away: then read `source_position` again, as the batch may or may not have been committed.
    """
    if new_position <= expected_position:
        raise ValueError(f"a batch moves the position forward, not from {expected_position} to {new_position}")
    rows, refused = encode_all(records)
    batch = _Batch(source_id, expected_position, new_position, records, rows, refused)
    apart = False
    with translated():
        for _ in range(ATTEMPTS):
            make_partitions(engine, {row.started_at.date() for row in rows})
            try:
                with engine.begin() as connection:
                    return _ship(connection, batch, apart=apart)
            except (DBAPIError, psycopg.Error) as error:
                code = sqlstate(error)
                if code in _CONFLICTS_WITH_ANOTHER or is_partition_missing(error):
                    continue
                # 22: data Postgres can't read; 23: a constraint; 54: a limit. Row by row tells which record it was.
                if apart or not code.startswith(("22", "23", "54")):
                    raise
                apart = True
    raise LedgerUnavailable(f"the batch collided with others {ATTEMPTS} times in a row: ship it again")


class _Batch(msgspec.Struct, frozen=True):
    source_id: UUID
    position_before: int
    position_after: int
    records: Sequence[tuple[UsageEvent, bytes]]
    rows: list[Row]
    refused: list[int]  # ordinals


def _ship(connection: Connection, batch: _Batch, *, apart: bool) -> ShipResult:
    _move_position(connection, batch)
    batch_id = _insert_batch(connection, batch)
    stored = _store(connection, batch_id, batch.rows, apart=apart)
    if apart:
        row = shipped_batch.c.batch_id == batch_id
        connection.execute(update(shipped_batch).where(row).values(inserted=stored.inserted))
    refused = [*batch.refused, *stored.refused]
    _set_aside(connection, batch, batch_id, {"other_digest": stored.conflicts, "refused": refused})
    return ShipResult(stored.inserted, stored.duplicates, len(stored.conflicts), len(refused))


def _store(connection: Connection, batch_id: int, rows: Sequence[Row], *, apart: bool) -> Stored:
    """Store `rows`, each response's usage once. A row that is second to another waits for that one's fate."""
    stored = Stored()
    while rows:
        claims = claim(connection, rows)
        ready = [claims.settled(row) for row in rows if not claims.waits(row)]
        rows = [row for row in rows if claims.waits(row)]
        part = (store_apart if apart else copy_in)(connection, batch_id, ready)
        if left_out := {*part.conflicts, *part.refused}:
            release(connection, claims, [row for row in ready if row.ordinal not in left_out])
        stored.add(part)
    return stored


def _move_position(connection: Connection, batch: _Batch) -> None:
    moved = connection.execute(
        update(spool_source)
        .where(spool_source.c.source_id == batch.source_id, spool_source.c.position == batch.position_before)
        .values(position=batch.position_after, moved_at=func.now())
    )
    if moved.rowcount != 1:
        raise StalePosition(
            f"source {batch.source_id} does not stand at {batch.position_before}: "
            "another shipper moved it, or it was never registered; read its position again"
        )


def _insert_batch(connection: Connection, batch: _Batch) -> int:
    times = [row.started_at for row in batch.rows]
    statement = insert(shipped_batch).values(
        source_id=batch.source_id,
        position_before=batch.position_before,
        position_after=batch.position_after,
        events=len(batch.records),
        inserted=len(batch.rows),
        started_at_min=min(times, default=None),
        started_at_max=max(times, default=None),
    )
    return int(connection.execute(statement.returning(shipped_batch.c.batch_id)).scalar_one())


def _set_aside(connection: Connection, batch: _Batch, batch_id: int, ordinals: dict[str, list[int]]) -> None:
    """Keep the records at `ordinals` by reason. The same record sent again is the same conflict."""
    aside = [
        {
            "event_id": batch.records[ordinal][0].event_id,
            "digest": batch.records[ordinal][1],
            "batch_id": batch_id,
            "reason": reason,
            "record": record_json(batch.records[ordinal][0]),
        }
        for reason, those in ordinals.items()
        for ordinal in those
    ]
    if aside:
        connection.execute(upsert(usage_event_conflict).on_conflict_do_nothing(), aside)


def events_of(
    connection: Connection, dimension_id: int, period: Period, limit: int, after: UUID | None = None
) -> list[CountedEvent]:
    """Up to `limit` of the events counted for a dimension in `period`, newest first.

    The next page begins `after` the last id of this one. The slots say in which quarter-hours to look, so a
    rare dimension costs as little as a busy one.
    """
    found = select(usage_dimension).where(usage_dimension.c.dimension_id == dimension_id)
    dimension = Dimension(**connection.execute(found).mappings().one())
    slots = select(usage_slot.c.slot_at).where(
        usage_slot.c.dimension_id == dimension_id,
        usage_slot.c.slot_at >= period.start_at,
        usage_slot.c.slot_at < (min(period.end_at, started_at(after) + EVENT_TICK) if after else period.end_at),
    )
    events: list[CountedEvent] = []
    for slot_at in connection.execute(slots.order_by(usage_slot.c.slot_at.desc())).scalars().all():
        if len(events) >= limit:
            break
        page = events_in_slot(slot_at, dimension, after).limit(limit - len(events))
        events += [_counted_event(row) for row in connection.execute(page).mappings()]
    return events


def events_in_slot(slot_at: datetime, dimension: Dimension, after: UUID | None) -> Select[Any]:
    """The counted events of a dimension in one quarter-hour: a range of the primary key in one partition."""
    end_at = slot_at + SLOT
    end_id = first_event_id(end_at)
    event = usage_event.c
    fields = [event[name] for name in CountedEvent.__struct_fields__ if name != "quantities"]
    model = func.coalesce(func.nullif(event.response_model, ""), event.request_model)  # as UsageEvent.model
    return (
        select(*fields, *(event[name] for name in QUANTITY_FIELDS))
        .join(shipped_batch, shipped_batch.c.batch_id == event.batch_id)
        .where(
            event.event_id >= first_event_id(slot_at),
            event.event_id < (min(end_id, after) if after else end_id),
            event.started_at >= slot_at,
            event.started_at < end_at,
            shipped_batch.c.counted_at.is_not(None),
            *(
                (model if name == "model" else event[name]).is_not_distinct_from(getattr(dimension, name))
                for name in DIMENSION_FIELDS
            ),
        )
        .order_by(event.event_id.desc())
    )


def _counted_event(row: RowMapping) -> CountedEvent:
    quantities = {meter: row[name] for meter, name in zip(Meter, QUANTITY_FIELDS, strict=True) if row[name]}
    fields = {name: row[name] for name in CountedEvent.__struct_fields__ if name != "quantities"}
    # Postgres pads to 18 decimals.
    reported_cost = None if row["reported_cost"] is None else plain(row["reported_cost"])
    fields |= {"quantities": quantities, "tags": row["tags"] or {}, "reported_cost": reported_cost}
    return CountedEvent(**fields)
