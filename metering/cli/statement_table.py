"""A statement as a table for a terminal."""

from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal

import typer
from rich.text import Text

from metering.cli.tables import cell, new_table, print_table
from metering.core.statement import Amount, Line, LineStatus, Statement, Total
from metering.core.units import amount_text, meter_title, quantity_text
from metering.core.usage import TOKEN_METERS, Meter


def print_statement(statement: Statement) -> None:
    """One row a line, then the totals, then what they lack; only meters that occur have a column."""
    meters = [meter for meter in Meter if meter in statement.total.quantities and meter is not Meter.REQUEST]
    period = statement.period
    span = f"{period.start_at:%Y-%m-%d %H:%M} to {period.end_at:%Y-%m-%d %H:%M} UTC"
    table = new_table(f"Statement {period.name} by {statement.by}, {span}")
    table.add_column(statement.by.value)
    for title in ("calls", "unknown", *(meter_title(meter) for meter in meters), "tokens", "estimated"):
        table.add_column(title, justify="right")
    for title in ("cost", "at list price"):
        table.add_column(title, justify="right", no_wrap=True)
    for line in statement.lines:
        table.add_row(*_line(line, meters), style=_style(line))
    table.add_section()
    total = statement.total
    counts = [cell(total.calls), cell(total.unknown_calls or None)]
    counts += [_amount(meter, total.quantities.get(meter)) for meter in meters]
    counts += [cell(total.tokens), _estimated(total)]
    for amount in total.amounts or (None,):
        table.add_row(Text("total"), *counts, *_amounts(amount), style="bold")
        counts = [Text()] * len(counts)
    print_table(table)
    for note in _notes(statement):
        typer.echo(note)


def _line(line: Line, meters: Sequence[Meter]) -> list[Text]:
    unpriced = line.status is LineStatus.UNPRICED
    return [
        Text(f"{line.name} (unpriced)" if unpriced else line.name),
        cell(line.calls),
        cell(line.unknown_calls or None),
        *(_amount(meter, line.quantities.get(meter)) for meter in meters),
        cell(line.tokens),
        _estimated(line),
        Text(_money(line.cost, line.currency)),
        Text(_money(line.list_cost, line.currency)),
    ]


def _amounts(amount: Amount | None) -> list[Text]:
    if amount is None:
        return [Text(), Text()]
    return [Text(_money(amount.cost, amount.currency)), Text(_money(amount.list_cost, amount.currency))]


def _money(amount: Decimal | None, currency: str | None) -> str:
    return "" if amount is None else f"{amount:,f} {currency}"


def _amount(meter: Meter, quantity: int | None) -> Text:
    return Text() if quantity is None else Text(amount_text(meter, quantity))


def _estimated(of: Line | Total) -> Text:
    """The share of the tokens; where there are none, how many calls; or of a part of a call, that it is."""
    if of.estimated_tokens and of.estimated_share is not None:
        return Text(f"{of.estimated_share:.2%}")
    if of.estimated_calls:
        return Text(f"{of.estimated_calls:,} call{'s' * (of.estimated_calls != 1)}")
    return Text("yes" if of.estimated else "")


def _notes(statement: Statement) -> Iterator[str]:
    """What the total does not say by itself."""
    total = statement.total
    things = Counter[Meter]()
    for line in statement.lines:
        things.update({meter: n for meter, n in line.unpriced_quantities.items() if meter not in TOKEN_METERS})
    if total.unpriced_tokens:
        yield f"not in the cost: {total.unpriced_tokens:,} tokens without a price"
    if things:
        yield f"not in the cost: {', '.join(quantity_text(meter, n) for meter, n in things.items())} without a price"
    if total.unknown_calls:
        yield f"not in the cost: the unknown usage of {total.unknown_calls:,} call{'s' * (total.unknown_calls != 1)}"
    if total.unallocated_tokens:
        yield f"without an owner: {total.unallocated_tokens:,} unallocated tokens"


def _style(line: Line) -> str:
    if line.status is LineStatus.UNPRICED:
        return "red"
    return "yellow" if line.unallocated else ""
