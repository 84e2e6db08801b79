"""`metering teams`: which cost centre each team belongs to, and since when."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from metering.cli.context import settings
from metering.cli.ledger_access import ledger_engine
from metering.cli.tables import Output, OutputOption, print_rows

COLUMNS = ("team", "cost_center", "effective_from", "effective_to")


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    teams = typer.Typer(help="Teams and their cost centres: import, show.", no_args_is_help=True)
    teams.command("import")(import_)
    teams.command("show")(show)
    app.add_typer(teams, name="teams")


def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A CSV of team,cost_center,effective_from,effective_to.")
    ],
) -> None:
    """Put the directory in FILE in force, as a new version. Dates are midnights in the billing zone."""
    from metering.jobs.team_file import read_team_file
    from metering.ledger.engine import transaction
    from metering.ledger.teams import replace_directory

    directory = read_team_file(file, settings().billing_zone)
    with ledger_engine() as engine, transaction(engine) as connection:
        changed = replace_directory(connection, directory, datetime.now(UTC))
    rows = len(directory.assignments)
    typer.echo(f"{rows} assignments {'in force' if changed else 'were in force already'}", err=True)


def show(output: OutputOption = Output.TABLE) -> None:
    """Show the directory in force."""
    from metering.core.document import time_text
    from metering.ledger.snapshot import snapshot
    from metering.ledger.teams import load_directory

    with ledger_engine() as engine, snapshot(engine) as connection:
        directory = load_directory(connection)
    rows = [
        {
            "team": row.team,
            "cost_center": row.cost_center,
            "effective_from": row.effective_from and time_text(row.effective_from),
            "effective_to": row.effective_to and time_text(row.effective_to),
        }
        for row in directory.assignments
    ]
    print_rows(rows, COLUMNS, output, f"{len(rows)} assignments")
