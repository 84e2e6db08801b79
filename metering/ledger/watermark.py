"""One unchanging view of the ledger, and how far it had been counted."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import func, select

from metering.ledger.engine import Connection, Engine, transaction
from metering.ledger.schema.events import shipped_batch


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A transaction in which every query sees the ledger as the first one did, whatever is counted meanwhile."""
    with transaction(engine.execution_options(isolation_level="REPEATABLE READ")) as connection:
        yield connection


def watermark(connection: Connection) -> int:
    """The highest batch whose events are in the slots; 0 before the first."""
    counted = select(func.max(shipped_batch.c.batch_id)).where(shipped_batch.c.counted_at.is_not(None))
    return int(connection.execute(counted).scalar_one() or 0)
