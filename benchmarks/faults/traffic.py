"""The traffic of a fault campaign, drawn from a seed: all dialects, streams and whole answers, clients that leave."""

import random
from collections.abc import Iterator

import msgspec

from metering.lab.calls import PARTS, Call

TEAMS = [f"team-{number}" for number in range(1, 9)]
KEYED_TEAMS = TEAMS[::2]  # the others say who they are in a header
CHUNKS = 4
LEAVING = 0.05  # share of clients that do not wait for the end
CLOSING = 0.04  # share of answers after which the client closes its connection


class Planned(msgspec.Struct, frozen=True):
    """A call, and how its client behaves."""

    call: Call
    pace_ms: int  # between the pieces of the answer: long enough to be killed between two of them
    leaves_after: int | None  # reads of the answer, 0 = before the first; None: stays to the end
    closes: bool  # the connection, after the answer


def plan_traffic(seed: str) -> Iterator[Planned]:
    """Calls without end, the same ones for the same seed."""
    dice = random.Random(f"traffic {seed}")
    while True:
        part = dice.choice(PARTS)
        streamed = part.streamed and dice.random() < 0.8
        call = Call(
            at_ms=0,
            team=dice.choice(TEAMS),
            project="faults",
            dialect=part.dialect,
            model=part.model,
            input_tokens=dice.randint(1, 5000),
            output_tokens=dice.randint(1, 900),
            streamed=streamed,
        )
        pace_ms = dice.choice((0, 0, 2, 10)) if streamed else dice.choice((0, 0, 0, 5))
        leaves_after = dice.randint(0, 3) if dice.random() < LEAVING else None
        yield Planned(call, pace_ms, leaves_after, closes=dice.random() < CLOSING)
