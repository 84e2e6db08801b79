from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, text

from metering.core.usage import UsageSource
from metering.ledger.checks import acknowledge_conflicts, check_files, run_check, run_checks
from metering.ledger.engine import transaction
from metering.ledger.slots import count_batches
from tests.ledger.worlds import an_event, ship, some_events

# How to damage a healthy ledger so that exactly these checks see it. The tables defend themselves, so most
# damage needs a defence taken down first, as a careless hand with psql would.
DAMAGE: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "a token too many": (
        (
            "ALTER TABLE usage_event DROP CONSTRAINT ck_usage_event_input_adds_up",
            "UPDATE usage_event SET input_tokens = input_tokens + 1 WHERE batch_ordinal = 3",
        ),
        {"tokens"},
    ),
    "output moved away": (
        (
            "ALTER TABLE usage_event DROP CONSTRAINT ck_usage_event_output_adds_up",
            "UPDATE usage_event SET output_quantity = null WHERE batch_ordinal = 3",
        ),
        {"tokens", "counting"},
    ),
    "an event deleted": (("DELETE FROM usage_event WHERE batch_ordinal = 3",), {"counting", "batches"}),
    "an event of no batch": (
        ("UPDATE usage_event SET batch_id = 999 WHERE batch_ordinal = 3",),
        {"counting", "batches"},
    ),
    "an event outside its batch's span": (
        ("UPDATE shipped_batch SET started_at_max = started_at_max - interval '1 second' WHERE inserted > 1",),
        {"batches"},
    ),
    "a batch counted twice": (("UPDATE usage_slot SET calls = calls * 2",), {"counting"}),
    "a batch marked but not counted": (
        ("UPDATE shipped_batch SET counted_at = now() WHERE counted_at IS NULL",),
        {"counting"},
    ),
    "a batch counted but not marked": (("UPDATE shipped_batch SET counted_at = null",), {"counting"}),
    "a slot lost": (("DELETE FROM usage_slot",), {"counting"}),
    "a token moved between dimensions": (
        (
            (
                "UPDATE usage_slot SET input_quantity = input_quantity + CASE WHEN dimension_id ="
                " (SELECT min(dimension_id) FROM usage_slot WHERE calls > 0) THEN 1 ELSE -1 END WHERE calls > 0"
            ),
        ),
        {"counting"},
    ),
    "a call with two rows on two days": (
        (
            "ALTER TABLE usage_event DROP CONSTRAINT ck_usage_event_started_at_is_in_id",
            "CREATE TEMP TABLE copied AS SELECT * FROM usage_event WHERE batch_ordinal = 3",
            "UPDATE copied SET started_at = started_at + interval '1 day', batch_id = 999",
            "INSERT INTO usage_event SELECT * FROM copied",
        ),
        {"uniqueness", "started_at", "batches"},
    ),
    "a source moved on": (("UPDATE spool_source SET position = position + 1",), {"positions"}),
    "a batch in the middle forgotten": (
        ("UPDATE shipped_batch SET position_before = position_before + 1 WHERE inserted > 1",),
        {"positions"},
    ),
    "a partition that holds two days": (
        (
            "ALTER TABLE usage_event DETACH PARTITION usage_event_20261006",
            "ALTER TABLE usage_event DETACH PARTITION usage_event_20261005",
            (
                "ALTER TABLE usage_event ATTACH PARTITION usage_event_20261005"
                " FOR VALUES FROM ('2026-10-05') TO ('2026-10-07')"
            ),
            "INSERT INTO usage_event SELECT * FROM usage_event_20261006",
        ),
        {"partitions"},
    ),
    "a slot off the quarter-hour": (
        (
            "ALTER TABLE usage_slot DROP CONSTRAINT ck_usage_slot_slot_at_on_quarter_hour",
            "UPDATE usage_slot SET slot_at = slot_at + interval '1 minute'",
        ),
        {"slots", "counting"},
    ),
    "calls counted in the next quarter-hour": (
        ("UPDATE usage_slot SET slot_at = slot_at + interval '15 minutes'",),
        {"counting"},
    ),
    "a slot below zero": (
        (
            "ALTER TABLE usage_slot DROP CONSTRAINT ck_usage_slot_quantities_not_negative",
            "UPDATE usage_slot SET audio_input_quantity = -1",
        ),
        {"slots", "counting"},
    ),
    "calls below zero": (
        (
            "ALTER TABLE usage_slot DROP CONSTRAINT ck_usage_slot_calls_not_negative",
            "UPDATE usage_slot SET calls = -1",
        ),
        {"slots", "counting"},
    ),
    "a call taken for a part": (("UPDATE usage_slot SET calls = calls - 1 WHERE calls > 0",), {"counting"}),
    "a slot that holds nothing lost": (("DELETE FROM usage_slot WHERE calls = 0",), {"counting"}),
    "a slot made of nothing": (
        (
            (
                "CREATE TEMP TABLE made AS SELECT u.* FROM usage_slot u JOIN usage_dimension USING (dimension_id)"
                " WHERE usage_source = 'none'"
            ),
            "UPDATE made SET slot_at = slot_at + interval '1 day'",
            "INSERT INTO usage_slot SELECT * FROM made",
        ),
        {"counting"},
    ),
    "a slot of nobody": (
        (
            "ALTER TABLE usage_slot DROP CONSTRAINT fk_usage_slot_dimension_id_usage_dimension",
            "UPDATE usage_slot SET dimension_id = dimension_id + 1000",
        ),
        {"slots", "counting"},
    ),
    "a response counted with a call that is not here": (
        ("INSERT INTO counted_response VALUES ('openai', 'resp_lost', gen_random_uuid())",),
        {"responses"},
    ),
    "a response counted with two calls": (
        ("UPDATE usage_event SET response_id = 'resp_polled' WHERE batch_ordinal = 3",),
        {"responses"},
    ),
    "a dimension with two ids": (
        (
            "ALTER TABLE usage_dimension DROP CONSTRAINT uq_usage_dimension",
            "CREATE TEMP TABLE copied AS SELECT * FROM usage_dimension",
            "ALTER TABLE copied DROP COLUMN dimension_id",
            (
                "INSERT INTO usage_dimension (team, project, environment, principal, credential_id, provider_name,"
                " deployment, region, operation_name, model, service_tier, context_band, usage_source, outcome,"
                " variant)"
                " SELECT * FROM copied"
            ),
        ),
        {"dimensions"},
    ),
}
OURS = {check for _, checks in DAMAGE.values() for check in checks} | {"conflicts"}


