"""The statement: every call and token on one line, rounded once, nothing hidden."""

from datetime import time
from decimal import Decimal
from typing import Any

import pytest

from metering.core.cells import escape_cell
from metering.core.document import charge_values, csv_rows, price_values, problem_values, statement_values, usage_values
from metering.core.model_match import Match
from metering.core.placement import By, parse_by
from metering.core.prices import PriceBook
from metering.core.rating import rate
from metering.core.sku_price import PriceKind
from metering.core.slot import SlotTotal
from metering.core.statement import LineStatus, Statement, compose
from metering.core.teams import TeamAssignment, TeamDirectory
from metering.core.usage import Meter
from metering.errors import InputError
from tests.worlds import OCTOBER, PROVENANCE, october, price, total

BOOK = PriceBook([price("1"), price("2", Meter.OUTPUT), price("1", model="euro", currency="EUR")])
TEAMS = TeamDirectory([TeamAssignment(team="red", cost_center="cc-1")])


def state(totals: list[SlotTotal], by: By = By.TEAM, directory: TeamDirectory = TEAMS, cuts: Any = ()) -> Statement:
    return compose(totals, rate(totals, BOOK, OCTOBER, cuts), by, OCTOBER, directory, PROVENANCE)


def test_each_line_is_rounded_once_and_the_total_is_their_sum() -> None:
    totals = [total({Meter.INPUT: 4_999 + n}, number=n, team=f"t{n}") for n in range(3)]
    statement = state(totals)
    assert [line.cost for line in statement.lines] == [Decimal("0.00"), Decimal("0.01"), Decimal("0.01")]
    (amount,) = statement.total.amounts
    assert (amount.cost, amount.cost_exact, amount.list_cost) == (Decimal("0.02"), Decimal("0.015"), Decimal("0.02"))


def test_who_pays_list_prices_pays_the_list_cost() -> None:
    book = PriceBook([price("1"), price("0.9", model="n", kind=PriceKind.CONTRACTED), price("1", model="n")])
    for model_of_last in ("n", "nobody-lists", "m"):
        totals = [total({Meter.INPUT: 4_999 + n}, number=n, team=f"t{n}") for n in range(3)]
        totals.append(total({Meter.INPUT: 79_000}, number=9, team="t9", model=model_of_last))
        rows = [*book.prices, price("2", model="nobody-lists", kind=PriceKind.CONTRACTED)]
        statement = compose(totals, rate(totals, PriceBook(rows), OCTOBER), By.TEAM, OCTOBER, TEAMS, PROVENANCE)
        assert all(line.list_cost == line.cost for line in statement.lines[:3])
        (amount,) = statement.total.amounts
        listed = [line.list_cost for line in statement.lines]
        # 15,000 + 79,000 tokens at 1 a million are 0.094; without a list price there is no total.
        assert amount.list_cost == (None if None in listed else Decimal("0.09"))
        assert None in listed or sum(each or 0 for each in listed) == Decimal("0.09")


def test_a_blank_name_is_no_name() -> None:
    (line,) = state([total({Meter.INPUT: 1}, team="")]).lines
    assert (line.name, line.unallocated) == ("unallocated", True)


def test_unpriced_and_unallocated_have_lines_of_their_own() -> None:
    totals = [
        total({Meter.INPUT: 1_000_000}, calls=3, number=1, team="red"),
        total({Meter.INPUT: 50}, calls=2, number=2, team="red", model="nobody-knows"),
        total({Meter.OUTPUT: 1_000_000}, calls=5, number=3),
    ]
    statement = state(totals)
    assert [(line.name, line.status, line.unallocated, line.calls, line.cost) for line in statement.lines] == [
        ("red", LineStatus.USAGE, False, 3, Decimal("1.00")),
        ("unallocated", LineStatus.USAGE, True, 5, Decimal("2.00")),
        ("red", LineStatus.UNPRICED, False, 2, None),
    ]
    assert (statement.total.unpriced_tokens, statement.total.unallocated_tokens) == (50, 1_000_000)
    assert (statement.total.calls, statement.total.tokens) == (10, 2_000_050)
    assert len({line.line_id for line in statement.lines}) == 3


def test_a_team_called_unallocated_is_not_the_unallocated() -> None:
    statement = state([total({Meter.INPUT: 1}, number=1), total({Meter.INPUT: 1}, number=2, team="unallocated")])
    assert [(line.name, line.unallocated) for line in statement.lines] == [
        ("unallocated", False),
        ("unallocated", True),
    ]


def test_currencies_are_never_added() -> None:
    totals = [
        total({Meter.INPUT: 1_000_000}, number=1, team="red"),
        total({Meter.INPUT: 2_000_000}, number=2, team="red", model="euro"),
    ]
    statement = state(totals)
    assert [(line.name, line.currency, line.cost) for line in statement.lines] == [
        ("red", "EUR", Decimal("2.00")),
        ("red", "USD", Decimal("1.00")),
    ]
    assert [(a.currency, a.cost) for a in statement.total.amounts] == [
        ("EUR", Decimal("2.00")),
        ("USD", Decimal("1.00")),
    ]


