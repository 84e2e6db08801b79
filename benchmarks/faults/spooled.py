"""Calls straight into a spool, without a relay: what the shipper's own campaigns are fed with."""

from collections import Counter
from collections.abc import Sequence

from metering.core.event import Attribution, Outcome, UsageEvent, mint_event_id
from metering.core.usage import Usage, UsageSource
from metering.lab.books import BookedCall, Differences, compare
from metering.lab.replay import AttemptLine
from metering.sidecar.spool.writer import SpoolWriter

START_MS = 1_790_000_000_000  # in September 2026
TEAM = "search"


def attempt(number: int) -> AttemptLine:
    """Call `number` as its client would have seen it."""
    return AttemptLine(f"{number:032x}", number, "completed", 200, TEAM, "", "openai.chat", "gpt-4o", number, 1)


def finished(number: int) -> UsageEvent:
    """Its final record: as many input tokens as its number."""
    return UsageEvent(
        event_id=mint_event_id(START_MS + number, number),
        provider_name="openai",
        outcome=Outcome.COMPLETED,
        usage_source=UsageSource.REPORTED,
        usage=Usage(input_tokens=number, output_tokens=1),
        request_model="gpt-4o",
        status=200,
        trace_id=f"{number:032x}",
        attribution=Attribution(team=TEAM),
    )


def append_calls(writer: SpoolWriter, numbers: range) -> None:
    """The finals of calls `numbers`."""
    for number in numbers:
        writer.append_final(finished(number))


def compare_spooled(calls: int, rows: Sequence[BookedCall]) -> Differences:
    """The set check for calls 1 … `calls`, all of them acknowledged."""
    attempts = [attempt(number) for number in range(1, calls + 1)]
    return compare(attempts, Counter(attempt.call_id for attempt in attempts), rows)
