"""The demo's path, piece by piece: ledger, prices, teams, programs, calls, count, statement."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import typer

from metering.cli.context import settings
from metering.cli.lab_output import progress_bar
from metering.cli.statement_table import print_statement
from metering.cli.tables import Output, print_json
from metering.core.period import parse_period
from metering.core.placement import By
from metering.core.statement import Statement
from metering.core.usage import INPUT_METERS, OUTPUT_METERS
from metering.errors import BooksDoNotBalance, LedgerUnavailable
from metering.jobs.count import count_all
from metering.jobs.import_prices import import_prices
from metering.jobs.price_file import read_price_file
from metering.jobs.published_prices import read_published
from metering.jobs.statement import compose_rated, rate_period
from metering.jobs.team_file import read_team_file
from metering.lab.demo import GUEST_TEAM, send, three_lines, write_price_file, write_team_file
from metering.lab.programs import is_free
from metering.lab.replay import ReplayOutcome
from metering.lab.scenario import Scenario, bundled
from metering.lab.sidecar_plan import PlannedKey
from metering.lab.stack import Stack
from metering.ledger import embedded, migrate
from metering.ledger.checks import run_checks
from metering.ledger.engine import Engine, connect, transaction
from metering.ledger.partitions import ensure_partitions
from metering.ledger.snapshot import snapshot
from metering.ledger.teams import replace_directory
from metering.sidecar.keys import hash_secret, mint_secret

PORT = 8787  # unless somebody has it
SHIP_SECONDS = 30.0
POLL_SECONDS = 0.05


class DemoSummary(msgspec.Struct, kw_only=True):
    """What a demo did: what was sent, what the books say, and whether they say the same."""

    calls: int  # sent
    failed_calls: int
    aborted_calls: int
    events: int  # counted in the ledger
    input_tokens: int
    output_tokens: int
    tokens_by_team: dict[str, int]
    cost: dict[str, str]  # by currency
    unpriced_tokens: int
    unallocated_tokens: int
    unknown_calls: int
    equal: bool  # every team's tokens are what the model told
    verified: bool  # every check of the books holds
    seconds: float


@contextmanager
def open_path(folder: Path, say: Callable[[str], None]) -> Iterator["DemoPath"]:
    """Everything up and ready for calls; stopped again when the block ends."""
    scenario = bundled()
    with embedded.running(folder / "postgres") as url:
        migrate.upgrade(url)
        engine = connect(url)
        secrets = {team.name: mint_secret("demo") for team in scenario.teams if not team.by_header}
        secrets[GUEST_TEAM] = mint_secret("demo")
        # What the demo's programs and the commands a user tries beside it find in their environment.
        stack = Stack(folder, {**os.environ, "METERING_DATABASE_URL": url, "METERING_STATE_DIR": str(folder)})
        say("the ledger is ready (a Postgres of the demo's own)")
        try:
            with ThreadPoolExecutor(1) as beside:  # the programs start while the prices are read
                started = beside.submit(_start, stack, secrets)
                _fill(engine, scenario, folder)
                started.result()
            say(f"prices and teams are in; emulated models answer behind the sidecar on {stack.url}")
            yield DemoPath(engine, stack, scenario, secrets, say)
        finally:
            stack.stop()
            engine.dispose()


def _start(stack: Stack, secrets: dict[str, str]) -> None:
    keys = [
        PlannedKey(
            id=f"{team}-demo",
            hash=f"sha256:{hash_secret(secret.encode()).hex()}",
            team=team,
            project="demo",
            environment="demo",
        )
        for team, secret in secrets.items()
    ]
    stack.start(keys=keys, port=PORT if is_free(PORT) else None)


def _fill(engine: Engine, scenario: Scenario, folder: Path) -> None:
    """Partitions, published prices, the scenario's own prices, teams."""
    now = datetime.now(UTC)
    ensure_partitions(engine, 2)
    import_prices(engine, read_published(), now)
    import_prices(engine, read_price_file(write_price_file(scenario, folder / "prices.toml")), now)
    directory = read_team_file(write_team_file(scenario, folder / "teams.csv"), settings().billing_zone)
    with transaction(engine) as connection:
        replace_directory(connection, directory, now)


