"""Whatever way events take into the ledger, slots and statements are what a naive count of the distinct events says."""

from datetime import timedelta
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from metering.core.event import Attribution, Outcome, UsageEvent
from metering.core.placement import By
from metering.core.usage import Usage, UsageSource
from metering.jobs.count import count_all
from metering.jobs.statement import compose_statement
from metering.ledger.checks import run_checks
from metering.ledger.engine import transaction
from metering.ledger.slots import count_batches
from tests.ledger.worlds import NOON, OCTOBER, an_event, counted, naive_count, ship

SOURCES = (UUID(int=1), UUID(int=2))
TABLES = "usage_event, shipped_batch, spool_source, usage_event_conflict, usage_slot, usage_dimension"
CHECKS = {"batches", "conflicts", "counting", "dimensions", "partitions", "positions", "slots", "tokens", "uniqueness"}

tokens = st.none() | st.integers(0, 400_000)
usages = st.none() | st.builds(
    Usage,
    input_tokens=tokens,
    output_tokens=tokens,
    cache_read_input_tokens=tokens,
    cache_write_1h_input_tokens=tokens,
    reasoning_output_tokens=tokens,
    billed_input_tokens=tokens,
    web_search_requests=st.none() | st.integers(0, 3),
    output_images=st.none() | st.integers(0, 3),
    audio_input_ms=tokens,
)
names = st.sampled_from([None, "", "a", "b\\", "\\N", "é\t"])


@st.composite
def worlds(draw: st.DrawFn) -> list[UsageEvent]:
    """Up to 25 distinct events around midnight, where days, quarter-hours and partitions meet."""
    return [
        an_event(
            number,
            NOON + timedelta(hours=12, milliseconds=draw(st.integers(-1_000_000, 1_000_000))),
            usage=draw(usages),
            usage_source=draw(st.sampled_from(UsageSource)),
            outcome=draw(st.sampled_from(Outcome)),
            request_model=draw(names),
            response_model=draw(names),
            variant=draw(names),
            part_of=draw(st.sampled_from([None, None, an_event(99).event_id])),
            attribution=Attribution(team=draw(names), project=draw(names)),
        )
        for number in range(draw(st.integers(0, 25)))
    ]


# A step ships some events (named by number, repeats welcome) from one of the sources, or counts some batches.
steps = st.lists(
    st.tuples(st.sampled_from(SOURCES), st.lists(st.integers(0, 24), max_size=12)) | st.integers(1, 3), max_size=8
)


@given(worlds(), steps, st.sampled_from(By))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_slots_are_the_naive_count_whatever_way_events_take(
    engine: Engine, events: list[UsageEvent], way: list[tuple[UUID, list[int]] | int], by: By
) -> None:
    with transaction(engine) as connection:
        connection.execute(text(f"TRUNCATE {TABLES}"))
    for step in way:
        if isinstance(step, int):
            count_batches(engine, step)
        else:
            source_id, numbers = step
            ship(engine, [events[number] for number in numbers if number < len(events)], source_id)
    ship(engine, events, SOURCES[0])
    count_all(engine)
    assert counted(engine) == naive_count(events)
    total = compose_statement(engine, OCTOBER, by).total
    assert total.calls == sum(event.part_of is None for event in events)
    told = [event.usage for event in events if event.usage]
    assert total.tokens == sum((usage.input_tokens or 0) + (usage.output_tokens or 0) for usage in told)
    assert [result for result in run_checks(engine) if result.check in CHECKS and not result.holds] == []
