"""From events in Postgres to a statement and back down to the events."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from metering.core.event import Attribution, Outcome, UsageEvent
from metering.core.money import add
from metering.core.placement import By
from metering.core.prices import PriceBook, PriceKey
from metering.core.sku_price import Layer, SkuPrice
from metering.core.statement import LineStatus
from metering.core.teams import TeamAssignment, TeamDirectory
from metering.core.usage import Meter, Usage, UsageSource, disjoint_meters
from metering.errors import InputError
from metering.jobs.check_prices import FindingKind, check_ledger
from metering.jobs.explain import explain_lines
from metering.jobs.import_prices import import_prices
from metering.jobs.published_prices import PriceList
from metering.jobs.statement import compose_statement
from metering.ledger.engine import transaction
from metering.ledger.slots import count_batches
from metering.ledger.teams import replace_directory
from tests.ledger.worlds import NOON, OCTOBER, an_event, ship
from tests.worlds import price

NOW = datetime(2026, 11, 22, tzinfo=UTC)
MOVED = datetime(2026, 10, 5, 18, tzinfo=UTC)
RISES = datetime(2026, 10, 5, 15, tzinfo=UTC)
RED, BLUE = Attribution(team="red"), Attribution(team="blue")

PRICES = [
    price("2", provider_name="openai", model="gpt-5", effective_to=RISES),
    price("3", provider_name="openai", model="gpt-5", effective_from=RISES),
    price("1", provider_name="openai", model="gpt-5", daily_from=time(22), daily_to=time(2)),
    price("0.5", Meter.CACHE_READ_INPUT, provider_name="openai", model="gpt-5"),
    price("10", Meter.OUTPUT, provider_name="openai", model="gpt-5"),
    price("7", provider_name="openai", model="gpt-5-advisor"),
    price("10", Meter.OUTPUT, provider_name="openai", model="gpt-5-advisor"),
    price("9", Meter.REQUEST, provider_name="openai", model="gpt-5-advisor", unit_quantity=1),
]


def world() -> list[UsageEvent]:
    """Two teams, calls spread over a day, an unpriced model, an unowned call, unknown and estimated usage, parts."""
    usage = Usage(input_tokens=1_000, output_tokens=100, cache_read_input_tokens=400, reasoning_output_tokens=30)
    spread = [
        an_event(n, NOON + timedelta(minutes=33 * n), usage=usage, attribution=RED if n % 3 else BLUE)
        for n in range(30)
    ]
    parts = [
        an_event(80 + n, usage=usage, attribution=RED, part_of=spread[1].event_id, response_model=model)
        for n, model in enumerate([None, "gpt-5-advisor", "gpt-5-advisor"])
    ]
    return [
        *spread,
        *parts,
        an_event(90, request_model="mystery", attribution=RED),
        an_event(91, usage=usage),
        an_event(92, usage=None, usage_source=UsageSource.UNKNOWN, outcome=Outcome.INTERRUPTED, attribution=BLUE),
        an_event(93, usage=usage, usage_source=UsageSource.ESTIMATED, attribution=BLUE),
        an_event(94, usage=None, usage_source=UsageSource.NONE, request_model=None, attribution=RED),
    ]


CALLS = sum(event.part_of is None for event in world())


@pytest.fixture
def ledger(engine: Engine) -> Engine:
    import_prices(engine, own(PRICES), NOW)
    rows = [
        TeamAssignment(team="red", cost_center="cc-1", effective_to=MOVED),
        TeamAssignment(team="red", cost_center="cc-2", effective_from=MOVED),
    ]
    with transaction(engine) as connection:
        replace_directory(connection, TeamDirectory(rows), NOW)
    ship(engine, world())
    assert count_batches(engine, 10).events == len(world())
    return engine


def own(prices: Sequence[SkuPrice]) -> PriceList:
    return PriceList(source_name="own.toml", source_version="1", layer=Layer.OWN, prices=list(prices))


def naive_costs(events: Sequence[UsageEvent]) -> dict[str, Decimal]:
    """Each team's exact cost, priced event by event."""
    book, costs = PriceBook(PRICES), Counter[str]()
    for event in events:
        for meter, quantity in disjoint_meters(event.usage or Usage()).items():
            found = book.resolve(PriceKey(event.provider_name, event.model), meter, event.started_at).price
            if found:
                team = event.attribution.team or "unallocated"
                costs[team] += quantity * found.unit_price / found.unit_quantity  # type: ignore[assignment]
    return {team: Decimal(cost) for team, cost in costs.items()}


