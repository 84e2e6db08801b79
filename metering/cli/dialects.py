"""`metering dialects`: what the meter reads, and a check of its readers against recorded exchanges."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from msgspec.structs import asdict
from rich.console import Console
from rich.table import Table

from metering.cli import tables
from metering.cli.tables import print_json, print_rows
from metering.core.dialects import DIALECTS
from metering.core.dialects.coverage import cover, markdown
from metering.errors import InputError
from metering.jobs.check_dialects import Check, CheckedFile, check_recordings

VERDICTS = ("equal", "different", "ambiguous", "error")
FILES_SHOWN_MAX = 50


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


class ListOutput(StrEnum):
    """How the list is printed; Markdown is what docs/dialects.md holds."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    dialects = typer.Typer(
        help="The wire formats the meter reads: check them against recordings.", no_args_is_help=True
    )
    dialects.callback()(lambda: None)
    dialects.command("check")(check)
    dialects.command("list")(list_dialects)
    app.add_typer(dialects, name="dialects")


def list_dialects(
    output: Annotated[ListOutput, typer.Option(help="How to print the result.")] = ListOutput.TABLE,
) -> None:
    """List the dialects the meter reads: where each tells its counts, what else it counts, what is not read."""
    rows = cover(DIALECTS.values())
    if output is ListOutput.MARKDOWN:
        typer.echo(markdown(rows))
        return
    plain = [
        {name: value.replace("`", "") if isinstance(value, str) else value for name, value in asdict(row).items()}
        for row in rows
    ]
    if output is ListOutput.JSON:
        print_json(plain)
        return
    columns = ("dialect", "streamed", "input_total", "output_total", "also_counts", "stream_usage", "gaps")
    read = [row | {"streamed": "yes" if row["streamed"] else "no"} for row in plain if row["consumes"] is not False]
    print_rows(read, columns, tables.Output(output), f"{len(read)} dialects")
    if output is ListOutput.TABLE:
        idle = ", ".join(str(row["dialect"]) for row in plain if row["consumes"] is False)
        Console(soft_wrap=True).print(f"consume nothing: {idle}", highlight=False)


def check(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of recorded exchanges, one JSON file each.")
    ],
    output: Annotated[Output, typer.Option(help="How to print the result.")] = Output.TABLE,
    cuts: Annotated[int, typer.Option(min=0, help="In how many random ways to cut each body.")] = 5,
    seed: Annotated[int, typer.Option(help="Where the random cuts start.")] = 0,
) -> None:
    """Replay recordings through the readers, whole and cut, and compare with their expected usage.

    Exits with 1 if a reading differs or a file can't be read.
    """
    if not directory.is_dir():
        raise InputError(f"{directory} is not a folder: name one that holds recorded exchanges")
    result = check_recordings(directory, cuts=cuts, seed=seed)
    if output is Output.JSON:
        typer.echo(msgspec.json.format(msgspec.json.encode(result)).decode())
    else:
        _print(result)
    if result.different or result.errors:
        raise typer.Exit(1)


def _print(result: Check) -> None:
    console = Console()
    table = Table(title=f"{result.checked} recordings, each whole and in {result.cuts} random cuts")
    table.add_column("dialect")
    for verdict in VERDICTS:
        table.add_column(verdict, justify="right")
    for dialect, counts in result.dialects.items():
        table.add_row(dialect, *(str(counts.get(verdict, 0)) for verdict in VERDICTS))
    table.add_section()
    totals = (result.equal, result.different, result.ambiguous, result.errors)
    table.add_row("all", *(str(total) for total in totals))
    console.print(table)
    if result.unsupported:
        names = ", ".join(f"{label} {files}" for label, files in result.unsupported_labels.items())
        console.print(f"not read yet: {result.unsupported} ({names})", highlight=False)
    if result.label_disagreements:
        names = ", ".join(f"{label} {files}" for label, files in result.label_disagreements.items())
        console.print(f"labelled otherwise by the recording: {names}", highlight=False)
    if result.not_compared:
        console.print(f"not compared: {', '.join(result.not_compared)}", highlight=False)
    for file in result.files[:FILES_SHOWN_MAX]:
        console.print(_sentence(file), highlight=False, markup=False)
    if (left := len(result.files) - FILES_SHOWN_MAX) > 0:
        console.print(f"… and {left} more; --output json lists all")


def _sentence(file: CheckedFile) -> str:
    told = [f"{d.name} expected {d.expected}, read {d.read}" for d in file.differences]
    return f"{file.verdict}: {file.file} ({file.dialect}): {file.problem or '; '.join(told) or 'readings agree'}"