class DemoPath:
    """A running path, and what has gone over it."""

    def __init__(
        self, engine: Engine, stack: Stack, scenario: Scenario, secrets: dict[str, str], say: Callable[[str], None]
    ) -> None:
        self._engine = engine
        self._stack = stack
        self._scenario = scenario
        self._secrets = secrets
        self._say = say
        self._outcome: ReplayOutcome
        self._events = 0

    def send(self) -> None:
        """Send the scenario's calls."""
        self._begun_at = datetime.now(settings().billing_zone)
        with progress_bar(len(self._scenario.calls()), shown=True) as on_progress:
            self._outcome = send(self._stack, self._scenario, self._secrets, on_progress)
        total = self._outcome.tally.total()
        self._say(
            f"{self._outcome.attempts} calls sent: {total.calls} answered,"
            f" {total.failed_calls} failed, {total.aborted_calls} aborted"
        )

    def count(self) -> None:
        """Wait until every call is shipped, and count them."""
        deadline = time.monotonic() + SHIP_SECONDS
        while self._events < self._outcome.attempts:
            self._events += count_all(self._engine).events
            if time.monotonic() > deadline:
                raise LedgerUnavailable(
                    f"only {self._events} of {self._outcome.attempts} calls reached the ledger in {SHIP_SECONDS:.0f} s:"
                    f" see {self._stack.folder / 'sidecar.log'}"
                )
            time.sleep(POLL_SECONDS)
        self._say(f"{self._events} events shipped to the ledger and counted")

    def look(self) -> None:
        """Count what came meanwhile; a ledger that is away is asked again next time."""
        try:
            count_all(self._engine)
        except LedgerUnavailable as error:
            typer.echo(f"metering: {error}", err=True)

    def show(self, output: Output, seconds: float) -> None:
        """Print the statement by team and by model, or one JSON summary. `BooksDoNotBalance` if they don't."""
        period = parse_period(self.period_name(), settings().billing_zone)
        with snapshot(self._engine) as connection:
            rated = rate_period(connection, period)
        by_team, by_model = (compose_rated(rated, by) for by in (By.TEAM, By.MODEL))
        broken = [result.check for result in run_checks(self._engine) if not result.holds]
        summary = self._summary(by_team, seconds, verified=not broken)
        if output is Output.JSON:
            print_json(msgspec.structs.asdict(summary))
        else:
            print_statement(by_team)
            typer.echo()
            print_statement(by_model)
            typer.echo()
        if broken or not summary.equal:
            raise BooksDoNotBalance(f"the demo's books are wrong: {', '.join(broken) or 'tokens by team'}: report this")
        self._say("every team's tokens are those that the models told, and every check of the books holds")

    def period_name(self) -> str:
        """The month the calls were sent in."""
        return f"{self._begun_at:%Y-%m}"

    def three_lines(self) -> tuple[str, str, str]:
        """What a user needs to send a call of their own."""
        return three_lines(self._stack.url, self._secrets[GUEST_TEAM])

    def _summary(self, statement: Statement, seconds: float, *, verified: bool) -> DemoSummary:
        total = self._outcome.tally.total()
        sent = self._outcome.tally.by("team")
        booked: dict[str, int] = {}
        for line in statement.lines:
            team = "" if line.unallocated else line.name
            booked[team] = booked.get(team, 0) + line.tokens
        told = {team: sums.input_tokens + sums.output_tokens for team, sums in sent.items()}
        quantities = statement.total.quantities
        return DemoSummary(
            calls=self._outcome.attempts,
            failed_calls=total.failed_calls,
            aborted_calls=total.aborted_calls,
            events=self._events,
            input_tokens=sum(quantities.get(meter, 0) for meter in INPUT_METERS),
            output_tokens=sum(quantities.get(meter, 0) for meter in OUTPUT_METERS),
            tokens_by_team={team or "unallocated": tokens for team, tokens in sorted(booked.items())},
            cost={amount.currency: f"{amount.cost:f}" for amount in statement.total.amounts},
            unpriced_tokens=statement.total.unpriced_tokens,
            unallocated_tokens=statement.total.unallocated_tokens,
            unknown_calls=statement.total.unknown_calls,
            equal=booked == told and statement.total.calls == self._events,
            verified=verified,
            seconds=round(seconds, 1),
        )
