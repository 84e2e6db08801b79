"""How the money commands print: tables for people, CSV for spreadsheets, JSON for programs."""

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metering.core.cells import escape_cell

# Where nobody looks at a terminal there is no width to fit into, and a folded number is no number.
UNBOUNDED_WIDTH = 400


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", help="How to print the result.")]


def print_json(values: object) -> None:
    """Indented JSON on stdout."""
    typer.echo(msgspec.json.format(msgspec.json.encode(values)).decode())


def print_csv(rows: Iterable[Sequence[str]]) -> None:
    """Rows whose cells are already safe, as CSV on stdout."""
    csv.writer(sys.stdout, lineterminator="\n").writerows(rows)


def print_rows(rows: Sequence[Mapping[str, object]], columns: Sequence[str], output: Output, title: str) -> None:
    """Print plain values in the wished way. `columns` names those of the table and CSV; JSON has all of them."""
    if output is Output.JSON:
        print_json(rows)
    elif output is Output.CSV:
        print_csv([columns, *([escape_cell(_text(row.get(name))) for name in columns] for row in rows)])
    else:
        table = new_table(title)
        for name in columns:
            numeric = any(isinstance(row.get(name), int) for row in rows)
            table.add_column(name.replace("_", " "), justify="right" if numeric else "left")
        for row in rows:
            table.add_row(*(cell(row.get(name)) for name in columns))
        print_table(table)


def new_table(title: str) -> Table:
    """A table in the house style."""
    return Table(title=Text(title) if title else None, header_style="bold", show_edge=False, pad_edge=False)


def print_table(table: Table) -> None:
    """`table` on stdout: as wide as the terminal, or as wide as it likes where there is none."""
    console = Console() if sys.stdout.isatty() else Console(width=UNBOUNDED_WIDTH)
    # By itself: as a part of a narrow table it would be folded to its width.
    if table.title:
        console.print(table.title, style="bold")
        table.title = None
    console.print(table)


def cell(value: object) -> Text:
    """A cell for a person: thousands separated; nothing where there is nothing. Never read as markup."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Text(f"{value:,}")
    return Text(_text(value))


def _text(value: object) -> str:
    if value is None:
        return ""
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
