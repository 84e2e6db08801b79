from typing import Any

import pytest

from metering.core.dialects.counts import count, later_wins, usage_object, word


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (7, 7),
        (7.0, 7),
        (True, None),
        (-1, None),
        (7.5, None),
        ("7", None),
        (None, None),
        (2**53, None),
        ([], None),
    ],
)
def test_a_count_is_a_whole_number_not_negative(value: object, expected: int | None) -> None:
    assert count(value) == expected


def test_infinity_is_no_count() -> None:
    assert count(float("inf")) is None
    assert count(float("nan")) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("gpt-4o", "gpt-4o"),
        ("", None),
        (3, None),
        (None, None),
        ("a\nb\x00c", "abc"),
        ("x" * 999, "x" * 256),
        ("\n", None),
    ],
)
def test_a_word_is_one_short_line(value: object, expected: str | None) -> None:
    assert word(value) == expected


def test_a_usage_object_keeps_numbers_and_short_words() -> None:
    raw = {"a": 1, "b": 2.5, "c": None, "d": True, "e": "standard", "f": {"g": [1, {"h": 2}]}}
    assert usage_object(raw) == raw


def test_a_usage_object_holds_no_text() -> None:
    prompt = "please summarise this secret document " * 5
    raw = {"a": prompt, "b": [prompt, 1], "c": {"d": prompt, "e": "x\x00y"}, prompt: 1, "n": 2**70}
    assert usage_object(raw) == {"b": [1], "c": {}}


def test_a_usage_object_is_bounded() -> None:
    deep: dict[str, Any] = {"n": 1}
    for _ in range(50):
        deep = {"d": deep}
    kept = usage_object(deep | {"wide": list(range(10_000))})
    assert kept is not None
    assert str(kept).count("{") < 10
    assert len(kept["wide"]) < 300


@pytest.mark.parametrize("value", [None, {}, [], 7, "usage"])
def test_what_is_no_object_is_no_usage_object(value: object) -> None:
    assert usage_object(value) is None


def test_later_wins_where_it_says_something() -> None:
    earlier = {"input": 702, "tier": "standard", "split": {"5m": 1, "1h": 2}, "output": 1}
    later = {"input": 1591, "tier": None, "split": {"1h": 3}, "output": 90, "new": None}
    merged = {"input": 1591, "tier": "standard", "split": {"5m": 1, "1h": 3}, "output": 90, "new": None}
    assert later_wins(earlier, later) == merged
