"""Count what was shipped, until nothing is uncounted or, following, until told to stop."""

from collections.abc import Callable
from threading import Event
from time import monotonic

from metering.errors import LedgerUnavailable
from metering.ledger.engine import Engine
from metering.ledger.slots import CountResult, count_batches, uncounted

BATCHES_AT_ONCE = 16  # some 300,000 events in memory, and one transaction
WAIT_SECONDS = 0.05  # between looks at batches that another counter holds
STALLED_SECONDS = 60
FOLLOW_SECONDS = 2.0


def count_all(engine: Engine, on_counted: Callable[[CountResult], None] = lambda _: None) -> CountResult:
    """Count until every shipped batch is in the slots, whoever put it there; what was added here.

    Batches that another counter holds are waited for: if it dies they fall to us. `LedgerUnavailable` if they
    stay held for `STALLED_SECONDS`.
    """
    batches = events = slots = 0
    moved_at = monotonic()
    while True:
        result = count_batches(engine, BATCHES_AT_ONCE)
        if result.batches:
            batches, events, slots = batches + result.batches, events + result.events, slots + result.slots
            moved_at = monotonic()
            on_counted(result)
            continue
        left = uncounted(engine)
        if not left:
            return CountResult(batches, events, slots)
        if monotonic() - moved_at > STALLED_SECONDS:
            raise LedgerUnavailable(f"another counter has held {left} batches for a minute: end it, or run count again")
        Event().wait(WAIT_SECONDS)


def follow(
    engine: Engine,
    stop: Event,
    on_counted: Callable[[CountResult], None],
    on_away: Callable[[LedgerUnavailable], None],
) -> None:
    """Count what arrives until `stop` is set. A ledger that is away is reported, then asked again."""
    while not stop.is_set():
        try:
            count_all(engine, on_counted)
        except LedgerUnavailable as error:
            on_away(error)
        stop.wait(FOLLOW_SECONDS)
