"""`metering migrate`, `count`, `verify` and `postgres`: the ledger's own commands."""

import signal
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from metering.cli.context import settings
from metering.cli.ledger_access import ledger_engine
from metering.cli.tables import Output, OutputOption, print_json, print_rows
from metering.errors import BooksDoNotBalance, LedgerUnavailable

if TYPE_CHECKING:
    from metering.ledger.checks import CheckResult
    from metering.ledger.slots import CountResult

DAYS_AHEAD = 7


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command("migrate")(migrate)
    app.command("count")(count)
    app.command("verify")(verify)
    postgres = typer.Typer(help="The embedded Postgres: start, stop, status.", no_args_is_help=True)
    postgres.command("start")(postgres_start)
    postgres.command("stop")(postgres_stop)
    postgres.command("status")(postgres_status)
    app.add_typer(postgres, name="postgres")


def migrate() -> None:
    """Bring the ledger's tables to this version.

    The partitions of the next week are made, too.
    """
    from metering.ledger.migrate import head
    from metering.ledger.partitions import ensure_partitions

    with ledger_engine() as engine:
        made = ensure_partitions(engine, DAYS_AHEAD)
    typer.echo(f"the ledger is at revision {head()}; {len(made)} daily partitions made", err=True)


def count(
    follow: Annotated[bool, typer.Option("--follow", help="Go on counting what arrives, until Ctrl-C.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Add shipped events to the quarter-hour slots that reports read. Several at once are safe."""
    from metering.jobs.count import count_all
    from metering.jobs.count import follow as count_following

    with ledger_engine() as engine:
        if follow:
            count_following(engine, _stop_event(), _report_counted, _report_away)
            return
        result = msgspec.structs.asdict(count_all(engine))
    if output is Output.JSON:
        print_json(result)
    else:
        print_rows([result], list(result), output, "Counted")


def verify(
    acknowledge: Annotated[
        bool, typer.Option("--acknowledge", help="Mark the records set aside so far as seen, then check.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check the books: each invariant in sql/checks must find nothing. Exits with 5 if one does."""
    from metering.ledger.checks import acknowledge_conflicts, run_checks

    results = []
    with ledger_engine() as engine:
        if acknowledge:
            typer.echo(f"{acknowledge_conflicts(engine)} records acknowledged", err=True)
        for result in run_checks(engine):
            results.append(result)
            if output is Output.TABLE:
                _print_check(result)
    if output is not Output.TABLE:
        rows = [msgspec.structs.asdict(result) | {"holds": result.holds} for result in results]
        print_rows(rows, ["check", "holds", "states"], output, "")
    if broken := [result.check for result in results if not result.holds]:
        raise BooksDoNotBalance(f"{len(broken)} of {len(results)} checks found rows: {', '.join(broken)}")


def postgres_start() -> None:
    """Keep the embedded Postgres running until Ctrl-C; prints its URL. Other commands start it as they need it."""
    from metering.ledger.embedded import running

    stop = _stop_event()
    with running(_directory()) as url:
        typer.echo(url)
        typer.echo("running until Ctrl-C", err=True)
        stop.wait()


def postgres_stop() -> None:
    """Stop the embedded Postgres if nobody uses it any more."""
    from metering.ledger.embedded import EmbeddedPostgres

    if not _directory().exists():
        typer.echo("it never ran", err=True)
    elif EmbeddedPostgres(_directory()).stop():
        typer.echo("stopped", err=True)
    else:
        raise LedgerUnavailable("the embedded Postgres is in use: it stops when the last command that uses it ends")


def postgres_status() -> None:
    """Say whether the embedded Postgres runs, and where; exits with 3 if it does not."""
    from metering.ledger.embedded import DATABASE
    from metering.ledger.postgres_home import open_home
    from metering.ledger.postgres_server import Server

    server = Server(open_home(_directory())) if _directory().exists() else None
    if server is None or not server.answers():
        raise LedgerUnavailable("the embedded Postgres does not run: `metering postgres start` starts it")
    typer.echo(server.url(DATABASE))


def _stop_event() -> Event:
    """Set by Ctrl-C or SIGTERM: what is under way ends in good order."""
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _directory() -> Path:
    """Where `ledger_url` keeps the embedded Postgres."""
    return settings().state_dir / "postgres"


def _report_counted(result: "CountResult") -> None:
    typer.echo(f"{result.events} events of {result.batches} batches counted into {result.slots} slots", err=True)


def _report_away(error: LedgerUnavailable) -> None:
    typer.echo(f"metering: {error}", err=True)


def _print_check(result: "CheckResult") -> None:
    typer.echo(f"{'ok  ' if result.holds else 'FAIL'}  {result.check:12} {result.states}")
    if not result.holds:
        # Columns that are empty in all rows only push the others apart.
        columns = [name for name in result.rows[0] if any(row[name] is not None for row in result.rows)]
        print_rows(result.rows, columns, Output.TABLE, f"{len(result.rows)} rows{' of more' if result.more else ''}")