@pytest.fixture
def ledger(engine: Engine) -> Engine:
    """Two dimensions on two days, a part that took nothing, some counted, one batch shipped but not counted."""
    part = an_event(48, part_of=an_event().event_id, usage=None, usage_source=UsageSource.NONE)
    polled = an_event(49, once=True, response_id="resp_polled")
    ship(engine, [*some_events(10, apart=timedelta(hours=2)), polled, part])
    ship(engine, [an_event(50, request_model="other")])
    count_batches(engine, 10)
    ship(engine, [an_event(51)])
    return engine


def broken(engine: Engine) -> set[str]:
    return {result.check for result in run_checks(engine) if result.check in OURS and not result.holds}


def test_every_file_in_sql_checks_is_run_and_says_what_it_states(ledger: Engine) -> None:
    results = list(run_checks(ledger))
    assert {result.check for result in results} == {file.stem for file in check_files()}
    assert all(result.holds and result.states and not result.more for result in results)


def test_each_damage_is_seen_by_its_checks_and_no_others(ledger: Engine) -> None:
    assert broken(ledger) == set()
    seen = {}
    for damage, (statements, _) in DAMAGE.items():
        with ledger.connect() as connection:  # rolled back: the next damage meets a healthy ledger
            for statement in statements:
                connection.execute(text(statement))
            results = [run_check(connection, file) for file in check_files() if file.stem in OURS]
        seen[damage] = {result.check for result in results if not result.holds}
    assert seen == {damage: expected for damage, (_, expected) in DAMAGE.items()}
    assert broken(ledger) == set()


@pytest.mark.parametrize("check", ["tokens", "started_at", "batches", "uniqueness", "partitions", "counting"])
def test_a_check_reads_the_events_whatever_the_tables_promise(ledger: Engine, check: str) -> None:
    (file,) = [file for file in check_files() if file.stem == check]
    with ledger.connect() as connection:
        assert run_check(connection, file).holds
        plan = connection.execute(text(f"EXPLAIN {file.read_text()}")).scalars().all()
    assert all(any(day in line for line in plan) for day in ("usage_event_20261005", "usage_event_20261006"))


def test_a_record_set_aside_is_reported_until_it_is_acknowledged(ledger: Engine) -> None:
    ship(ledger, [an_event(50, request_model="third"), an_event(60, attempt=2**40)])
    assert broken(ledger) == {"conflicts"}
    assert acknowledge_conflicts(ledger) == 2
    assert broken(ledger) == set()
    assert acknowledge_conflicts(ledger) == 0


def test_many_rows_are_cut_short_and_said_to_be_more(ledger: Engine) -> None:
    ship(ledger, [an_event(number, attempt=2**40) for number in range(100, 130)])
    (conflicts,) = [result for result in run_checks(ledger) if result.check == "conflicts"]
    assert (len(conflicts.rows), conflicts.more) == (20, True)


def test_rows_are_plain_values_for_any_output(ledger: Engine) -> None:
    with transaction(ledger) as connection:
        connection.execute(text("DELETE FROM usage_slot"))
    rows: list[dict[str, Any]] = [row for result in run_checks(ledger) for row in result.rows]
    assert {"slot_at", "uncounted_calls", "model"} <= set(rows[0])
    assert msgspec.json.decode(msgspec.json.encode(rows)) == rows
