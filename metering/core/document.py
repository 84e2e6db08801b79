"""Statements as plain values for JSON, CSV and digests: money as strings of plain digits, times in RFC 3339 (UTC)."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

from metering.core.cells import escape_cell
from metering.core.money import to_text
from metering.core.rating import Charge, Problem
from metering.core.sku_price import SkuPrice
from metering.core.statement import Amount, Line, Statement
from metering.core.usage import Meter

Values = dict[str, object]
LINE_COLUMNS = (
    *("period", "by", "line_id", "name", "status", "unallocated", "currency", "calls", "unknown_calls", "tokens"),
    *(f"{meter}_quantity" for meter in Meter),
    *("estimated", "estimated_calls", "estimated_tokens", "estimated_share", "cost", "cost_exact", "list_cost"),
)


def statement_values(statement: Statement) -> Values:
    """The whole statement."""
    return {
        "period": {
            "name": statement.period.name,
            "start_at": time_text(statement.period.start_at),
            "end_at": time_text(statement.period.end_at),
        },
        "by": statement.by.value,
        "lines": [line_values(line) for line in statement.lines],
        "total": _total_values(statement),
        "problems": [problem_values(problem) for problem in statement.problems],
        "provenance": {
            **{name: getattr(statement.provenance, name) for name in statement.provenance.__struct_fields__},
            "price_book_versions": list(statement.provenance.price_book_versions),
        },
        "digest": statement.digest,
    }


def line_values(line: Line) -> Values:
    """One line."""
    return {
        "line_id": line.line_id,
        "name": line.name,
        "status": line.status.value,
        "unallocated": line.unallocated,
        "currency": line.currency,
        "calls": line.calls,
        "unknown_calls": line.unknown_calls,
        "tokens": line.tokens,
        "quantities": {meter.value: quantity for meter, quantity in line.quantities.items()},
        "estimated": line.estimated,
        "estimated_calls": line.estimated_calls,
        "estimated_tokens": line.estimated_tokens,
        "estimated_share": money_text(line.estimated_share),
        "cost": money_text(line.cost),
        "cost_exact": money_text(line.cost_exact),
        "list_cost": money_text(line.list_cost),
    }


def usage_values(statement: Statement) -> Values:
    """The statement's counts without its money."""
    money = ("currency", "cost", "cost_exact", "list_cost")
    whole = statement_values(statement)
    lines = [
        {name: value for name, value in line_values(line).items() if name not in money} for line in statement.lines
    ]
    total = {name: value for name, value in _total_values(statement).items() if name != "amounts"}
    return {"period": whole["period"], "by": whole["by"], "lines": lines, "total": total}


def problem_values(problem: Problem) -> Values:
    """One problem, with its sentence."""
    return {
        "kind": problem.kind.value,
        "provider_name": problem.provider_name,
        "model": problem.model,
        "meter": problem.meter.value,
        "quantity": problem.quantity,
        "sentence": problem.sentence,
    }


def price_values(price: SkuPrice) -> Values:
    """One price row."""
    hours = price.daily_from and price.daily_to and f"{price.daily_from:%H:%M}-{price.daily_to:%H:%M}"
    return {
        "price_id": price.price_id,
        "sku_id": price.sku_id,
        "provider_name": price.provider_name,
        "model": price.model,
        "meter": price.meter.value,
        "kind": price.kind.value,
        "layer": price.layer.value,
        "service_tier": price.service_tier,
        "region": price.region,
        "variant": price.variant,
        "context_over_tokens": price.context_over_tokens,
        "daily_utc": hours or None,
        "unit_price": to_text(price.unit_price),
        "pricing_unit": price.pricing_unit,
        "currency": price.currency,
        "effective_from": price.effective_from and time_text(price.effective_from),
        "effective_to": price.effective_to and time_text(price.effective_to),
        "source": price.source,
    }


def charge_values(charge: Charge) -> Values:
    """One charge, under FOCUS' names, without its dimension."""
    return {
        "charge_category": charge.charge_category,
        "charge_period_start": time_text(charge.charge_period_start),
        "charge_period_end": time_text(charge.charge_period_end),
        "meter": charge.meter.value,
        "consumed_quantity": charge.consumed_quantity,
        "sku_id": charge.price and charge.price.sku_id,
        "sku_price_id": charge.price and charge.price.price_id,
        "priced_as": charge.priced_as and charge.priced_as.value,
        "pricing_unit": charge.price and charge.price.pricing_unit,
        "pricing_quantity": money_text(charge.pricing_quantity),
        "list_unit_price": money_text(charge.list_unit_price),
        "list_cost": money_text(charge.list_cost),
        "contracted_unit_price": money_text(charge.contracted_unit_price),
        "contracted_cost": money_text(charge.contracted_cost),
        "billed_cost": money_text(charge.billed_cost),
        "currency": charge.currency,
        "approximate": charge.approximate,
    }


def csv_rows(statement: Statement) -> Iterator[list[str]]:
    """Header, lines, and a `total` row a currency; texts are safe to open in a spreadsheet."""
    yield list(LINE_COLUMNS)
    head = {"period": statement.period.name, "by": statement.by.value}
    for line in statement.lines:
        yield _csv_row(head | line_values(line), line.quantities)
    counts = _total_values(statement) | {"name": "total", "status": "total"}
    for amount in statement.total.amounts or (None,):
        money = _amount_values(amount) if amount else {}
        # Calls and tokens are those of all currencies together, so they stand on the first row only.
        yield _csv_row(head | counts | money, statement.total.quantities)
        counts = {"name": "total", "status": "total"}


def time_text(at: datetime) -> str:
    """RFC 3339 in UTC: `2026-10-01T00:00:00Z`."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def money_text(amount: Decimal | None) -> str | None:
    """Plain digits; trailing zeros are kept, as 1.50 is what a person expects to read."""
    return None if amount is None else f"{amount:f}"


def _total_values(statement: Statement) -> Values:
    total = statement.total
    return {
        "amounts": [_amount_values(amount) for amount in total.amounts],
        "calls": total.calls,
        "unknown_calls": total.unknown_calls,
        "tokens": total.tokens,
        "quantities": {meter.value: quantity for meter, quantity in total.quantities.items()},
        "unpriced_tokens": total.unpriced_tokens,
        "unallocated_tokens": total.unallocated_tokens,
        "estimated": total.estimated,
        "estimated_calls": total.estimated_calls,
        "estimated_tokens": total.estimated_tokens,
        "estimated_share": money_text(total.estimated_share),
    }


def _amount_values(amount: Amount) -> Values:
    return {
        "currency": amount.currency,
        "cost": money_text(amount.cost),
        "cost_exact": money_text(amount.cost_exact),
        "list_cost": money_text(amount.list_cost),
    }


def _csv_row(values: Values, quantities: dict[Meter, int]) -> list[str]:
    by_meter = {f"{meter}_quantity": quantities.get(meter, 0) for meter in Meter} if "tokens" in values else {}
    return [_cell((values | by_meter).get(name)) for name in LINE_COLUMNS]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    # What we wrote as digits is a number to the spreadsheet; a name is a text, whatever it looks like.
    return escape_cell(value) if isinstance(value, str) and not _is_number(value) else str(value)


def _is_number(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").replace(".", "", 1).isdigit()
