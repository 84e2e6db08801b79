"""Bring a ledger's tables to this version: Alembic, run from code, so that a wheel needs no ini file.

Waits are bounded twice. An upgrade waits for another one (`UPGRADE_SECONDS`), because the second then finds
nothing left to do. It doesn't wait for a busy table (`lock_seconds`): while it queues for an exclusive lock,
everyone else queues behind it, and metering would stall for the sake of a migration.
"""

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import false, func, select

from metering.errors import LedgerError
from metering.ledger.assets import assets
from metering.ledger.engine import Connection, connect, translated

UPGRADE_SECONDS = 120
LOCK_SECONDS = 5
# Any constant will do; it is the ASCII of "metering".
ADVISORY_LOCK = 0x6D65746572696E67


def upgrade(url: str, *, lock_seconds: int = LOCK_SECONDS) -> None:
    """Migrate the ledger at `url` to `head()`; a no-op when it is there. Several at once are safe.

    `LedgerUnavailable` if it can't be reached or a table stays busy: nothing has changed then, try again.
    """
    engine = connect(url, statement_seconds=UPGRADE_SECONDS)
    try:
        with translated(), engine.connect() as connection:
            _bound_waits(connection, UPGRADE_SECONDS)
            connection.execute(select(func.pg_advisory_lock(ADVISORY_LOCK)))
            connection.commit()
            _refuse_newer(connection)
            _bound_waits(connection, lock_seconds)
            command.upgrade(_config(connection), "head")
            connection.commit()
    finally:
        # The advisory lock belongs to the session, so ending it is what lets the next one in.
        engine.dispose()


def current(url: str) -> str | None:
    """The revision the ledger at `url` is at; `None` if it was never migrated."""
    engine = connect(url)
    try:
        with translated(), engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


def head() -> str:
    """The revision this version of the code needs."""
    revision = ScriptDirectory.from_config(_config(None)).get_current_head()
    if revision is None:
        raise LedgerError("this installation has no migrations: install the metering wheel again")
    return revision


def _refuse_newer(connection: Connection) -> None:
    revision = MigrationContext.configure(connection).get_current_revision()
    connection.commit()
    known = {script.revision for script in ScriptDirectory.from_config(_config(None)).walk_revisions()}
    if revision is not None and revision not in known:
        raise LedgerError(f"the ledger is at revision {revision}, newer than this version of metering: upgrade it")


def _bound_waits(connection: Connection, lock_seconds: int) -> None:
    connection.execute(select(func.set_config("lock_timeout", f"{lock_seconds}s", false())))
    connection.commit()


def _config(connection: Connection | None) -> Config:
    config = Config()
    # Alembic reads options with % interpolation; a folder may be called anything.
    config.set_main_option("script_location", str(assets("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