def test_calls_stand_on_one_line_only() -> None:
    # The input has a price, the search has none: two lines, one call.
    statement = state([total({Meter.INPUT: 1, Meter.WEB_SEARCH: 1}, calls=1, team="red")])
    assert [(line.status, line.calls) for line in statement.lines] == [(LineStatus.USAGE, 1), (LineStatus.UNPRICED, 0)]


def test_what_is_not_billed_stands_with_the_calls_and_lacks_no_price() -> None:
    totals = [
        total({Meter.INPUT: 1_000_000, Meter.UNBILLED_INPUT: 7}, calls=1, number=1, team="red"),
        total({Meter.UNBILLED_OUTPUT: 3}, calls=1, number=2, team="red"),
        total({Meter.INPUT: 5, Meter.UNBILLED_INPUT: 2}, calls=1, number=3, team="red", model="nobody-knows"),
        total({Meter.UNBILLED_INPUT: 9}, calls=1, number=4, team="blue"),
    ]
    statement = state(totals)
    assert [(line.name, line.status, line.calls, line.tokens, line.cost) for line in statement.lines] == [
        ("blue", LineStatus.USAGE, 1, 9, None),
        ("red", LineStatus.USAGE, 2, 1_000_010, Decimal("1.00")),
        ("red", LineStatus.UNPRICED, 1, 7, None),
    ]
    assert statement.total.unpriced_tokens == 5
    assert statement.lines[2].unpriced_quantities == {Meter.INPUT: 5}
    assert statement.problems[0].quantity == 5


def test_estimates_of_what_is_not_a_token_are_marked_to_the_line() -> None:
    totals = [
        total({Meter.IMAGE: 2}, calls=3, number=1, team="red", usage_source="estimated"),
        total({Meter.IMAGE: 2}, calls=1, number=2, team="red"),
    ]
    (line,) = state(totals).lines
    assert (line.estimated_calls, line.estimated_tokens, line.estimated_share) == (3, 0, None)
    assert line.unpriced_quantities == {Meter.IMAGE: 4}


def test_unknown_usage_is_counted_and_costs_nobody_knows() -> None:
    totals = [total({}, calls=4, number=1, team="blue", usage_source="unknown")]
    (line,) = state(totals).lines
    assert (line.calls, line.unknown_calls, line.cost, line.tokens, line.estimated_share) == (4, 4, None, 0, None)
    both = [*totals, total({Meter.INPUT: 9}, number=2, team="blue"), total({}, calls=2, number=3, usage_source="none")]
    assert [(line.name, line.calls, line.unknown_calls) for line in state(both).lines] == [
        ("blue", 5, 4),
        ("unallocated", 2, 0),
    ]


def test_estimates_are_marked_to_the_line() -> None:
    totals = [
        total({Meter.INPUT: 10}, number=1, team="red", usage_source="estimated"),
        total({Meter.INPUT: 20}, number=2, team="red", usage_source="partial"),
        total({Meter.INPUT: 60}, number=3, team="red"),
    ]
    (line,) = state(totals).lines
    assert (line.estimated_tokens, line.estimated_share) == (30, Decimal("0.3333"))


def test_a_team_that_moves_is_split_at_the_instant() -> None:
    rows = [
        TeamAssignment(team="red", cost_center="cc-1", effective_to=october(10)),
        TeamAssignment(team="red", cost_center="cc-2", effective_from=october(10)),
    ]
    directory = TeamDirectory(rows)
    cuts = directory.boundaries(OCTOBER)
    assert cuts == [october(10)]
    totals = [
        total({Meter.INPUT: 10}, calls=n, at=at, team="red") for n, at in ((1, OCTOBER.start_at), (2, october(10)))
    ]
    assert directory.cost_center("red", october(10)) == "cc-2"
    assert TeamDirectory(rows[1:]).cost_center("red", october(9)) is None
    statement = state([*totals, total({Meter.INPUT: 1}, number=9, team="new")], By.COST_CENTER, directory, cuts)
    assert [(line.name, line.calls) for line in statement.lines] == [("cc-1", 1), ("cc-2", 2), ("unallocated", 1)]


@pytest.mark.parametrize(
    "rows",
    [
        [("red", "a", None, None), ("red", "b", october(3), None)],
        [("red", "a", None, october(3)), ("red", "b", october(2), None)],
        [("red", "a", october(3), october(2))],
        [("red", " ", None, None)],
        [("red", "a", october(3).replace(second=1), None)],
    ],
)
def test_a_team_is_in_one_place(rows: list[tuple[Any, ...]]) -> None:
    names = TeamAssignment.__struct_fields__
    with pytest.raises(InputError, match="red"):
        TeamDirectory(TeamAssignment(**dict(zip(names, row, strict=True))) for row in rows)


@pytest.mark.parametrize(
    ("by", "name", "unallocated"),
    [
        (By.TEAM, "unallocated", True),
        (By.CREDENTIAL, "unallocated", True),
        (By.PROVIDER, "acme", False),
        (By.MODEL, "m", False),
        (By.REGION, "not reported", False),
        (By.OPERATION, "chat", False),
        (By.SERVICE_TIER, "not reported", False),
    ],
)
def test_every_grouping_has_a_name_for_what_nobody_said(by: By, name: str, unallocated: bool) -> None:
    (line,) = state([total({Meter.INPUT: 1})], by).lines
    assert (line.name, line.unallocated) == (name, unallocated)


