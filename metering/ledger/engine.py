"""The one way to a Postgres connection: every wait bounded, every failure one sentence without the password.

The URL goes to libpq as the operator wrote it, so whatever `psql` accepts works here too (sockets, several
hosts, sslmode, a passfile), and SQLAlchemy never holds the password.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from metering.errors import ConfigError, LedgerError, LedgerUnavailable

__all__ = ["Connection", "Engine", "connect", "sqlstate", "transaction", "translated"]

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 60
LOCK_SECONDS = 20
POOL_SECONDS = 10
SERVER_VERSION_MIN = 15_00_00  # 15: UNIQUE NULLS NOT DISTINCT

# SQLSTATE classes and codes that mean "not now": a lost connection, no room, shutdown, a wait that was cut
# short, a standby after a failover, or a conflict that bounded retries did not get past.
_UNAVAILABLE_CLASSES = ("08", "53", "57", "58")
_UNAVAILABLE_CODES = ("25006", "55P03", "40001", "40P01")
_NOT_MIGRATED_CODES = ("42P01", "42703", "3F000")
_REFUSED_CODE = "42501"


def connect(url: str, *, statement_seconds: int = STATEMENT_SECONDS) -> Engine:
    """An engine on the Postgres (15 or later) at `url`, seen to answer.

    `ConfigError` if `url` can't be read, `LedgerUnavailable` if nothing answers there in `CONNECT_SECONDS`.
    """
    conninfo = _conninfo(url)

    def open_connection() -> psycopg.Connection:
        connection = psycopg.connect(conninfo, autocommit=True)
        # set_config, not start-up options: connection poolers refuse those.
        connection.execute(
            "SELECT set_config(name, setting, false) FROM unnest(%s::text[], %s::text[]) AS s (name, setting)",
            (["statement_timeout", "lock_timeout", "timezone"], [f"{statement_seconds}s", f"{LOCK_SECONDS}s", "UTC"]),
        )
        connection.autocommit = False
        return connection

    engine = create_engine(
        "postgresql+psycopg://",
        creator=open_connection,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_timeout=POOL_SECONDS,
        hide_parameters=True,
    )
    with transaction(engine) as connection:
        version = connection.exec_driver_sql("SELECT current_setting('server_version_num')::int").scalar_one()
    if version < SERVER_VERSION_MIN:
        raise LedgerError(f"the ledger needs Postgres 15 or later, this server is {version // 10_000}: upgrade it")
    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed at the end of the block, rolled back if anything is raised in it."""
    with translated(), engine.begin() as connection:
        yield connection


@contextmanager
def translated() -> Iterator[None]:
    """Turn what Postgres says into our errors; what only a bug can cause passes unchanged."""
    try:
        yield
    except PoolTimeoutError:
        raise LedgerUnavailable(f"no connection to the ledger came free in {POOL_SECONDS} s: try again") from None
    except (DBAPIError, psycopg.Error) as error:
        if plain := _translate(error.orig if isinstance(error, DBAPIError) else error):
            raise plain from None
        raise


def sqlstate(error: DBAPIError | psycopg.Error) -> str:
    """The five characters that say what went wrong, whoever raised it; empty if Postgres did not answer."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return getattr(said, "sqlstate", None) or ""


def _translate(error: BaseException | None) -> LedgerError | None:
    code = getattr(error, "sqlstate", None)
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if code in _NOT_MIGRATED_CODES:
        return LedgerError(f"the ledger's tables are not of this version ({said}): run `metering migrate`")
    if code == _REFUSED_CODE:
        return LedgerError(f"this database user may not do that ({said}): use one with the rights, or grant them")
    if code in _UNAVAILABLE_CODES or (code or "").startswith(_UNAVAILABLE_CLASSES):
        return LedgerUnavailable(f"Postgres could not do it now ({said}): try again when it can")
    if code is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return LedgerUnavailable(f"Postgres can't be reached ({said}): check METERING_DATABASE_URL and that it runs")
    # 28xxx: wrong user or password; 3D000: no such database.
    if (code or "").startswith(("28", "3D")):
        return LedgerUnavailable(f"Postgres turned us away ({said}): check METERING_DATABASE_URL")
    return None


def _conninfo(url: str) -> str:
    """What libpq reads in `url`, with bounded waits. Nothing of an unreadable URL is repeated: it holds a password."""
    try:
        parameters = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.Error:
        parameters = {"host": "@"}
    # An unescaped @, / or : in a password makes libpq take the rest of the password for a host or a port.
    port = parameters.get("port", "").replace(",", "")
    if "@" in parameters.get("host", "") or not (port.isdigit() or not port):
        raise ConfigError(
            "METERING_DATABASE_URL can't be read: write postgresql://user:password@host:5432/database, "
            "with special characters of the password percent-encoded"
        )
    bounds = {"connect_timeout": str(CONNECT_SECONDS), "tcp_user_timeout": "30000", "application_name": "metering"}
    return make_conninfo(**(bounds | parameters))
