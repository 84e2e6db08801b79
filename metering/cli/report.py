"""`metering report` and `metering explain`: a period's statement, and any line of it taken apart."""

from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.context import settings
from metering.cli.ledger_access import ledger_engine
from metering.cli.tables import Output, OutputOption, print_csv, print_json
from metering.errors import ConfigError

if TYPE_CHECKING:
    from metering.core.period import Period
    from metering.core.usage import Meter
    from metering.ledger.engine import Engine

PeriodOption = Annotated[str, typer.Option(help="2026, 2026-10 or 2026-10-05, in the billing zone.")]
ByOption = Annotated[
    str,
    typer.Option(
        help="cost-center, team, project, environment, principal, credential, provider, model, deployment, region, "
        "operation or service-tier."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command("report")(report)
    app.command("explain")(explain)


def report(period: PeriodOption, by: ByOption = "team", output: OutputOption = Output.TABLE) -> None:
    """Print the statement of a period.

    Tokens by meter, cost, what is estimated, unpriced or unallocated, and the total.
    """
    from metering.cli.statement_table import print_statement
    from metering.core.document import csv_rows, statement_values
    from metering.core.placement import parse_by
    from metering.jobs.statement import compose_statement

    span, grouping = _period(period), parse_by(by)
    with ledger_engine() as engine:
        statement = compose_statement(engine, span, grouping)
        _warn_uncounted(engine)
    if output is Output.JSON:
        print_json(statement_values(statement))
    elif output is Output.CSV:
        print_csv(csv_rows(statement))
    else:
        print_statement(statement)
    for problem in statement.problems if output is not Output.JSON else ():
        typer.echo(f"metering: {problem.sentence}", err=True)


def explain(
    period: PeriodOption,
    line: Annotated[str, typer.Option(help="A line's name, or its line_id in the report's JSON.")],
    by: ByOption = "team",
    meter: Annotated[str | None, typer.Option(help="Only this meter's charges.")] = None,
    groups: Annotated[int, typer.Option(min=0, help="How many groups of calls to show, the costliest first.")] = 30,
    events: Annotated[int, typer.Option(min=0, help="How many events to show of each group of calls.")] = 5,
    output: OutputOption = Output.TABLE,
) -> None:
    """Take a line down to charges, price versions and events."""
    from metering.cli.explanation_table import explanation_csv, explanation_values, print_explanation
    from metering.core.placement import parse_by
    from metering.jobs.explain import explain_lines

    span, grouping, only = _period(period), parse_by(by), _meter(meter)
    with ledger_engine() as engine:
        # A CSV has a row a charge, and no events.
        limits = {"groups_max": 0 if output is Output.CSV else groups, "events_max": events}
        explanations = explain_lines(engine, span, grouping, line, meter=only, **limits)
        _warn_uncounted(engine)
    if output is Output.JSON:
        print_json([explanation_values(one) for one in explanations])
    elif output is Output.CSV:
        print_csv(explanation_csv(explanations))
    else:
        for one in explanations:
            print_explanation(one, groups)


def _period(name: str) -> "Period":
    from metering.core.period import parse_period

    try:
        return parse_period(name, settings().billing_zone)
    except ValueError as error:
        raise ConfigError(f"--period {error}") from None


def _meter(name: str | None) -> "Meter | None":
    from metering.core.usage import Meter

    try:
        return Meter(name) if name else None
    except ValueError:
        raise ConfigError(f"unknown meter {name!r}: known are {', '.join(each.value for each in Meter)}") from None


def _warn_uncounted(engine: "Engine") -> None:
    from metering.ledger.slots import uncounted

    if waiting := uncounted(engine):
        typer.echo(
            f"metering: {waiting} shipped batches are not counted yet: run `metering count`, then again", err=True
        )
