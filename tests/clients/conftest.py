"""A running emulator and sidecar before it, and the ledger that its shipper fills; one of each for these tests."""

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from metering.lab.sidecar_plan import PlannedKey
from metering.lab.stack import Stack
from metering.sidecar.keys import mint_secret

ROW_SECONDS = 20.0


class Office:
    """What a test has at hand: where to call, with which key, and what the books say about a call."""

    def __init__(self, stack: Stack, secret: str, database_url: str) -> None:
        self.stack = stack
        self.secret = secret
        self.database_url = database_url

    def base(self, route: str, *, direct: bool) -> str:
        """The base URL of a route through the sidecar, or of the emulator itself."""
        return self.stack.upstream if direct else self.stack.url + route

    def rows(self, trace_id: str, count: int = 1) -> list[dict[str, Any]]:
        """The rows of a trace; waits for that many."""
        deadline = time.monotonic() + ROW_SECONDS
        with psycopg.connect(self.database_url, row_factory=dict_row, autocommit=True) as connection:
            while True:
                rows = connection.execute("SELECT * FROM usage_event WHERE trace_id = %s", [trace_id]).fetchall()
                if len(rows) >= count or time.monotonic() > deadline:
                    return rows
                time.sleep(0.05)

    def row(self, trace_id: str) -> dict[str, Any]:
        """The only row of a call."""
        rows = self.rows(trace_id)
        assert len(rows) == 1, f"{len(rows)} rows: see {self.stack.folder / 'sidecar.log'}"
        return rows[0]


def new_trace() -> tuple[str, dict[str, str]]:
    """A trace id of its own, and the header that carries it."""
    trace_id = secrets.token_hex(16)
    return trace_id, {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}


@pytest.fixture(scope="session")
def clients_database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    name = f"clients_{secrets.token_hex(8)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template_database))
        )
        yield urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def office(clients_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("stack")
    secret = mint_secret("test")
    digest = f"sha256:{hashlib.sha256(secret.encode()).hexdigest()}"
    key = PlannedKey(id="search-test", hash=digest, team="search", project="ranking", environment="test")
    stack = Stack(folder, ledger_environ(clients_database_url, folder))
    try:
        stack.start(keys=[key])
        yield Office(stack, secret, clients_database_url)
    finally:
        stack.stop()


def ledger_environ(database_url: str, folder: Path) -> dict[str, str]:
    """Our environment with the settings of a test's own ledger and state folder."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("METERING_")}
    return {**environ, "METERING_DATABASE_URL": database_url, "METERING_STATE_DIR": str(folder / "state")}
