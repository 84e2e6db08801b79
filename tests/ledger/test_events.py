from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from itertools import chain
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import IntegrityError

from metering.core.event import UsageEvent
from metering.core.usage import Usage, UsageSource
from metering.errors import LedgerUnavailable, StalePosition
from metering.ledger.copying import copy_in
from metering.ledger.engine import transaction
from metering.ledger.events import ShipResult, ship_batch, source_position
from metering.ledger.partitions import ensure_partitions, is_partition_missing, make_partitions, partition_name
from metering.ledger.rows import encode_all
from metering.ledger.schema.events import shipped_batch, usage_event, usage_event_conflict
from tests.ledger.worlds import NOON, an_event, blocked, records, ship, some_events


def stored(engine: Engine) -> dict[UUID, dict[str, Any]]:
    with transaction(engine) as connection:
        return {row["event_id"]: dict(row) for row in connection.execute(select(usage_event)).mappings()}


def set_aside(engine: Engine) -> list[tuple[str, UUID]]:
    c = usage_event_conflict.c
    with transaction(engine) as connection:
        return [(row.reason, row.event_id) for row in connection.execute(select(c.reason, c.event_id).order_by(c[0]))]


def batches(engine: Engine) -> list[tuple[int, int, int, int]]:
    c = shipped_batch.c
    wanted = select(c.position_before, c.position_after, c.events, c.inserted).order_by(c.batch_id)
    with transaction(engine) as connection:
        return [tuple(row) for row in connection.execute(wanted)]


def position(engine: Engine, source_id: UUID) -> int:
    with transaction(engine) as connection:
        return source_position(connection, source_id, "test")


def test_an_event_is_stored_in_every_field(engine: Engine) -> None:
    event = an_event(
        7,
        usage=Usage(
            input_tokens=300_000,
            output_tokens=20,
            cache_read_input_tokens=1000,
            reasoning_output_tokens=5,
            billed_output_tokens=17,
            audio_output_ms=3700,
            compute_ms=1,
        ),
        variant="1024x1024 hd",
        estimator="tiktoken 0.12",
        reported_cost=Decimal("1.5E-7"),
        part_of=an_event(8).event_id,
        raw_usage={"prompt_tokens": 300_000, "note": 'tab\t, quote " and \\ backslash', "nul": "a\0b"},
        response_model="gpt-5-2026-08-07",
        response_id="resp\t\\1",
        status=200,
        streamed=True,
        ended_at=NOON + timedelta(seconds=3),
        attribution=msgspec.convert({"team": "se\narch", "tags": {"k": "v\\"}}, type(an_event().attribution)),
    )
    assert ship(engine, [event]) == ShipResult(inserted=1, duplicates=0, conflicts=0)
    row = stored(engine)[event.event_id]
    assert row["started_at"] == NOON
    assert row["digest"] == sha256(msgspec.json.encode(event)).digest()
    assert (row["team"], row["tags"], row["response_id"]) == ("se\narch", {"k": "v\\"}, "resp\t\\1")
    assert row["raw_usage"] == {"prompt_tokens": 300_000, "note": 'tab\t, quote " and \\ backslash', "nul": "a\ufffdb"}
    assert (row["input_tokens"], row["cache_read_input_tokens"], row["cache_write_input_tokens"]) == (
        300_000,
        1000,
        None,
    )
    assert (row["input_quantity"], row["cache_read_input_quantity"], row["reasoning_output_quantity"]) == (
        299_000,
        1000,
        5,
    )
    assert (row["output_quantity"], row["request_quantity"], row["audio_input_quantity"]) == (12, None, None)
    assert (row["unbilled_output_quantity"], row["billed_output_tokens"]) == (3, 17)
    assert (row["audio_output_ms_quantity"], row["compute_ms_quantity"], row["page_quantity"]) == (3700, 1, None)
    assert (row["variant"], row["estimator"]) == ("1024x1024 hd", "tiktoken 0.12")
    assert (row["reported_cost"], row["part_of"]) == (Decimal("0.00000015"), an_event(8).event_id)
    assert (row["context_band"], row["streamed"], row["status"], row["ended_at"]) == (
        272_000,
        True,
        200,
        NOON + timedelta(seconds=3),
    )


def test_a_call_that_consumes_nothing_is_no_chargeable_request(engine: Engine) -> None:
    event = an_event(usage=None, usage_source=UsageSource.NONE)
    ship(engine, [event])
    assert stored(engine)[event.event_id]["request_quantity"] is None


def test_a_part_of_a_call_is_no_request_and_no_row_says_it_is(engine: Engine) -> None:
    call = an_event()
    part = an_event(1, part_of=call.event_id)
    ship(engine, [call, part])
    assert [stored(engine)[event.event_id]["request_quantity"] for event in (call, part)] == [1, None]
    with engine.connect() as connection, pytest.raises(IntegrityError, match="part_is_no_request"):
        connection.execute(text("UPDATE usage_event SET request_quantity = 1"))


