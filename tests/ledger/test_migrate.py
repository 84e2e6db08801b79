from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from time import sleep

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, text

from metering.core.usage import Meter, Usage
from metering.errors import LedgerError, LedgerUnavailable
from metering.jobs.count import count_all
from metering.ledger import migrate
from metering.ledger.assets import assets
from metering.ledger.checks import run_checks
from metering.ledger.engine import connect, transaction
from metering.ledger.prices import load_book
from metering.ledger.schema import complete_metadata
from metering.ledger.slots import slot_totals
from tests.ledger.worlds import NOON, OCTOBER, an_event, ship

# What Postgres itself remembers of a schema: more than autogenerate compares (checks, identities, index options).
CATALOG = """
    SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
        || a.attnotnull::text || a.attidentity::text || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relkind IN ('r', 'p')
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL
    SELECT 'partitioned', partrelid::regclass::text, '', pg_get_partkeydef(partrelid) FROM pg_partitioned_table
"""


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Engine]:
    engine = connect(empty_database_url)
    yield engine
    engine.dispose()


# A ledger of 0002 with an event of noon on 5 October, counted.
FILLED = """
    CREATE TABLE usage_event_20261005 (LIKE usage_event INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
    ALTER TABLE usage_event ATTACH PARTITION usage_event_20261005 FOR VALUES FROM ('2026-10-05Z') TO ('2026-10-06Z');
    INSERT INTO spool_source (source_id, name, position) VALUES ('00000000-0000-0000-0000-000000000001', 'old', 1);
    INSERT INTO shipped_batch
        (source_id, position_before, position_after, events, inserted, started_at_min, started_at_max, counted_at)
    VALUES
        ('00000000-0000-0000-0000-000000000001', 0, 1, 1, 1, '2026-10-05 12:00Z', '2026-10-05 12:00Z', now());
    INSERT INTO usage_event
        (event_id, started_at, batch_id, batch_ordinal, digest, provider_name, operation_name, dialect, outcome,
         usage_source, request_model, streamed, request_bytes, response_bytes, attempt, context_band, input_tokens,
         input_quantity, request_quantity)
    VALUES
        ('01a10bef-6200-7000-8000-000000000000', '2026-10-05 12:00Z', 1, 0, sha256(''), 'openai', 'chat', 'x',
         'completed', 'reported', 'gpt-5', false, 0, 0, 0, 0, 5, 5, 1);
    INSERT INTO usage_dimension
        (provider_name, operation_name, model, context_band, usage_source, outcome)
    VALUES ('openai', 'chat', 'gpt-5', 0, 'reported', 'completed');
    INSERT INTO usage_slot SELECT '2026-10-05 12:00Z', 1, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1;
    INSERT INTO price_book_version (source_name, source_version, layer, digest, row_count, provider_rules, imported_at)
    VALUES ('list', '1', 'own', repeat('0', 64), 1, '[]', now());
    INSERT INTO sku_price
        (version_id, price_id, provider_name, model, match, match_order, meter, kind, unit_quantity, unit_price,
         currency, source)
    VALUES (1, 'p', 'openai', 'gpt-5', '{"equals": "gpt-5"}', 0, 'input', 'list', 1000000, 2.5, 'USD', 'list')
"""


def upgrade_to(engine: Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(assets("migrations")))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()


def catalog(engine: Engine) -> set[tuple[str, ...]]:
    with transaction(engine) as connection:
        rows = {tuple(row) for row in connection.execute(text(CATALOG))}
    return {row for row in rows if row[1] != "alembic_version"}


def test_the_migrations_make_what_the_schema_says(engine: Engine, empty: Engine) -> None:
    complete_metadata().create_all(empty)
    migrated, defined = catalog(engine), catalog(empty)
    assert migrated - defined == set()
    assert defined - migrated == set()
    assert len(migrated) > 100


def test_autogenerate_finds_nothing_to_do(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), complete_metadata()) == []


def test_a_new_ledger_is_at_no_revision_and_an_upgraded_one_at_head(empty_database_url: str) -> None:
    assert migrate.current(empty_database_url) is None
    migrate.upgrade(empty_database_url)
    migrate.upgrade(empty_database_url)
    assert migrate.current(empty_database_url) == migrate.head()


def test_a_filled_ledger_is_upgraded_and_goes_on(empty: Engine, empty_database_url: str) -> None:
    upgrade_to(empty, "0002")
    with transaction(empty) as connection:
        for statement in FILLED.split(";\n"):
            connection.execute(text(statement))
    migrate.upgrade(empty_database_url)
    ship(empty, [an_event(1, usage=Usage(output_images=2)), an_event(2, NOON + timedelta(days=1))])
    count_all(empty)
    with transaction(empty) as connection:
        totals = slot_totals(connection, OCTOBER, [])
        (price,) = load_book(connection).prices
    (total,) = totals
    assert (total.calls, total.quantities[Meter.INPUT], total.quantities[Meter.IMAGE]) == (3, 107, 2)
    assert (price.price_id, price.variant) == ("p", None)
    assert all(check.holds for check in run_checks(empty))
    # A partition from before is like one made now: nothing of the old rules stays on it.
    old, new = (
        {tuple(text.replace(day, "day") for text in row) for row in catalog(empty) if row[1] == f"usage_event_{day}"}
        for day in ("20261005", "20261006")
    )
    assert old == new != set()


def test_upgrades_at_once_wait_for_each_other(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(migrate.upgrade, [empty_database_url] * 4)) == [None] * 4
    assert migrate.current(empty_database_url) == migrate.head()


def test_an_upgrade_waits_while_another_holds_the_lock(empty: Engine, empty_database_url: str) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    with ThreadPoolExecutor(1) as pool:
        with empty.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": migrate.ADVISORY_LOCK})
            upgrade = pool.submit(migrate.upgrade, empty_database_url)
            while not connection.execute(waiting).scalar_one():
                assert not upgrade.done()
                sleep(0.01)
            assert connection.execute(text("SELECT to_regclass('usage_event')")).scalar_one() is None
            connection.invalidate()
        upgrade.result()
    assert migrate.current(empty_database_url) == migrate.head()


def test_a_busy_table_stops_the_upgrade_not_the_traffic(empty: Engine, empty_database_url: str) -> None:
    with empty.connect() as connection:
        # Alembic's own table, held as a long report might hold one that a migration alters.
        connection.execute(text("CREATE TABLE alembic_version (version_num varchar(32) NOT NULL)"))
        connection.commit()
        connection.execute(text("LOCK alembic_version IN SHARE MODE"))
        with pytest.raises(LedgerUnavailable, match="lock timeout"):
            migrate.upgrade(empty_database_url, lock_seconds=1)
    assert migrate.current(empty_database_url) is None
    migrate.upgrade(empty_database_url)
    assert migrate.current(empty_database_url) == migrate.head()


def test_a_ledger_of_a_newer_version_is_left_alone(database_url: str, engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerError, match=r"9999.*upgrade it"):
        migrate.upgrade(database_url)
