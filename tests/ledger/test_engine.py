from urllib.parse import quote

import pytest

from metering.errors import ConfigError, LedgerError, LedgerUnavailable
from metering.ledger.engine import connect, transaction

SECRET = "s3cret"


def test_a_closed_port_is_one_sentence_without_the_password() -> None:
    with pytest.raises(LedgerUnavailable) as raised:
        connect(f"postgresql://user:{SECRET}@127.0.0.1:1/metering")
    assert "METERING_DATABASE_URL" in str(raised.value)
    assert SECRET not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:pa@{SECRET}@host/metering",
        f"postgresql://user:{SECRET}/x@host/metering",
        f"nonsense {SECRET}",
    ],
)
def test_an_unreadable_url_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="percent-encoded") as raised:
        connect(url)
    assert SECRET not in str(raised.value)


def test_a_percent_encoded_password_is_fine(database_url: str) -> None:
    # The server trusts its socket, so any password does; what counts is that the URL is read as meant.
    url = database_url.replace("@", f":{quote('p@ss/w:rd', safe='')}@", 1)
    connect(url).dispose()


def test_every_wait_is_bounded(database_url: str) -> None:
    engine = connect(database_url, statement_seconds=1)
    with pytest.raises(LedgerUnavailable, match="statement timeout"), transaction(engine) as connection:
        connection.exec_driver_sql("SELECT pg_sleep(30)")
    with transaction(engine) as connection:
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "20s"
        assert connection.exec_driver_sql("SHOW timezone").scalar_one() == "UTC"
    engine.dispose()


def test_tables_that_are_not_there_say_what_to_do(empty_database_url: str) -> None:
    engine = connect(empty_database_url)
    with pytest.raises(LedgerError, match="metering migrate"), transaction(engine) as connection:
        connection.exec_driver_sql("SELECT * FROM usage_event")
    engine.dispose()


def test_a_right_that_is_missing_is_named(database_url: str) -> None:
    engine = connect(database_url)
    with pytest.raises(LedgerError, match="permission denied"), transaction(engine) as connection:
        connection.exec_driver_sql("SET LOCAL ROLE pg_read_all_stats; SELECT * FROM usage_event")
    engine.dispose()


def test_a_connection_that_was_cut_is_replaced(database_url: str) -> None:
    engine = connect(database_url)
    with pytest.raises(LedgerUnavailable), transaction(engine) as connection:
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
    with transaction(engine) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    engine.dispose()