def test_an_event_without_known_usage_has_no_tokens_but_is_a_request(engine: Engine) -> None:
    event = an_event(usage=None, usage_source=UsageSource.UNKNOWN)
    ship(engine, [event])
    row = stored(engine)[event.event_id]
    assert (row["input_tokens"], row["input_quantity"], row["request_quantity"]) == (None, None, 1)


def test_a_new_source_begins_at_zero_and_moves_with_its_batches(engine: Engine) -> None:
    source_id = uuid4()
    assert position(engine, source_id) == 0
    ship_batch(engine, source_id, 0, 40, records(some_events(3)))
    ship_batch(engine, source_id, 40, 41, [])
    assert position(engine, source_id) == 41
    assert batches(engine) == [(0, 40, 3, 3), (40, 41, 0, 0)]


def test_a_batch_that_does_not_continue_the_source_is_not_written(engine: Engine) -> None:
    source_id = uuid4()
    position(engine, source_id)
    ship_batch(engine, source_id, 0, 3, records(some_events(3)))
    for expected in (0, 5):
        with pytest.raises(StalePosition, match="read its position again"):
            ship_batch(engine, source_id, expected, 9, records(some_events(6)))
    with pytest.raises(StalePosition):
        ship_batch(engine, uuid4(), 0, 1, [])
    with pytest.raises(ValueError, match="forward"):
        ship_batch(engine, source_id, 3, 3, [])
    assert len(stored(engine)) == 3
    assert position(engine, source_id) == 3


def test_events_that_come_again_change_nothing(engine: Engine) -> None:
    events = some_events(5)
    ship(engine, events[:3])
    before = stored(engine)
    assert ship(engine, events) == ShipResult(inserted=2, duplicates=3, conflicts=0)
    assert ship(engine, [*events, *events]) == ShipResult(inserted=0, duplicates=10, conflicts=0)
    assert {event_id: stored(engine)[event_id] for event_id in before} == before
    assert [inserted for *_, inserted in batches(engine)] == [3, 2, 0]
    assert set_aside(engine) == []


def test_the_same_id_with_other_contents_is_set_aside_and_reported(engine: Engine) -> None:
    event = an_event(1)
    other = msgspec.structs.replace(event, usage=Usage(input_tokens=1, output_tokens=1))
    ship(engine, [event])
    assert ship(engine, [an_event(2), other]) == ShipResult(inserted=1, duplicates=0, conflicts=1)
    assert ship(engine, [other]) == ShipResult(inserted=0, duplicates=0, conflicts=1)
    assert stored(engine)[event.event_id]["input_tokens"] == 101
    assert set_aside(engine) == [("other_digest", event.event_id)]
    with transaction(engine) as connection:
        record = connection.execute(select(usage_event_conflict.c.record)).scalar_one()
    assert msgspec.json.decode(record, type=UsageEvent) == other


def test_of_two_records_with_one_id_in_a_batch_the_first_stays(engine: Engine) -> None:
    first = an_event(1)
    second = msgspec.structs.replace(first, status=500)
    assert ship(engine, [first, second, first]) == ShipResult(inserted=1, duplicates=1, conflicts=1)
    assert stored(engine)[first.event_id]["status"] is None


def test_records_no_row_can_hold_are_set_aside_and_the_others_stored(engine: Engine) -> None:
    good = some_events(20)
    bad = [
        an_event(101, usage=Usage(input_tokens=-5, output_tokens=0)),
        an_event(102, usage=Usage(input_tokens=10**30, output_tokens=0)),
        an_event(103, usage=Usage(input_tokens=10**13, output_tokens=0)),
        an_event(104, attempt=2**40),
        an_event(105, event_id=uuid4()),
        an_event(106, event_id=UUID(int=(2**128 - 1) & ~(0xF << 76) | 7 << 76)),
        an_event(107, datetime(9999, 12, 31, tzinfo=UTC)),
        *(an_event(108 + n, reported_cost=Decimal(cost)) for n, cost in enumerate(("-1", "1e13", "NaN", "Infinity"))),
    ]
    mixed = [*good[:7], *bad[:3], *good[7:], *bad[3:]]
    assert ship(engine, mixed) == ShipResult(inserted=20, duplicates=0, conflicts=0, refused=11)
    assert set(stored(engine)) == {event.event_id for event in good}
    assert {event_id for _, event_id in set_aside(engine)} == {event.event_id for event in bad}


def test_long_names_are_cut_but_stay_apart(engine: Engine) -> None:
    events = [an_event(number, request_model="m" * 5000 + str(number), provider_name="é" * 500) for number in range(2)]
    ship(engine, events)
    models = {row["request_model"] for row in stored(engine).values()}
    assert len(models) == 2
    assert all(len(row["provider_name"].encode()) <= 128 for row in stored(engine).values())