def test_the_statement_is_what_its_events_cost_one_by_one(ledger: Engine) -> None:
    statement = compose_statement(ledger, OCTOBER, By.TEAM)
    priced = {line.name: line.cost_exact for line in statement.lines if line.status is LineStatus.USAGE}
    assert priced == naive_costs(world())
    assert statement.total.calls == CALLS
    assert statement.total.unknown_calls == 1
    assert [(line.name, line.calls) for line in statement.lines] == [
        ("blue", 12),
        ("red", 21),
        ("unallocated", 1),
        ("red", 1),
    ]
    assert statement.total.estimated_tokens == 1_100
    assert statement.provenance.price_book_versions == ("own.toml 1 #1",)
    assert statement.provenance.ledger_watermark == 1
    assert compose_statement(ledger, OCTOBER, By.TEAM) == statement


@pytest.mark.parametrize("by", list(By))
def test_every_grouping_has_the_same_calls_and_exact_cost(ledger: Engine, by: By) -> None:
    statement = compose_statement(ledger, OCTOBER, by)
    (amount,) = statement.total.amounts
    assert (amount.cost_exact, statement.total.calls) == (add(naive_costs(world()).values()), CALLS)


def test_what_another_model_took_has_its_cost_and_is_no_call(ledger: Engine) -> None:
    lines = {line.name: line for line in compose_statement(ledger, OCTOBER, By.MODEL).lines}
    advisor = lines["gpt-5-advisor"]
    assert (advisor.calls, advisor.tokens, advisor.cost_exact) == (0, 2_200, Decimal("0.016"))
    assert Meter.REQUEST not in advisor.quantities
    (one,) = explain_lines(ledger, OCTOBER, By.MODEL, "gpt-5-advisor")
    assert (one.adds_up, [(group.calls, group.all_events) for group in one.groups]) == (True, [(0, True)])


@pytest.mark.parametrize("events_max", [0, 1, 2, 3])
def test_a_group_says_whether_all_its_events_are_shown(ledger: Engine, events_max: int) -> None:
    """The group holds two parts and no call."""
    (one,) = explain_lines(ledger, OCTOBER, By.MODEL, "gpt-5-advisor", events_max=events_max)
    (group,) = one.groups
    assert (len(group.events), group.all_events) == (min(events_max, 2), events_max >= 2)


def test_a_team_that_moved_is_on_two_cost_centers(ledger: Engine) -> None:
    lines = compose_statement(ledger, OCTOBER, By.COST_CENTER).lines
    before = [e for e in world() if e.attribution == RED and e.started_at < MOVED and e.model != "mystery"]
    first = next(line for line in lines if line.name == "cc-1" and line.status is LineStatus.USAGE)
    assert first.cost_exact == naive_costs(before)["red"]
    assert first.calls == sum(event.part_of is None for event in before)


@pytest.mark.parametrize(
    ("by", "name"), [(By.TEAM, "red"), (By.COST_CENTER, "cc-2"), (By.MODEL, "gpt-5"), (By.TEAM, "blue")]
)
def test_a_line_explains_itself_down_to_the_events(ledger: Engine, by: By, name: str) -> None:
    explained = explain_lines(ledger, OCTOBER, by, name, events_max=100)
    for one in explained:
        assert one.adds_up
        charges = [each for group in one.groups for each in group.charges]
        costs = [each.charge.billed_cost for each in charges if each.charge.billed_cost is not None]
        assert add(costs) == (one.line.cost_exact or 0)
        assert sum(group.calls for group in one.groups) == one.line.calls
        for group in one.groups:
            assert group.all_events
            seen: Counter[Meter] = Counter()
            for explained_event in group.events:
                assert group.start_at <= explained_event.event.started_at < group.end_at
                seen.update(explained_event.event.quantities)
            told = [event.cost for event in group.events if event.cost is not None]
            assert add(told) == add(each.charge.billed_cost or Decimal(0) for each in group.charges)
            assert all(seen[each.charge.meter] == each.charge.consumed_quantity for each in group.charges)
        priced = [each for each in charges if each.charge.price]
        assert {each.price_version for each in priced} <= {"own.toml 1 #1"}
        fallbacks = {each.charge.meter: each.fell_back_over for each in priced}
        assert fallbacks.get(Meter.REASONING_OUTPUT, (Meter.REASONING_OUTPUT,)) == (Meter.REASONING_OUTPUT,)
        assert fallbacks.get(Meter.INPUT, ()) == ()


