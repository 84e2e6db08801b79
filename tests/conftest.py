"""What every test may ask for: a fresh migrated database, a state folder, the recorded exchanges.

One Postgres serves the whole run, all xdist workers included; each database is a copy of a template that the real
migrations built once. METERING_TEST_DATABASE_URL (a superuser's) names another server, of Postgres 15 to 18.
"""

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import pytest
from hypothesis import HealthCheck, settings

# What only a database needs is imported where it is used: the core's tests are to start at once.
if TYPE_CHECKING:
    from sqlalchemy import Engine

ROOT = Path(__file__).resolve().parents[1]
RECORDINGS = ROOT.parent / "shared" / "recordings"
# The run's own folder, named in the environment so that the xdist workers find it. It begins with METERING_TEST_
# because the product refuses settings it does not know.
RUN_FOLDER = "METERING_TEST_RUN_FOLDER"
# Nothing here has to survive a power cut.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}

# A busy machine is no counterexample.
settings.register_profile("untimed", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """The first process of the run makes the run's folder."""
    if not hasattr(config, "workerinput"):
        os.environ[RUN_FOLDER] = str(_open_folder("metering-tests-"))


def pytest_unconfigure(config: pytest.Config) -> None:
    """The first process, which ends last, removes what the run made."""
    if hasattr(config, "workerinput"):
        return
    folder = Path(os.environ.pop(RUN_FOLDER))
    if server := os.environ.get("METERING_TEST_DATABASE_URL"):
        _execute(server, "DROP DATABASE IF EXISTS {} WITH (FORCE)", _template(folder))
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A superuser's URL of the run's Postgres server; make databases, not tables, with it."""
    if server := os.environ.get("METERING_TEST_DATABASE_URL"):
        yield server
        return
    from metering.ledger.embedded import EmbeddedPostgres

    postgres = EmbeddedPostgres(Path(os.environ[RUN_FOLDER], "postgres"), FAST)
    yield postgres.start()
    postgres.stop()


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> str:
    """The name of a migrated, empty database of the run's server, to be copied."""
    from metering.ledger import migrate

    folder = Path(os.environ[RUN_FOLDER])
    name = _template(folder)
    with (folder / "template.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not lock.seek(0, os.SEEK_END):  # asked under the lock: another worker may have built it meanwhile
            _execute(postgres_url, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
            _execute(postgres_url, "CREATE DATABASE {}", name)
            migrate.upgrade(_with_database(postgres_url, name))
            lock.write("built")
    return name


@pytest.fixture
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A fresh migrated database of this test's own."""
    with _database(postgres_url, template_database) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """A fresh database without any of our tables."""
    with _database(postgres_url, "template0") as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> "Iterator[Engine]":
    """A SQLAlchemy engine on `database_url`."""
    from metering.ledger.engine import connect

    engine = connect(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """An empty folder for METERING_STATE_DIR: short, and enterable for the account Postgres runs as under root."""
    folder = _open_folder("metering-state-")
    yield folder
    # A command that was killed in the test could not stop the Postgres it used.
    if (folder / "postgres").is_dir():
        from metering.ledger.embedded import EmbeddedPostgres

        EmbeddedPostgres(folder / "postgres").stop()
    shutil.rmtree(folder)


@pytest.fixture
def command_environ(state_dir: Path) -> dict[str, str]:
    """The environment for a `metering` command run as a process: ours without METERING_*, and a state folder."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("METERING_")}
    return {**environ, "METERING_STATE_DIR": str(state_dir)}


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of recorded provider exchanges; the test is skipped where they are not at hand."""
    if not RECORDINGS.is_dir():
        pytest.skip("no recorded exchanges here: they are looked for in ../shared/recordings")
    return RECORDINGS


def _open_folder(prefix: str) -> Path:
    """A new folder in /tmp. Pytest's own is closed to other accounts and its paths are too long for sockets."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    folder.chmod(0o711)
    return folder


def _template(folder: Path) -> str:
    return f"template_{folder.name.rpartition('-')[2]}"


@contextmanager
def _database(server: str, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    _execute(server, "CREATE DATABASE {} TEMPLATE {}", name, template)
    try:
        yield _with_database(server, name)
    finally:
        _execute(server, "DROP DATABASE {} WITH (FORCE)", name)


def _execute(server: str, statement: str, *names: str) -> None:
    import psycopg
    from psycopg import sql

    with psycopg.connect(server, autocommit=True, connect_timeout=10) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _with_database(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))
