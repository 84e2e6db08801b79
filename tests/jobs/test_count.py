from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event
from time import sleep

from sqlalchemy import Engine, text

from metering.jobs.count import BATCHES_AT_ONCE, count_all, follow
from metering.ledger.engine import connect, transaction
from metering.ledger.slots import CountResult
from tests.ledger.worlds import counted, naive_count, ship, some_events


def test_counting_goes_on_until_nothing_is_left(engine: Engine) -> None:
    events = some_events(3 * BATCHES_AT_ONCE, apart=timedelta(minutes=11))
    for first in range(0, len(events), 2):
        ship(engine, events[first : first + 2])
    rounds: list[CountResult] = []
    result = count_all(engine, rounds.append)
    assert [counted.batches for counted in rounds] == [BATCHES_AT_ONCE, BATCHES_AT_ONCE // 2]
    assert (result.batches, result.events) == (len(events) // 2, len(events))
    assert counted(engine) == naive_count(events)
    assert count_all(engine) == CountResult(0, 0, 0)


def test_batches_of_a_counter_that_dies_are_taken_over(engine: Engine) -> None:
    ship(engine, some_events(5))
    with ThreadPoolExecutor(1) as pool:
        with engine.connect() as dying:
            dying.execute(text("SELECT FROM shipped_batch FOR UPDATE"))
            counting = pool.submit(count_all, engine)
            sleep(0.2)
            assert not counting.done()
            dying.invalidate()
        assert counting.result().events == 5


def test_following_survives_a_ledger_that_is_away(database_url: str, postgres_url: str) -> None:
    server, engine = connect(postgres_url), connect(database_url)
    name = database_url.partition("?")[0].rpartition("/")[2]
    events = some_events(6)
    ship(engine, events)
    stop, away, counts = Event(), Event(), list[CountResult]()

    def on_counted(result: CountResult) -> None:
        counts.append(result)
        stop.set()

    def on_away(_: Exception) -> None:
        away.set()
        _allow(server, name, "true")

    _allow(server, name, "false")
    with transaction(server) as connection:
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :n"), {"n": name}
        )
    follow(engine, stop, on_counted, on_away)
    assert away.is_set()
    assert [result.events for result in counts] == [6]
    assert counted(engine) == naive_count(events)
    engine.dispose()
    server.dispose()


def _allow(server: Engine, database: str, allowed: str) -> None:
    with transaction(server) as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {database} ALLOW_CONNECTIONS {allowed}")
