"""A partition of `usage_event` for each UTC day of `started_at`: made ahead, and on demand for any other day.

There is no default partition: rows in it would have to be moved, under lock, before their day could be made.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta

import psycopg
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from metering.ledger.engine import Connection, Engine, transaction

# Makers of partitions take turns: the second finds the table there. ASCII of "partday".
_ADVISORY_LOCK = 0x70617274646179
_ATTACHED = text(
    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
    " WHERE i.inhparent = 'usage_event'::regclass AND c.relname = ANY(:names)"
)


def partition_name(day: date) -> str:
    """The table that holds the events begun on `day` (UTC)."""
    return f"usage_event_{day:%Y%m%d}"


def ensure_partitions(engine: Engine, days: int) -> list[str]:
    """Make today's partition (UTC, by the server's clock) and those of the next `days`; the names made."""
    with transaction(engine) as connection:
        today = connection.execute(select(func.timezone("UTC", func.now()))).scalar_one().date()
    return make_partitions(engine, [today + timedelta(days=ahead) for ahead in range(days + 1)])


def make_partitions(engine: Engine, days: Iterable[date]) -> list[str]:
    """Make the partitions of `days` that are missing, in a transaction of their own; the names made."""
    wanted = {partition_name(day): day for day in sorted(days)}
    with transaction(engine) as connection:
        if not _missing(connection, wanted):
            return []
        connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        made = _missing(connection, wanted)
        for name, day in made.items():
            _attach(connection, name, day)
    return list(made)


def is_partition_missing(error: DBAPIError | psycopg.Error) -> bool:
    """A row found no partition. Postgres calls that a failed CHECK, too, but then names no constraint."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(said, psycopg.errors.CheckViolation) and said.diag.constraint_name is None


def _missing(connection: Connection, wanted: dict[str, date]) -> dict[str, date]:
    there = set(connection.execute(_ATTACHED, {"names": list(wanted)}).scalars())
    return {name: day for name, day in wanted.items() if name not in there}


def _attach(connection: Connection, name: str, day: date) -> None:
    """CREATE … PARTITION OF would lock all readers and shippers out of `usage_event`; ATTACH does not."""
    start_at = datetime.combine(day, time.min, UTC)
    connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE usage_event INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
    connection.exec_driver_sql(
        f"ALTER TABLE usage_event ATTACH PARTITION {name}"
        f" FOR VALUES FROM ('{start_at.isoformat()}') TO ('{(start_at + timedelta(days=1)).isoformat()}')"
    )
