from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, text

from metering.errors import LedgerError, LedgerUnavailable
from metering.ledger import migrate
from metering.ledger.engine import connect, transaction
from metering.ledger.schema import complete_metadata

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
