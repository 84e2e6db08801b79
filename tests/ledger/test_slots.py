from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from sqlalchemy import Engine, text

from metering.core.event import Attribution, Outcome
from metering.core.period import parse_period
from metering.core.slot import CountedEvent, Dimension, SlotTotal
from metering.core.usage import Meter, Usage, UsageSource
from metering.errors import LedgerUnavailable
from metering.ledger.engine import transaction
from metering.ledger.events import events_of
from metering.ledger.slots import CountResult, count_batches, slot_totals, uncounted
from tests.ledger.worlds import NOON, OCTOBER, an_event, blocked, counted, naive_count, ship, some_events

QUARTER = timedelta(minutes=15)


def totals(engine: Engine, boundaries: tuple[datetime, ...] = ()) -> list[SlotTotal]:
    with transaction(engine) as connection:
        return slot_totals(connection, OCTOBER, boundaries)


def test_a_batch_is_counted_once(engine: Engine) -> None:
    events = some_events(30, apart=timedelta(minutes=2))
    ship(engine, events)
    assert count_batches(engine, 10) == CountResult(batches=1, events=30, slots=4)
    assert count_batches(engine, 10) == CountResult(0, 0, 0)
    assert counted(engine) == naive_count(events)


def test_a_part_of_a_call_is_counted_and_is_no_call(engine: Engine) -> None:
    """Of the call's own model it joins the call; of another it makes a slot without a call; it may hold nothing."""
    call = an_event()
    parts = [
        an_event(1, part_of=call.event_id),
        an_event(2, part_of=call.event_id, response_model="whisper-1"),
        an_event(3, part_of=call.event_id, response_model="whisper-1"),
        an_event(4, part_of=call.event_id, usage=None, usage_source=UsageSource.NONE),
    ]
    ship(engine, [call, *parts])
    assert count_batches(engine, 10) == CountResult(batches=1, events=5, slots=3)
    assert counted(engine) == naive_count([call, *parts])
    found = {(total.dimension.model, total.dimension.usage_source): total for total in totals(engine)}
    assert {key: (total.calls, total.quantities) for key, total in found.items()} == {
        ("gpt-5", "reported"): (1, {Meter.INPUT: 201, Meter.OUTPUT: 20, Meter.REQUEST: 1}),
        ("whisper-1", "reported"): (0, {Meter.INPUT: 205, Meter.OUTPUT: 20}),
        ("gpt-5", "none"): (0, {}),
    }
    whisper = found["whisper-1", "reported"].dimension
    assert [event.part_of for event in behind(engine, whisper.dimension_id, 5)] == [call.event_id] * 2


def test_nothing_shipped_is_nothing_counted(engine: Engine) -> None:
    assert count_batches(engine, 10) == CountResult(0, 0, 0)
    ship(engine, [])
    assert count_batches(engine, 10) == CountResult(batches=1, events=0, slots=0)
    assert uncounted(engine) == 0


def test_late_events_are_added_to_their_slot(engine: Engine) -> None:
    early, late = some_events(4), some_events(9)[4:]
    for events in (early, [an_event(99, NOON + timedelta(days=9))], late, early):
        ship(engine, events)
        count_batches(engine, 1)
    assert counted(engine) == naive_count([*early, *late, an_event(99, NOON + timedelta(days=9))])


def test_every_fact_a_price_can_depend_on_makes_a_dimension(engine: Engine) -> None:
    usage = Usage(input_tokens=5, output_tokens=5)
    plain = an_event(0, usage=usage)
    changes: list[dict[str, Any]] = [
        *[{name: value} for name in ("deployment", "region", "service_tier", "variant") for value in ("x", "")],
        {"provider_name": "anthropic"},
        {"operation_name": "embeddings"},
        {"request_model": "gpt-4"},
        {"response_model": "gpt-5-2026"},
        {"request_model": None},
        {"outcome": Outcome.ABORTED},
        {"usage_source": UsageSource.PARTIAL},
        {"usage": Usage(input_tokens=200_001, output_tokens=5)},
        *[
            {"attribution": msgspec.convert({name: value}, Attribution)}
            for name in ("team", "project", "environment", "principal", "credential_id")
            for value in ("x", "", "\\N", 'tab\t"\\n')
        ],
    ]
    events = [plain, *(an_event(i, **{"usage": usage} | change) for i, change in enumerate(changes, 1))]
    ship(engine, events)
    count_batches(engine, 1)
    assert counted(engine) == naive_count(events)
    assert len(counted(engine)) == len(events)


def test_an_empty_answered_model_is_priced_as_the_one_asked_for(engine: Engine) -> None:
    event = an_event(request_model="gpt-5", response_model="")
    ship(engine, [event])
    count_batches(engine, 1)
    assert totals(engine)[0].dimension.model == event.model == "gpt-5"


def test_the_longest_names_a_client_can_send_do_not_stop_the_count(engine: Engine) -> None:
    # Random characters, because an index entry of equal ones would be compressed to nothing.
    name = "".join(chr(0x4E00 + i * 7919 % 20_000) for i in range(400))
    event = an_event(
        provider_name=name,
        operation_name=name[1:],
        request_model=name[2:],
        deployment=name[3:],
        region=name[4:],
        service_tier=name[5:],
        variant=name[11:],
        attribution=Attribution(
            team=name[6:], project=name[7:], environment=name[8:], principal=name[9:], credential_id=name[10:]
        ),
    )
    ship(engine, [event, msgspec.structs.replace(event, event_id=an_event(1).event_id)])
    assert count_batches(engine, 1) == CountResult(batches=1, events=2, slots=1)