def test_partitions_are_made_for_the_days_that_come_and_the_days_ahead(engine: Engine) -> None:
    days = [datetime(2024, 2, 29, 23, 59, 59, 999_000, UTC), datetime(2024, 3, 1, tzinfo=UTC), NOON]
    ship(engine, [an_event(number, begun_at) for number, begun_at in enumerate(days)])
    with transaction(engine) as connection:
        held = connection.execute(text("SELECT tableoid::regclass::text FROM usage_event ORDER BY 1")).scalars().all()
        today = connection.execute(select(func.timezone("UTC", func.now()))).scalar_one().date()
    assert held == ["usage_event_20240229", "usage_event_20240301", "usage_event_20261005"]
    assert ensure_partitions(engine, 2) == [partition_name(today + timedelta(days=ahead)) for ahead in range(3)]
    assert ensure_partitions(engine, 2) == []


def test_partitions_are_made_once_by_many_shippers_at_once(engine: Engine) -> None:
    days = [date(2025, 1, 1) + timedelta(days=ahead) for ahead in range(5)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: make_partitions(engine, days), range(4)))
    assert sorted(chain.from_iterable(made)) == [partition_name(day) for day in days]


def test_a_reader_does_not_keep_a_partition_from_being_made(engine: Engine) -> None:
    with engine.connect() as reader:
        reader.execute(select(usage_event)).all()
        assert make_partitions(engine, [date(2025, 1, 1)]) == ["usage_event_20250101"]


def test_a_missing_partition_is_told_from_a_broken_rule(engine: Engine) -> None:
    missing, _ = encode_all(records([an_event()]))
    broken, _ = encode_all(records([an_event(usage=Usage(input_tokens=-1, output_tokens=0))]))
    for rows, expected in ((missing, True), (broken, False)):
        with pytest.raises(psycopg.errors.CheckViolation) as raised, transaction(engine) as connection:
            copy_in(connection, 1, rows)
        assert is_partition_missing(raised.value) is expected
        make_partitions(engine, [NOON.date()])


def at_once(*works: Callable[[], ShipResult]) -> list[ShipResult | Exception]:
    def outcome(work: Callable[[], ShipResult]) -> ShipResult | Exception:
        try:
            return work()
        except StalePosition as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(outcome, works))


def test_two_shippers_of_the_same_events_at_once_store_each_once(engine: Engine) -> None:
    """In opposite orders: were they copied as they come, the two would deadlock at every attempt."""
    events = some_events(3000, apart=timedelta(milliseconds=5))
    results = at_once(lambda: ship(engine, events), lambda: ship(engine, events[::-1]))
    shipped = [result for result in results if isinstance(result, ShipResult)]
    assert sum(result.inserted for result in shipped) == len(stored(engine)) == 3000
    assert sum(result.duplicates for result in shipped) == 3000


def test_of_two_shippers_of_one_source_one_is_told_to_look_again(engine: Engine) -> None:
    source_id = uuid4()
    position(engine, source_id)
    batch = records(some_events(500))
    results = at_once(*[lambda: ship_batch(engine, source_id, 0, 500, batch)] * 2)
    assert sorted(type(result).__name__ for result in results) == ["ShipResult", "StalePosition"]
    assert batches(engine) == [(0, 500, 500, 500)]


def test_a_connection_killed_in_the_middle_of_a_copy_leaves_nothing_and_can_be_repeated(engine: Engine) -> None:
    source_id, events = uuid4(), some_events(2000)
    position(engine, source_id)
    make_partitions(engine, [NOON.date()])
    with ThreadPoolExecutor(1) as pool, engine.connect() as holder:
        holder.execute(text("LOCK TABLE usage_event_20261005 IN ACCESS EXCLUSIVE MODE"))
        shipping = pool.submit(ship_batch, engine, source_id, 0, 2000, records(events))
        holder.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": blocked(engine, shipping)})
        with pytest.raises(LedgerUnavailable):
            shipping.result()
    assert position(engine, source_id) == 0
    assert stored(engine) == {}
    assert ship_batch(engine, source_id, 0, 2000, records(events)).inserted == 2000
    assert len(stored(engine)) == 2000


def test_a_batch_committed_unheard_is_not_written_again(engine: Engine) -> None:
    """The shipper lost its connection during COMMIT: it reads the position and goes on from there."""
    source_id, events = uuid4(), some_events(10)
    ship(engine, events, source_id)
    with pytest.raises(StalePosition):
        ship_batch(engine, source_id, 0, 10, records(events))
    assert position(engine, source_id) == 10
    assert ship(engine, some_events(5, NOON + timedelta(days=1)), source_id).inserted == 5
    assert len(stored(engine)) == 15
