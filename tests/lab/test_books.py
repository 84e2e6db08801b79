"""The set check finds every way in which the books could be wrong, and only those."""

from collections import Counter
from typing import Any

import pytest

from metering.lab.books import BookedCall, Differences, compare, sums_by_team
from metering.lab.replay import AttemptLine


def attempt(call_id: str, ended: str = "completed", **fields: Any) -> AttemptLine:
    usual = {"index": 0, "status": 200, "team": "a", "project": "p", "dialect": "openai.chat", "model": "m"}
    return AttemptLine(call_id=call_id, ended=ended, input_tokens=10, output_tokens=5, **{**usual, **fields})


def row(trace_id: str, outcome: str = "completed", **fields: Any) -> BookedCall:
    return BookedCall(
        **{"trace_id": trace_id, "team": "a", "outcome": outcome, "input_tokens": 10, "output_tokens": 5, **fields}
    )


def unknown(trace_id: str) -> BookedCall:
    return row(trace_id, "interrupted", input_tokens=None, output_tokens=None)


def test_books_that_are_right() -> None:
    attempts = [
        attempt("1"),
        attempt("2", "failed"),
        attempt("3", "failed"),
        attempt("4", "failed"),
        attempt("5", team=""),
    ]
    rows = [row("1"), unknown("2"), row("3"), row("5", team=None)]
    found = compare(attempts, Counter(["1", "2", "3", "5"]), rows)
    assert found.equal
    assert (found.completed, found.interrupted, found.undelivered, found.refused) == (2, 1, 1, 1)
    assert (found.recovered, found.received, found.rows) == (2, 4, 4)
    assert sums_by_team(attempts, rows) == {"": (1, 10, 5), "a": (1, 10, 5)}


def test_a_row_without_a_received_call_is_no_difference() -> None:
    """The open record comes first: a sidecar killed right after it leaves a row for a call that never went out."""
    assert compare([attempt("1", "failed")], Counter(), [unknown("1")]).equal


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("lost", []),
        ("duplicated", [row("1"), row("1")]),
        ("duplicated", [row("1"), unknown("1")]),
        ("unexpected", [row("1"), row("2")]),
        ("wrong", [row("1", output_tokens=6)]),
        ("wrong", [row("1", input_tokens=None)]),
        ("wrong", [row("1", team="b")]),
        ("wrong", [unknown("1")]),
    ],
)
def test_each_kind_of_difference_is_found(kind: str, rows: list[BookedCall]) -> None:
    found: Differences = compare([attempt("1")], Counter(["1"]), rows)
    assert not found.equal
    assert getattr(found, kind)
    assert found.to_json()[kind] == 1


def test_a_call_that_the_model_got_twice_is_found() -> None:
    assert compare([attempt("1")], Counter(["1", "1"]), [row("1")]).repeated == ["1"]