def test_a_line_is_found_by_its_id_and_narrowed_to_a_meter(ledger: Engine) -> None:
    line = compose_statement(ledger, OCTOBER, By.TEAM).lines[1]
    (one,) = explain_lines(ledger, OCTOBER, By.TEAM, line.line_id, meter=Meter.OUTPUT, events_max=1)
    assert (one.line, one.adds_up) == (line, True)
    assert {each.charge.meter for group in one.groups for each in group.charges} == {Meter.OUTPUT}
    assert {len(group.events) for group in one.groups} == {1}
    with pytest.raises(InputError, match=r"no line 'green' in 2026-10 by team: there are blue, red, unallocated"):
        explain_lines(ledger, OCTOBER, By.TEAM, "green")


def test_events_are_read_of_the_costliest_groups_only(ledger: Engine) -> None:
    (every,) = explain_lines(ledger, OCTOBER, By.PROVIDER, "openai", groups_max=99)[:1]
    (few,) = explain_lines(ledger, OCTOBER, By.PROVIDER, "openai", groups_max=2)[:1]
    assert [group.charges for group in few.groups] == [group.charges for group in every.groups]
    assert [bool(group.events) for group in few.groups] == [place < 2 for place in range(len(every.groups))]
    assert all(group.events for group in every.groups)
    assert few.adds_up


def test_late_events_are_simply_added(ledger: Engine) -> None:
    before = compose_statement(ledger, OCTOBER, By.TEAM)
    ship(ledger, [an_event(500, NOON, usage=Usage(input_tokens=1_000_000), attribution=RED)])
    assert compose_statement(ledger, OCTOBER, By.TEAM) == before
    count_batches(ledger, 10)
    after = compose_statement(ledger, OCTOBER, By.TEAM)
    assert after.total.amounts[0].cost_exact - before.total.amounts[0].cost_exact == 2
    assert after.provenance.ledger_watermark == 2


def test_a_batch_counted_after_a_later_one_moves_the_watermark(ledger: Engine) -> None:
    ship(ledger, [an_event(501, NOON, attribution=RED)])
    with ledger.connect() as other:
        other.execute(text("SELECT FROM shipped_batch WHERE counted_at IS NULL FOR UPDATE"))
        ship(ledger, [an_event(502, NOON, attribution=RED)])
        count_batches(ledger, 10)
    before = compose_statement(ledger, OCTOBER, By.TEAM)
    count_batches(ledger, 10)
    after = compose_statement(ledger, OCTOBER, By.TEAM)
    assert after.total.calls == before.total.calls + 1
    assert after.provenance != before.provenance


def test_a_check_tells_what_is_missing(ledger: Engine) -> None:
    gap = [
        price("1", model="g", effective_to=RISES),
        price("2", model="g", effective_from=MOVED),
        price("9", model="far", context_over_tokens=100_000, layer=Layer.PUBLISHED),
    ]
    published = PriceList(source_name="list", source_version="1", layer=Layer.PUBLISHED, prices=gap)
    import_prices(ledger, published, NOW)
    found: dict[FindingKind, Any] = {}
    for one in check_ledger(ledger, OCTOBER):
        found.setdefault(one.kind, []).append(one)
    assert [one.sku for one in found[FindingKind.UNPRICED]] == ["openai/mystery/input", "openai/mystery/output"]
    (hole,) = found[FindingKind.GAP]
    assert "from 2026-10-05T15:00:00+00:00 to 2026-10-05T18:00:00+00:00" in hole.sentence
    (off,) = found[FindingKind.OFF_LADDER]
    assert (off.needs_action, hole.needs_action) == (False, True)


def test_an_empty_ledger_has_an_empty_statement(engine: Engine) -> None:
    statement = compose_statement(engine, OCTOBER, By.TEAM)
    assert (statement.lines, statement.total.calls, statement.provenance.ledger_watermark) == ((), 0, 0)
