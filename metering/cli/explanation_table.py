"""An explained line as a table, as CSV rows and as plain values."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec
import typer
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from metering.cli.tables import new_table, print_table
from metering.core.cells import escape_cell
from metering.core.document import Values, charge_values, line_values, money_text, price_values, time_text
from metering.core.slot import Dimension
from metering.core.units import amount_text, quantity_text
from metering.jobs.explain import ExplainedCharge, ExplainedEvent, ExplainedGroup, Explanation

CSV_COLUMNS = (
    *("line_id", "line", "charge_period_start", "charge_period_end", "provider_name", "model", "meter"),
    *("consumed_quantity", "priced_as", "contracted_unit_price", "pricing_unit", "contracted_cost", "currency"),
    *("sku_price_id", "price_version", "price_source", "price_effective_from", "price_effective_to"),
)
COLUMNS: dict[str, JustifyMethod] = {
    "what": "left",
    "quantity": "right",
    "× price": "left",
    "= cost": "right",
    "price row, or whose calls": "left",
}


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


def print_explanation(explanation: Explanation, groups_max: int) -> None:
    """The line's arithmetic, charge by charge, with the newest events of the `groups_max` costliest groups of calls."""
    line, shown = explanation.line, explanation.groups[:groups_max]
    money = f"{money_text(line.cost)} {line.currency}, rounded once from {money_text(line.cost_exact)}"
    typer.echo(f"{line.name} [{line.line_id}]: {money if line.cost is not None else 'no cost'}, {_calls(line.calls)}")
    table = new_table("")
    for title, justify in COLUMNS.items():
        table.add_column(title, justify=justify)
    for group in shown:
        _add_group(table, group)
    if shown:
        print_table(table)
    rest = len(explanation.groups) - len(shown)
    more = f"; not shown: the {rest} smallest (--groups N shows more, --output json has all charges)" if rest else ""
    added = "everything adds up to the line" if explanation.adds_up else "IT DOES NOT ADD UP: run `metering verify`"
    groups = f"{len(explanation.groups)} group{'s' * (len(explanation.groups) != 1)} of calls"
    typer.echo(f"{groups}; {added}{more}\n")


def _add_group(table: Table, group: ExplainedGroup) -> None:
    facts = group.dimension
    whose = "; ".join([f"{_minute(group.start_at)} to {_minute(group.end_at)} UTC", *_told(facts)])
    what = f"{facts.provider_name}/{facts.model or 'unknown model'}"
    table.add_section()
    table.add_row(Text(what, style="bold"), Text(_calls(group.calls)), Text(), Text(), Text(whose, style="bold"))
    for charge in group.charges:
        table.add_row(*_charge_cells(charge))
    for explained in group.events:
        name, used = Text(f"  {explained.event.event_id}", style="dim"), Text(_used(explained), style="dim")
        table.add_row(name, Text(), Text(), Text(money_text(explained.cost) or "", style="dim"), used)
    if group.events and not group.all_events:
        table.add_row(Text("  … older events: --events N shows more", style="dim"))


def _charge_cells(explained: ExplainedCharge) -> list[Text]:
    charge, price = explained.charge, explained.charge.price
    what = [Text(f"  {charge.meter}"), Text(amount_text(charge.meter, charge.consumed_quantity))]
    if price is None and not charge.unpriced:
        return [*what, Text("the provider does not bill these"), Text()]
    if price is None:
        return [*what, Text("no price", style="red"), Text("not charged", style="red")]
    since = f"from {_minute(price.effective_from)}" if price.effective_from else "since ever"
    until = f"to {_minute(price.effective_to)}" if price.effective_to else "until further notice"
    over = "".join(f"; {meter} has no price of its own" for meter in explained.fell_back_over[:1])
    unit, _, noun = price.pricing_unit.partition(" ")
    version = explained.price_version or ""
    source = version if version.startswith(price.source) else f"{version} ({price.source})"
    return [
        *what,
        Text(f"{price.unit_price:f} {price.currency} per {int(unit):,} {noun}"),
        Text(money_text(charge.billed_cost) or ""),
        Text(f"{price.kind} price {price.sku_id}, {since} {until}; {source}{over}"),
    ]


def _used(explained: ExplainedEvent) -> str:
    """When an event began, what of it was counted, and what else is known of it."""
    event = explained.event
    quantities = ", ".join(quantity_text(meter, quantity) for meter, quantity in event.quantities.items())
    told = [f"{event.started_at:%Y-%m-%d %H:%M:%S} UTC: {quantities or 'nothing'}"]
    if event.estimator:
        told.append(f"estimated by {event.estimator}")
    if event.reported_cost is not None:
        told.append(f"the provider says {event.reported_cost:f} USD")
    if event.part_of:
        told.append(f"part of {event.part_of}")
    return "; ".join(told)


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


def _calls(count: int) -> str:
    return f"{count:,} call{'s' * (count != 1)}"


def _told(dimension: Dimension) -> Iterator[str]:
    """What else is known of the group."""
    for name in ("team", "project", "environment", "principal", "credential_id", "deployment", "region"):
        if value := getattr(dimension, name):
            yield f"{name.removesuffix('_id')} {value}"
    yield dimension.operation_name
    if dimension.service_tier:
        yield f"tier {dimension.service_tier}"
    if dimension.variant:
        yield f"variant {dimension.variant}"
    if dimension.context_band:
        yield f"over {dimension.context_band:,} input tokens"
    yield f"usage {dimension.usage_source}"
    yield dimension.outcome


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


def _event_values(explained: ExplainedEvent) -> Values:
    event = explained.event
    values = msgspec.structs.asdict(event)
    values |= {"cost": money_text(explained.cost), "currency": explained.currency}
    values["reported_cost"] = money_text(event.reported_cost)  # USD
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
