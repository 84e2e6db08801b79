"""`metering prices`: import a price list or a price file, show prices, check for what is missing."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.context import settings
from metering.cli.ledger_access import ledger_engine
from metering.cli.tables import Output, OutputOption, print_rows
from metering.errors import ConfigError

if TYPE_CHECKING:
    from metering.jobs.published_prices import PriceList

SHOWN = (
    *("sku_id", "unit_price", "pricing_unit", "currency", "kind", "effective_from", "effective_to"),
    *("source", "price_id"),
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    prices = typer.Typer(help="The dated price book: import, show, check.", no_args_is_help=True)
    prices.command("import")(import_)
    prices.command("show")(show)
    prices.command("check")(check)
    app.add_typer(prices, name="prices")


def import_(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Your price file (.toml or .csv). Default: the list prices.")
    ] = None,
    source: Annotated[str, typer.Option("--from", help="genai-prices, or a price file.")] = "genai-prices",
    output: OutputOption = Output.TABLE,
) -> None:
    """Put prices in force, as a new version of their source.

    Earlier versions are kept.
    """
    from metering.jobs.import_prices import import_prices

    price_list = _read(file or (None if source == "genai-prices" else Path(source)))
    with ledger_engine() as engine:
        result = import_prices(engine, price_list, datetime.now(UTC))
    row = {
        "source": result.version.source_name,
        "version": result.version.source_version,
        "version_id": result.version.version_id,
        "changed": result.changed,
        "rows": result.version.row_count,
        "added": result.added,
        "dropped": result.dropped,
        "digest": result.version.digest,
        "left_out": price_list.left_out,
    }
    print_rows(
        [row], ("source", "version", "version_id", "changed", "rows", "added", "dropped"), output, "prices imported"
    )
    if price_list.left_out and output is Output.TABLE:
        units = ", ".join(f"{name} ×{count}" for name, count in price_list.left_out.items())
        typer.echo(f"left out, as nothing meters them yet: {units}", err=True)


def show(
    provider: Annotated[str | None, typer.Option(help="Only this provider's.")] = None,
    model: Annotated[str | None, typer.Option(help="Only rows that could price calls of this model.")] = None,
    meter: Annotated[str | None, typer.Option(help="Only this meter's.")] = None,
    at: Annotated[
        str | None, typer.Option(help="Only rows in force at this time (ISO 8601; a bare one is UTC).")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the rows of the price book in force."""
    from metering.core.document import price_values
    from metering.jobs.show_prices import find_prices
    from metering.ledger.prices import load_book
    from metering.ledger.snapshot import snapshot

    instant = _instant(at)
    with ledger_engine() as engine, snapshot(engine) as connection:
        book = load_book(connection)
    rows = [price_values(price) for price in find_prices(book, provider=provider, model=model, meter=meter, at=instant)]
    print_rows(rows, SHOWN, output, f"{len(rows)} of {len(book.prices)} prices")
    if not book.prices:
        typer.echo("the price book is empty: run `metering prices import`", err=True)


def check(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A price file to check alone, before importing it.")
    ] = None,
    period: Annotated[str | None, typer.Option(help="Whose usage must have prices; default: this month.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Look for usage without a price, and holes between prices.

    Also for thresholds that the counts kept can't decide.
    Exits with 1 if somebody should do something.
    """
    from metering.core.period import parse_period
    from metering.core.prices import PriceBook
    from metering.jobs.check_prices import check_ledger, check_rows

    if file:
        price_list = _read(file)
        findings = check_rows(PriceBook(price_list.prices, price_list.rules).prices)
    else:
        zone = settings().billing_zone
        try:
            span = parse_period(period or f"{datetime.now(zone):%Y-%m}", zone)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        with ledger_engine() as engine:
            findings = check_ledger(engine, span)
    rows = [{"kind": one.kind.value, "sku": one.sku, "sentence": one.sentence} for one in findings]
    print_rows(rows, ("kind", "sku", "sentence"), output, f"{len(rows)} findings")
    if any(one.needs_action for one in findings):
        raise typer.Exit(1)


def _read(file: Path | None) -> "PriceList":
    from metering.jobs.price_file import read_price_file
    from metering.jobs.published_prices import read_published

    return read_price_file(file) if file else read_published()


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--at {text!r} is not a time such as 2026-10-01 or 2026-10-01T12:00:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
