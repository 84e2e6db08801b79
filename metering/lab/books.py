"""Set checks: the calls that were sent and received against the rows in the books, call by call.

What may happen when programs are killed: a call fails before it is forwarded (no row), or its end is not seen
(one row, usage unknown). What must never happen: a call that reached the model without a row, a call with two rows,
a row that nobody sent, a row with other tokens or another team than the call.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec

from metering.lab.replay import AttemptLine
from metering.lab.tally import Ending

SHOWN = 5  # examples of each kind of difference


class BookedCall(msgspec.Struct, frozen=True):
    """What the books say about one call; `None` tokens = unknown."""

    trace_id: str
    team: str | None
    outcome: str
    input_tokens: int | None
    output_tokens: int | None


class Differences(msgspec.Struct, kw_only=True):
    """The result: ids that should not be there (at most a few each, after their counts), and harmless counts."""

    lost: list[str] = []  # received by the model, no row
    duplicated: list[str] = []  # more than one row
    unexpected: list[str] = []  # a row that belongs to no attempt
    wrong: list[str] = []  # a row with other tokens or team, or a finished call not booked as completed
    repeated: list[str] = []  # received more than once by the model, while one attempt has one row
    attempts: int = 0
    received: int = 0
    rows: int = 0
    completed: int = 0  # whole answers at the client: acknowledged
    recovered: int = 0  # the others that have a row: not acknowledged, and in the books all the same
    undelivered: int = 0  # booked with their tokens, though the client did not get them whole
    interrupted: int = 0  # recovered as rows with unknown usage
    refused: int = 0  # attempts that never reached the model and have no row

    @property
    def equal(self) -> bool:
        """Whether the books are right."""
        return not (self.lost or self.duplicated or self.unexpected or self.wrong or self.repeated)

    def to_json(self) -> dict[str, object]:
        """Counts, and examples of what is wrong."""
        found: dict[str, object] = {"equal": self.equal}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            found[name] = len(value) if isinstance(value, list) else value
            if isinstance(value, list) and value:
                found[f"{name}_examples"] = value[:SHOWN]
        return found


def read_attempts(log: Path) -> list[AttemptLine]:
    """What the replay's client saw."""
    decode = msgspec.json.Decoder(AttemptLine).decode
    with log.open("rb") as lines:
        return [decode(line) for line in lines]


def read_received(log: Path) -> Counter[str]:
    """The calls that the emulator saw whole, and how often."""
    with log.open() as lines:
        return Counter(line.split()[1] for line in lines if line.startswith("received "))


def compare(attempts: Iterable[AttemptLine], received: Counter[str], rows: Iterable[BookedCall]) -> Differences:
    """Join all three by call id (which the books keep as trace id)."""
    sent = {attempt.call_id: attempt for attempt in attempts}
    booked: dict[str, list[BookedCall]] = defaultdict(list)
    for row in rows:
        booked[row.trace_id].append(row)
    found = Differences(attempts=len(sent), received=len(received), rows=sum(map(len, booked.values())))
    found.lost = sorted(received.keys() - booked.keys())
    found.repeated = sorted(call_id for call_id, times in received.items() if times > 1)
    found.unexpected = sorted(booked.keys() - sent.keys())
    found.duplicated = sorted(call_id for call_id, copies in booked.items() if len(copies) > 1)
    for call_id, attempt in sent.items():
        _compare_call(attempt, booked.get(call_id, [])[:1], found)
    return found


def _compare_call(attempt: AttemptLine, rows: list[BookedCall], found: Differences) -> None:
    finished = attempt.ended == Ending.COMPLETED
    found.completed += finished
    if not rows:
        found.refused += not finished
        if finished:
            found.wrong.append(f"{attempt.call_id}: finished but has no row")
        return
    row = rows[0]
    told = (attempt.input_tokens, attempt.output_tokens)
    # No output is told by some dialects and left out by others; no input is always unknown.
    exact = (row.input_tokens, row.output_tokens or 0) == told
    booked = f"{row.outcome} with {row.input_tokens}/{row.output_tokens} tokens, the model told {told[0]}/{told[1]}"
    if row.team != (attempt.team or None):
        found.wrong.append(f"{attempt.call_id}: booked for {row.team!r}, sent by {attempt.team!r}")
    elif row.outcome == "completed" and not exact:
        found.wrong.append(f"{attempt.call_id}: {booked}")
    elif finished and row.outcome != "completed":
        found.wrong.append(f"{attempt.call_id}: finished, but {booked}")
    found.recovered += not finished
    found.undelivered += row.outcome == "completed" and not finished
    found.interrupted += row.outcome == "interrupted"


def sums_by_team(attempts: Iterable[AttemptLine], rows: Iterable[BookedCall]) -> dict[str, tuple[int, int, int]]:
    """(calls, input tokens, output tokens) booked for the attempts that the client finished, by team."""
    finished = {attempt.call_id for attempt in attempts if attempt.ended == Ending.COMPLETED}
    calls: Counter[str] = Counter()
    read: Counter[str] = Counter()
    written: Counter[str] = Counter()
    for row in rows:
        if row.trace_id in finished:
            team = row.team or ""
            calls[team] += 1
            read[team] += row.input_tokens or 0
            written[team] += row.output_tokens or 0
    return {team: (calls[team], read[team], written[team]) for team in sorted(calls)}