def test_every_grouping_reads_its_field() -> None:
    owner: dict[str, Any] = {"team": "red", "project": "p", "environment": "e", "principal": "u", "credential_id": "k"}
    owner |= {"deployment": "d", "region": "r", "service_tier": "s"}
    usage = [total({Meter.INPUT: 1}, **owner)]
    names = [state(usage, by).lines[0].name for by in By]
    assert names == ["cc-1", "red", "p", "e", "u", "k", "acme", "m", "d", "r", "chat", "s"]
    assert [parse_by(by.value) for by in By] == list(By)
    with pytest.raises(InputError, match=r"can't gather by 'teams': choose one of cost-center, team"):
        parse_by("teams")


def test_the_same_world_gives_the_same_digest_in_any_order() -> None:
    totals = [
        total({Meter.INPUT: 10 * n}, number=n, team=f"t{n % 3}", model="m" if n % 2 else "x") for n in range(1, 9)
    ]
    statement = state(totals)
    assert state(totals[::-1]).digest == statement.digest
    assert state(totals[:-1]).digest != statement.digest
    assert state(totals, By.MODEL).digest != statement.digest


def test_an_empty_period_has_an_empty_statement() -> None:
    statement = state([])
    assert (statement.lines, statement.total.amounts, statement.total.calls) == ((), (), 0)
    assert len(list(csv_rows(statement))) == 2


def test_json_has_money_as_strings_and_usage_has_none() -> None:
    statement = state([total({Meter.INPUT: 1}, team="red", usage_source="estimated")])
    values: Any = statement_values(statement)
    (line,) = values["lines"]
    assert (line["cost"], line["cost_exact"], line["quantities"]) == ("0.00", "0.000001", {"input": 1})
    assert values["period"] == {"name": "2026-10", "start_at": "2026-10-01T00:00:00Z", "end_at": "2026-11-01T00:00:00Z"}
    assert values["total"]["amounts"][0]["cost_exact"] == "0.000001"
    assert values["provenance"]["ledger_watermark"] == 7
    assert values["digest"] == statement.digest
    usage: Any = usage_values(statement)
    assert "cost" not in usage["lines"][0]
    assert "amounts" not in usage["total"]
    assert usage["total"]["tokens"] == 1


def test_csv_is_safe_to_open() -> None:
    usage = [
        total({Meter.INPUT: 1_000_000}, number=1, team="=cmd|' /C calc'!A0", usage_source="estimated"),
        total({Meter.INPUT: 1_000_000}, number=2, team="red", model="euro"),
    ]
    header, *rows = csv_rows(state(usage))
    first = dict(zip(header, rows[0], strict=True))
    assert first["name"] == "'=cmd|' /C calc'!A0"
    assert (first["cost"], first["unallocated"], first["input_quantity"]) == ("1.00", "no", "1000000")
    totals = [dict(zip(header, row, strict=True)) for row in rows if row[4] == "total"]
    assert [(row["currency"], row["calls"], row["input_quantity"]) for row in totals] == [
        ("EUR", "2", "2000000"),
        ("USD", "", ""),
    ]


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "\tx", "\rx", "＝1", "\0"])
def test_formulas_are_quoted(text: str) -> None:
    assert escape_cell(text) == f"'{text}"
    assert escape_cell(f"a{text}") == f"a{text}"


def test_a_price_for_a_pattern_shows_on_the_line() -> None:
    book = PriceBook([price("1", match=Match(contains="m"))])
    usage = [total({Meter.CACHE_READ_INPUT: 2_000_000}, team="red")]
    statement = compose(usage, rate(usage, book, OCTOBER), By.TEAM, OCTOBER, TEAMS, PROVENANCE)
    assert statement.lines[0].cost == Decimal("2.00")


def test_charges_prices_and_problems_are_plain_values() -> None:
    row = price("2.50", daily_from=time(22), daily_to=time(6), effective_from=october(1), source="own.toml 1")
    charges, problems = rate([total({Meter.CACHE_READ_INPUT: 1_000, Meter.OUTPUT: 1})], PriceBook([row]), OCTOBER)
    priced, unpriced = (charge_values(charge) for charge in charges)
    assert (priced["priced_as"], priced["billed_cost"], priced["pricing_quantity"]) == ("input", "0.0025", "0.001")
    assert (unpriced["priced_as"], unpriced["billed_cost"], unpriced["sku_id"]) == (None, None, None)
    values = price_values(row)
    assert (values["unit_price"], values["daily_utc"], values["pricing_unit"]) == (
        "2.5",
        "22:00-06:00",
        "1000000 Tokens",
    )
    assert (values["effective_from"], values["effective_to"]) == ("2026-10-01T00:00:00Z", None)
    assert problem_values(problems[0])["sentence"] == problems[0].sentence
