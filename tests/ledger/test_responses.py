"""Responses whose usage several answers tell: counted once, whoever ships what, when and how often."""

import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import Engine, select

from metering.core.event import UsageEvent
from metering.core.usage import Usage, UsageSource
from metering.jobs.count import count_all
from metering.ledger.checks import run_checks
from metering.ledger.engine import transaction
from metering.ledger.events import ShipResult
from metering.ledger.schema.events import counted_response, usage_event
from tests.ledger.worlds import NOON, an_event, counted, naive_count, ship, some_events

NO_USAGE = {"usage": None, "usage_source": UsageSource.NONE}


def a_poll(number: int, response_id: str | None = "resp_1", **fields: Any) -> UsageEvent:
    return an_event(number, **{"once": True, "response_id": response_id, "operation_name": "get", **fields})


def input_tokens(engine: Engine) -> dict[UUID, int | None]:
    c = usage_event.c
    with transaction(engine) as connection:
        return {row[0]: row[1] for row in connection.execute(select(c.event_id, c.input_tokens))}


def claims(engine: Engine) -> dict[str, UUID]:
    c = counted_response.c
    with transaction(engine) as connection:
        return {row[0]: row[1] for row in connection.execute(select(c.response_id, c.event_id))}


def test_a_second_telling_keeps_its_row_and_counts_nothing(engine: Engine) -> None:
    first = a_poll(1)
    again = a_poll(
        2,
        raw_usage={"input_tokens": 102},
        usage_source=UsageSource.ESTIMATED,
        estimator="tiktoken 1",
        reported_cost=Decimal("0.5"),
        variant="hd",
    )
    ship(engine, [first])
    assert ship(engine, [again]) == ShipResult(inserted=1, duplicates=0, conflicts=0)
    count_all(engine)
    assert counted(engine) == naive_count([first, msgspec.structs.replace(again, **NO_USAGE)])
    with transaction(engine) as connection:
        rows = connection.execute(select(usage_event).where(usage_event.c.event_id == again.event_id)).mappings()
        row = rows.one()
    assert (row["usage_source"], row["raw_usage"], row["variant"]) == ("none", {"input_tokens": 102}, "hd")
    empty = ("input_tokens", "output_tokens", "input_quantity", "request_quantity", "estimator", "reported_cost")
    assert {name: row[name] for name in empty} == dict.fromkeys(empty)
    assert all(check.holds for check in run_checks(engine))


def test_of_one_batch_the_earliest_call_counts(engine: Engine) -> None:
    late, early = a_poll(2), a_poll(1)
    assert ship(engine, [late, early, *some_events(1)]) == ShipResult(inserted=3, duplicates=0, conflicts=0)
    assert input_tokens(engine) == {late.event_id: None, early.event_id: 101, some_events(1)[0].event_id: 100}


def test_what_comes_again_stays_as_it_was_stored(engine: Engine) -> None:
    polls = [a_poll(number) for number in range(4)]
    ship(engine, polls[1:3])
    stored = input_tokens(engine)
    assert stored == {polls[1].event_id: 101, polls[2].event_id: None}
    assert ship(engine, polls) == ShipResult(inserted=2, duplicates=2, conflicts=0)
    assert ship(engine, polls[::-1]) == ShipResult(inserted=0, duplicates=4, conflicts=0)
    assert input_tokens(engine) == stored | {polls[0].event_id: None, polls[3].event_id: None}


def test_only_the_same_response_of_the_same_provider_is_the_same(engine: Engine) -> None:
    told = [
        a_poll(1),
        a_poll(2, provider_name="azure"),
        a_poll(3, "resp_2"),
        a_poll(4, None),
        a_poll(5, None),
        a_poll(6, "x" * 5000 + "1"),
        a_poll(7, "x" * 5000 + "2"),
        a_poll(8, "nul\0, tab\t"),
        an_event(9, response_id="resp_1"),
    ]
    untold = [a_poll(20, "x" * 5000 + "1"), a_poll(21, "nul\0, tab\t")]
    silent = [a_poll(30, "resp_3", usage=None), a_poll(31, "resp_3")]
    ship(engine, told)
    ship(engine, [*untold, *silent])
    expected: dict[UUID, int | None] = {event.event_id: 100 + number for number, event in enumerate(told, 1)}
    expected |= {untold[0].event_id: None, untold[1].event_id: None, silent[0].event_id: None, silent[1].event_id: 131}
    assert input_tokens(engine) == expected


def test_what_other_models_took_counts_where_their_call_does(engine: Engine) -> None:
    calls = [a_poll(number) for number in (1, 2)]
    parts = [a_poll(number, part_of=call.event_id) for number, call in enumerate(calls, 11)]
    ship(engine, [parts[0], calls[0]])
    ship(engine, [calls[1], parts[1]])
    assert input_tokens(engine) == {
        calls[0].event_id: 101,
        parts[0].event_id: 111,
        calls[1].event_id: None,
        parts[1].event_id: None,
    }
    assert all(check.holds for check in run_checks(engine))


def test_a_telling_that_no_row_can_hold_leaves_the_response_to_the_next(engine: Engine) -> None:
    bad = [a_poll(number, usage=Usage(input_tokens=-number)) for number in (1, 2)]
    good = [a_poll(number) for number in (3, 4)]
    assert ship(engine, [*bad, *good]) == ShipResult(inserted=2, duplicates=0, conflicts=0, refused=2)
    assert input_tokens(engine) == {good[0].event_id: 103, good[1].event_id: None}
    assert claims(engine) == {"resp_1": good[0].event_id}


def test_a_record_set_aside_does_not_hold_a_response(engine: Engine) -> None:
    stored, later = a_poll(1), a_poll(2, "resp_2")
    ship(engine, [stored])
    other = msgspec.structs.replace(stored, response_id="resp_2")
    assert ship(engine, [other]) == ShipResult(inserted=0, duplicates=0, conflicts=1)
    ship(engine, [later])
    assert input_tokens(engine) == {stored.event_id: 101, later.event_id: 102}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_shippers_at_once_count_each_response_once(engine: Engine, seed: int) -> None:
    """Polls among ordinary calls, some of them brought by two ways, by four shippers in their own orders."""
    chance = random.Random(seed)
    later = NOON + timedelta(hours=6)
    polls = [a_poll(number, f"resp_{chance.randrange(40)}", begun_at=later) for number in range(200)]
    plain = some_events(100)
    shares: list[list[UsageEvent]] = [[] for _ in range(4)]
    for event in [*polls, *plain]:
        for share in chance.sample(shares, chance.choice((1, 1, 2))):
            share.append(event)

    def ship_all(share: Sequence[UsageEvent]) -> int:
        return sum(ship(engine, share[at : at + 30]).inserted for at in range(0, len(share), 30))

    for share in shares:
        chance.shuffle(share)
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(ship_all, shares)) == 300
    told = {event_id: tokens for event_id, tokens in input_tokens(engine).items() if tokens is not None}
    assert told.keys() >= {event.event_id for event in plain}
    times = Counter(event.response_id for event in polls if event.event_id in told)
    assert times == dict.fromkeys({event.response_id for event in polls}, 1)
    count_all(engine)
    shown = [event if event.event_id in told else msgspec.structs.replace(event, **NO_USAGE) for event in polls]
    assert counted(engine) == naive_count([*shown, *plain])
    assert all(check.holds for check in run_checks(engine))
