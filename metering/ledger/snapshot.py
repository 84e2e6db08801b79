"""One unchanging view of the ledger, and how much of it had been counted."""

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
    """How many batches are in the slots. A batch never leaves them, so an equal number means the same batches.

    The highest batch would not say that: a batch may be counted after a later one.
    """
    counted = select(func.count()).where(shipped_batch.c.counted_at.is_not(None))
    return int(connection.execute(counted).scalar_one())
