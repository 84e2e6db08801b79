"""The API as clients see it: a real server process-wide socket, a real HTTP client, a real ledger."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
import uvicorn
from sqlalchemy import Engine

from metering.api.access import BearerToken, read_token
from metering.api.app import create_app
from metering.api.problems import status_of
from metering.cli.api import is_loopback, open_socket, parse_listen, url_of
from metering.core.event import Attribution
from metering.core.period import parse_period
from metering.core.placement import parse_by
from metering.core.statement import Statement
from metering.errors import ConfigError, InputError, LedgerError, LedgerUnavailable, SpoolError, StalePosition
from metering.jobs.import_prices import import_prices
from metering.jobs.statement import compose_statement
from metering.ledger.slots import count_batches
from tests.jobs.test_statement import NOW, PRICES, own
from tests.ledger.worlds import an_event, ship

TOKEN = "0123456789abcdef0123"


@contextmanager
def serving(
    compose: Callable[[str, str], Statement],
    check_ready: Callable[[], None] = lambda: None,
    token: BearerToken | None = None,
) -> Iterator[httpx.Client]:
    """A client of a server that runs in a thread until the block ends."""
    config = uvicorn.Config(create_app(compose, check_ready, token), log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    with open_socket("127.0.0.1", 0) as listener:
        # The socket listens already, so a client may come before the server's loop does.
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            with httpx.Client(base_url=url_of(listener), timeout=30, trust_env=False) as client:
                client.get("/healthz").raise_for_status()
                yield client
        finally:
            server.should_exit = True
            thread.join(timeout=30)
    assert not thread.is_alive()


def fails(error: Exception) -> Callable[[str, str], Statement]:
    def compose(period: str, by: str) -> Statement:
        raise error

    return compose


@pytest.fixture
def compose(engine: Engine) -> Callable[[str, str], Statement]:
    """What the command gives the API, over a ledger with a few calls."""
    import_prices(engine, own(PRICES), NOW)
    ship(engine, [an_event(n, attribution=Attribution(team="red")) for n in range(3)])
    count_batches(engine, 10)

    def compose(period: str, by: str) -> Statement:
        try:
            return compose_statement(engine, parse_period(period, ZoneInfo("UTC")), parse_by(by))
        except ValueError as error:
            raise ConfigError(str(error)) from None

    return compose


def assert_problem(answer: httpx.Response, status: int, detail: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["status"], problem["type"]) == (status, status, "about:blank")
    assert detail in problem["detail"]
    assert problem["title"]


def test_statements_and_usage_over_http(compose: Callable[[str, str], Statement]) -> None:
    with serving(compose) as client:
        answer = client.get("/v1/statements/2026-10", params={"by": "team"})
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        statement: Any = answer.json()
        (line,) = statement["lines"]
        # 303 tokens read at 2 and 30 written at 10 a million
        assert (line["name"], line["calls"], line["cost"], line["cost_exact"]) == ("red", 3, "0.00", "0.000906")
        assert statement["total"]["amounts"][0]["cost_exact"] == "0.000906"
        usage: Any = client.get("/v1/usage", params={"period": "2026-10-05", "by": "model"}).json()
        assert usage["lines"][0]["quantities"] == {"input": 303, "output": 30}
        assert "amounts" not in usage["total"]
        assert client.get("/readyz").json() == {"status": "ready"}
        paths: Any = client.get("/openapi.json").json()["paths"]
        assert set(paths) == {"/healthz", "/readyz", "/v1/statements/{period}", "/v1/usage"}


def test_what_is_wrong_is_a_problem_body(compose: Callable[[str, str], Statement]) -> None:
    with serving(compose) as client:
        assert_problem(client.get("/v1/statements/2026-13"), 400, "'2026-13' is not a period")
        assert_problem(client.get("/v1/statements/2026-10?by=colour"), 400, "choose one of cost-center, team")
        assert_problem(client.get("/v1/usage"), 400, "period: Field required")
        assert_problem(client.get("/v1/nothing"), 404, "there is nothing at /v1/nothing")
        assert_problem(client.post("/v1/usage"), 405, "Method Not Allowed")
        assert client.post("/v1/usage").headers["allow"] == "GET"


def test_a_ledger_that_is_away_is_told_and_the_process_stays(compose: Callable[[str, str], Statement]) -> None:
    def not_ready() -> None:
        raise LedgerUnavailable("Postgres can't be reached")

    with serving(fails(LedgerUnavailable("Postgres can't be reached")), not_ready) as client:
        assert_problem(client.get("/readyz"), 503, "can't be reached")
        assert_problem(client.get("/v1/statements/2026"), 503, "can't be reached")
        assert client.get("/healthz").status_code == 200


def test_a_bug_tells_strangers_nothing() -> None:
    with serving(fails(ZeroDivisionError("secret"))) as client:
        answer = client.get("/v1/statements/2026")
        assert_problem(answer, 500, "see the server's log")
        assert "secret" not in answer.text


def test_without_the_token_nobody_is_served(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    with serving(fails(InputError("seen")), token=read_token(path)) as client:
        for header in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": f"Basic {TOKEN}"},
            {"authorization": TOKEN},
        ):
            answer = client.get("/v1/statements/2026", headers=header)
            assert_problem(answer, 401, "Authorization: Bearer TOKEN")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert_problem(client.get("/openapi.json"), 401, "Bearer")
        answer = client.get("/v1/statements/2026", headers={"authorization": f"bearer {TOKEN}"})
        assert_problem(answer, 400, "seen")
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("content", ["", "short", "0123456789abcdef 0", "0123456789abcdefé"])
def test_a_poor_token_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(ConfigError, match="openssl rand"):
        read_token(path)
    with pytest.raises(ConfigError, match="can't be read"):
        read_token(tmp_path / "none")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError(), 400),
        (InputError(), 400),
        (LedgerUnavailable(), 503),
        (StalePosition(), 409),
        (LedgerError(), 409),
        (SpoolError(), 500),
    ],
)
def test_errors_have_a_status(error: Any, status: int) -> None:
    assert status_of(error) == status


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("example.org", False)],
)
def test_only_this_machine_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_where_to_listen() -> None:
    assert parse_listen("[::1]:80") == ("::1", 80)
    for wrong in ("8780", ":8780", "localhost:", "localhost:70000", "localhost:http"):
        with pytest.raises(ConfigError, match="HOST:PORT"):
            parse_listen(wrong)
    with open_socket("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match="choose another --listen"):
        open_socket("127.0.0.1", taken.getsockname()[1])
