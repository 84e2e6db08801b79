"""An engine on the ledger for the length of a command."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from metering.cli.context import ledger_url

if TYPE_CHECKING:
    from metering.ledger.engine import Engine


@contextmanager
def ledger_engine() -> Iterator["Engine"]:
    """The migrated ledger, released when the block ends."""
    from metering.ledger.engine import connect

    with ledger_url() as url:
        engine = connect(url)
        try:
            yield engine
        finally:
            engine.dispose()
