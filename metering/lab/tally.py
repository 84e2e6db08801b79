"""What a replay sent and got, in whole numbers: the truth that the books are compared with."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from metering.lab.calls import Call


class Ending(StrEnum):
    """How an attempt ended, seen from the client."""

    COMPLETED = "completed"  # the answer came whole, status below 400
    FAILED = "failed"  # an error status, a broken answer, no connection, or no end in time
    ABORTED = "aborted"  # the client hung up on purpose


class Sums(msgspec.Struct):
    """Calls and tokens of a group; tokens are those of completed calls."""

    calls: int = 0  # completed
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    failed_calls: int = 0
    aborted_calls: int = 0

    def add(self, other: "Sums") -> None:
        """Add `other`, field by field."""
        for field in self.__struct_fields__:
            setattr(self, field, getattr(self, field) + getattr(other, field))


class Group(msgspec.Struct, frozen=True):
    """What calls are summed by."""

    team: str
    project: str
    dialect: str
    model: str


class Tally:
    """Sums by group; grows call by call."""

    def __init__(self) -> None:
        self.groups: dict[Group, Sums] = defaultdict(Sums)

    def count(self, call: Call, ending: Ending) -> None:
        """Count one ended call (with retries: its last attempt)."""
        sums = self.groups[Group(call.team, call.project, call.dialect, call.model)]
        if ending is Ending.COMPLETED:
            sums.calls += 1
            sums.input_tokens += call.input_tokens
            sums.output_tokens += call.output_tokens
            sums.cached_tokens += call.cached_tokens
        elif ending is Ending.FAILED:
            sums.failed_calls += 1
        else:
            sums.aborted_calls += 1

    def by(self, dimension: str) -> dict[str, Sums]:
        """Sums by `team`, `project`, `dialect` or `model`, sorted by name."""
        return add_up((getattr(group, dimension), sums) for group, sums in self.groups.items())

    def total(self) -> Sums:
        """Everything together."""
        return add_up(("", sums) for sums in self.groups.values()).get("", Sums())


def add_up(rows: Iterable[tuple[str, Sums]]) -> dict[str, Sums]:
    """Add the sums of the same name; sorted by name."""
    added: dict[str, Sums] = defaultdict(Sums)
    for name, sums in rows:
        added[name].add(sums)
    return dict(sorted(added.items()))


def expected(calls: Iterable[Call]) -> Tally:
    """The tally of a replay in which every call completes."""
    tally = Tally()
    for call in calls:
        tally.count(call, Ending.COMPLETED)
    return tally


def tokens_by(rows: Mapping[str, Sums]) -> dict[str, tuple[int, int, int]]:
    """(calls, input tokens, output tokens) by name, to be compared with the books."""
    return {name: (sums.calls, sums.input_tokens, sums.output_tokens) for name, sums in rows.items()}