def test_counters_at_once_take_different_batches(engine: Engine) -> None:
    events = some_events(1200, apart=timedelta(seconds=30))
    teams = [msgspec.structs.replace(e, attribution=Attribution(team=f"t{i % 7}")) for i, e in enumerate(events)]
    # Every batch reaches into every slot, so that the counters meet in the same rows.
    for first in range(12):
        ship(engine, teams[first::12])
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: [count_batches(engine, 2) for _ in range(7)], range(3)))
    assert sum(result.events for part in results for result in part) == 1200
    assert counted(engine) == naive_count(teams)


def test_a_batch_another_counter_holds_is_left_to_it(engine: Engine) -> None:
    ship(engine, some_events(3))
    with engine.connect() as other:
        other.execute(text("SELECT FROM shipped_batch FOR UPDATE"))
        assert count_batches(engine, 10) == CountResult(0, 0, 0)
        assert uncounted(engine) == 1
    assert count_batches(engine, 10).events == 3


def test_a_counter_killed_half_way_leaves_no_trace(engine: Engine) -> None:
    events = some_events(50)
    ship(engine, events)
    with ThreadPoolExecutor(1) as pool, engine.connect() as holder:
        holder.execute(text("LOCK TABLE usage_slot IN EXCLUSIVE MODE"))
        counting = pool.submit(count_batches, engine, 10)
        holder.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": blocked(engine, counting)})
        with pytest.raises(LedgerUnavailable):
            counting.result()
    assert counted(engine) == {}
    assert uncounted(engine) == 1
    assert count_batches(engine, 10).events == 50
    assert counted(engine) == naive_count(events)


def test_totals_are_split_at_the_boundaries_inside_the_period(engine: Engine) -> None:
    events = [an_event(i, NOON + i * QUARTER, usage=Usage(input_tokens=10**i, output_tokens=0)) for i in range(4)]
    outside = [an_event(8, datetime(2026, 9, 30, 23, 59, 59, tzinfo=UTC)), an_event(9, OCTOBER.end_at)]
    ship(engine, [*events, *outside])
    count_batches(engine, 1)
    assert [(total.calls, total.quantities) for total in totals(engine)] == [
        (4, {Meter.INPUT: 1111, Meter.REQUEST: 4}),
    ]
    boundaries = (NOON + 3 * QUARTER, OCTOBER.start_at, NOON + QUARTER, OCTOBER.end_at, NOON - timedelta(days=90))
    assert [(total.segment_start_at, total.quantities[Meter.INPUT]) for total in totals(engine, boundaries)] == [
        (OCTOBER.start_at, 1),
        (NOON + QUARTER, 110),
        (NOON + 3 * QUARTER, 1000),
    ]


def test_the_days_of_any_zone_add_up_to_its_month(engine: Engine) -> None:
    zone = ZoneInfo("Asia/Kathmandu")  # +05:45
    ship(engine, some_events(400, datetime(2026, 9, 30, 17, tzinfo=UTC), timedelta(minutes=7)))
    count_batches(engine, 1)
    with transaction(engine) as connection:
        month = slot_totals(connection, parse_period("2026-10", zone), [])
        days = [slot_totals(connection, parse_period(f"2026-10-{day:02}", zone), []) for day in range(1, 32)]
    assert sum(total.calls for day in days for total in day) == month[0].calls
    assert 0 < month[0].calls < 400


def test_dimension_has_the_columns_of_its_table(engine: Engine) -> None:
    with transaction(engine) as connection:
        columns = connection.execute(text("SELECT * FROM usage_dimension")).keys()
    assert set(columns) == set(Dimension.__struct_fields__)


def behind(engine: Engine, dimension_id: int, limit: int) -> list[CountedEvent]:
    """Page through the events of a dimension, `limit` at a time."""
    found: list[CountedEvent] = []
    with transaction(engine) as connection:
        while page := events_of(connection, dimension_id, OCTOBER, limit, found[-1].event_id if found else None):
            assert len(page) <= limit
            found += page
    return found


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_the_events_behind_a_line_newest_first_page_by_page(engine: Engine, limit: int) -> None:
    mine = some_events(9, apart=timedelta(minutes=6))
    same_instant = [an_event(number, NOON + timedelta(minutes=30)) for number in range(20, 23)]
    others = [an_event(50, NOON, attribution=Attribution(team="x")), an_event(51, OCTOBER.end_at)]
    ship(engine, [*mine, *others, *same_instant])
    count_batches(engine, 1)
    ship(engine, [an_event(60)])  # shipped, but not counted: not in the line, so not behind it
    (line,) = [total.dimension for total in totals(engine) if total.dimension.team is None]
    expected = sorted((event.event_id for event in [*mine, *same_instant]), reverse=True)
    assert [event.event_id for event in behind(engine, line.dimension_id, limit)] == expected


def test_an_event_behind_a_line_shows_what_was_said_and_what_was_counted(engine: Engine) -> None:
    ship(engine, [an_event(raw_usage={"prompt_tokens": 100}, attribution=Attribution(tags={"run": "7"}))])
    count_batches(engine, 1)
    (event,) = behind(engine, totals(engine)[0].dimension.dimension_id, 10)
    shown = msgspec.structs.asdict(event)
    assert shown["raw_usage"] == {"prompt_tokens": 100}
    assert shown["quantities"] == {Meter.INPUT: 100, Meter.OUTPUT: 10, Meter.REQUEST: 1}
    assert shown["tags"] == {"run": "7"}
