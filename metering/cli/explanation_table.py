"""An explained line as a table, as CSV rows and as plain values."""

from collections.abc import Iterator, Sequence

import msgspec
import typer
from rich.text import Text

from metering.cli.tables import cell, new_table, print_table
from metering.core.cells import escape_cell
from metering.core.document import Values, charge_values, line_values, money_text, price_values, time_text
from metering.core.slot import CountedEvent, Dimension
from metering.jobs.explain import ExplainedCharge, ExplainedGroup, Explanation

CSV_COLUMNS = (
    *("line_id", "line", "charge_period_start", "charge_period_end", "provider_name", "model", "meter"),
    *("consumed_quantity", "priced_as", "contracted_unit_price", "pricing_unit", "contracted_cost", "currency"),
    *("sku_price_id", "price_version", "price_source", "price_effective_from", "price_effective_to"),
)
GROUPS_SHOWN_MAX = 30


def explanation_values(explanation: Explanation) -> Values:
    """The whole explanation."""
    return {
        "line": line_values(explanation.line),
        "adds_up": explanation.adds_up,
        "groups": [_group_values(group) for group in explanation.groups],
    }


def explanation_csv(explanations: Sequence[Explanation]) -> Iterator[list[str]]:
    """One row a charge, with its price."""
    yield list(CSV_COLUMNS)
    for explanation in explanations:
        for group in explanation.groups:
            for charge in group.charges:
                values = _flat(explanation, group, charge)
                yield [escape_cell(str(values[name])) if values[name] is not None else "" for name in CSV_COLUMNS]


def print_explanation(explanation: Explanation) -> None:
    """The line's arithmetic, charge by charge, with the newest events of each group of calls."""
    line, shown = explanation.line, explanation.groups[:GROUPS_SHOWN_MAX]
    money = f"{money_text(line.cost)} {line.currency}, rounded once from {money_text(line.cost_exact)}"
    table = new_table(
        f"{line.name} [{line.line_id}]: {money if line.cost is not None else 'no cost'}, {line.calls:,} calls"
    )
    for title in ("what", "from", "to", "quantity", "× price", "= cost", "price row"):
        table.add_column(title, justify="right" if title in ("quantity", "= cost") else "left")
    for group in shown:
        whose = ", ".join(f"{name} {value}" for name, value in _told(group.dimension).items())
        table.add_row(Text(whose, style="bold"), *map(Text, _span(group)), Text(f"{group.calls:,} calls"))
        for charge in group.charges:
            table.add_row(*_charge_cells(charge))
        for event in group.events:
            table.add_row(
                Text(f"  {event.event_id}", style="dim"),
                Text(time_text(event.started_at), style="dim"),
                Text(),
                _used(event),
            )
        if not group.all_events and group.events:
            table.add_row(Text("  … older events: --events N shows more", style="dim"))
    print_table(table)
    rest = len(explanation.groups) - len(shown)
    more = f"; {rest} smaller groups are not shown: --output json has all" if rest else ""
    added = "adds up to the line" if explanation.adds_up else "DOES NOT ADD UP: run `metering verify`"
    typer.echo(f"{len(explanation.groups)} groups of calls; everything {added}{more}\n")


def _charge_cells(explained: ExplainedCharge) -> list[Text]:
    charge, price = explained.charge, explained.charge.price
    what = Text(f"  {charge.meter}")
    if price is None:
        return [what, Text(), Text(), cell(charge.consumed_quantity), Text("no price", style="red")]
    over = "".join(f", as {meter} has no price of its own" for meter in explained.fell_back_over[:1])
    since = time_text(price.effective_from) if price.effective_from else "ever"
    until = time_text(price.effective_to) if price.effective_to else "further notice"
    return [
        what,
        Text(),
        Text(),
        cell(charge.consumed_quantity),
        Text(f"{price.unit_price:f} {price.currency} per {price.pricing_unit}{over}"),
        Text(money_text(charge.billed_cost) or ""),
        Text(f"{price.kind} {price.sku_id}, from {since} to {until}, {explained.price_version} ({price.source})"),
    ]


def _used(event: CountedEvent) -> Text:
    return Text(", ".join(f"{quantity:,} {meter}" for meter, quantity in event.quantities.items()), style="dim")


def _span(group: ExplainedGroup) -> tuple[str, str]:
    return time_text(group.start_at), time_text(group.end_at)


def _told(dimension: Dimension) -> dict[str, object]:
    """What is known of the group, by name."""
    return {name: value for name, value in msgspec.structs.asdict(dimension).items() if value not in (None, 0)}


def _group_values(group: ExplainedGroup) -> Values:
    return {
        "dimension": msgspec.structs.asdict(group.dimension),
        "start_at": time_text(group.start_at),
        "end_at": time_text(group.end_at),
        "calls": group.calls,
        "charges": [_charge_values(charge) for charge in group.charges],
        "events": [_event_values(event) for event in group.events],
        "all_events": group.all_events,
    }


def _charge_values(explained: ExplainedCharge) -> Values:
    price = explained.charge.price
    return charge_values(explained.charge) | {
        "price": price and price_values(price),
        "price_version": explained.price_version,
        "fell_back_over": [meter.value for meter in explained.fell_back_over],
    }


def _event_values(event: CountedEvent) -> Values:
    values = msgspec.structs.asdict(event)
    values["quantities"] = {meter.value: quantity for meter, quantity in event.quantities.items()}
    values["started_at"] = time_text(event.started_at)
    values["ended_at"] = event.ended_at and time_text(event.ended_at)
    return values


def _flat(explanation: Explanation, group: ExplainedGroup, charge: ExplainedCharge) -> Values:
    price = charge.charge.price
    return {
        "line_id": explanation.line.line_id,
        "line": explanation.line.name,
        "provider_name": group.dimension.provider_name,
        "model": group.dimension.model,
        "price_version": charge.price_version,
        "price_source": price and price.source,
        "price_effective_from": price and price.effective_from and time_text(price.effective_from),
        "price_effective_to": price and price.effective_to and time_text(price.effective_to),
        **charge_values(charge.charge),
    }
