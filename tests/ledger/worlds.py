"""Tiny literal worlds: events with the few fields a test cares about, and the naive count they must come to."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from time import sleep
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Engine, select, text

from metering.core.event import EPOCH, Outcome, UsageEvent, context_band, mint_event_id
from metering.core.period import Period, parse_period, slot_at
from metering.core.slot import DIMENSION_FIELDS, QUANTITY_FIELDS
from metering.core.usage import Meter, Usage, UsageSource, disjoint_meters
from metering.ledger.engine import transaction
from metering.ledger.events import ShipResult, ship_batch, source_position
from metering.ledger.schema.slots import usage_dimension, usage_slot

NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)
OCTOBER: Period = parse_period("2026-10", ZoneInfo("UTC"))

Records = list[tuple[UsageEvent, bytes]]
Count = dict[tuple[Any, ...], tuple[int, ...]]


def an_event(number: int = 0, begun_at: datetime = NOON, **fields: Any) -> UsageEvent:
    """A completed call; `number` tells it from others begun in the same millisecond."""
    known: dict[str, Any] = {
        "event_id": mint_event_id((begun_at - EPOCH) // timedelta(milliseconds=1), number),
        "provider_name": "openai",
        "operation_name": "chat",
        "outcome": Outcome.COMPLETED,
        "usage_source": UsageSource.REPORTED,
        "usage": Usage(input_tokens=100 + number, output_tokens=10),
        "request_model": "gpt-5",
    }
    return UsageEvent(**known | fields)


def some_events(calls: int, begun_at: datetime = NOON, apart: timedelta = timedelta(seconds=1)) -> list[UsageEvent]:
    return [an_event(number, begun_at + number * apart) for number in range(calls)]


def records(events: Iterable[UsageEvent]) -> Records:
    return [(event, sha256(msgspec.json.encode(event)).digest()) for event in events]


def ship(engine: Engine, events: Sequence[UsageEvent], source_id: UUID | None = None) -> ShipResult:
    """Ship `events` as the next batch of a source: a new one unless one is named."""
    source_id = source_id or uuid4()
    with transaction(engine) as connection:
        position = source_position(connection, source_id, "test")
    return ship_batch(engine, source_id, position, position + max(1, len(events)), records(events))


def naive_count(events: Iterable[UsageEvent]) -> Count:
    """{(slot_at, *dimension): (calls, *quantities)} of the distinct `events`, in plain Python."""
    sums: dict[tuple[Any, ...], Counter[str]] = {}
    for event in {event.event_id: event for event in events}.values():
        facts = msgspec.structs.asdict(event) | msgspec.structs.asdict(event.attribution)
        facts |= {"model": event.model, "context_band": context_band(event.usage.input_tokens if event.usage else None)}
        key = (slot_at(event.started_at), *(facts[name] for name in DIMENSION_FIELDS))
        quantities = disjoint_meters(event.usage) if event.usage else {}
        if event.part_of is None and event.usage_source is not UsageSource.NONE:
            quantities[Meter.REQUEST] = 1
        counter = sums.setdefault(key, Counter())
        counter["calls"] += event.part_of is None
        for meter, quantity in quantities.items():
            counter[f"{meter}_quantity"] += quantity
    return {key: tuple(counter[name] for name in ("calls", *QUANTITY_FIELDS)) for key, counter in sums.items()}


def counted(engine: Engine) -> Count:
    """What `usage_slot` holds, in the shape of `naive_count`."""
    columns = [
        usage_slot.c.slot_at,
        *(usage_dimension.c[name] for name in DIMENSION_FIELDS),
        usage_slot.c.calls,
        *(usage_slot.c[name] for name in QUANTITY_FIELDS),
    ]
    joined = select(*columns).join_from(usage_slot, usage_dimension)
    width = 1 + len(DIMENSION_FIELDS)
    with transaction(engine) as connection:
        rows = [tuple(row) for row in connection.execute(joined)]
    return {row[:width]: row[width:] for row in rows}


def blocked(engine: Engine, work: Future[Any]) -> int:
    """The process number of the one backend that waits for a lock."""
    waiting = text("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
    while True:
        assert not work.done()
        with transaction(engine) as connection:
            if (pid := connection.execute(waiting).scalar_one_or_none()) is not None:
                return int(pid)
        sleep(0.01)
