"""Money is exact, rounded once, and split without a remainder."""

from decimal import Decimal, Inexact
from fractions import Fraction
from typing import Any

import pytest

from metering.core.money import (
    HOUR_MS,
    MINUTE_MS,
    add,
    apportion,
    cost,
    minor_digits,
    plain,
    round_price,
    round_share,
    round_total,
    to_text,
)


@pytest.mark.parametrize(
    ("quantity", "unit_price", "unit_quantity", "expected"),
    [
        (1, "2.50", 1_000_000, "0.0000025"),
        (0, "2.50", 1_000_000, "0"),
        (1, "0.000000000001", 1_000_000, "0.000000000000000001"),
        (10**18, "99999999.999999999999", 1_000_000, "99999999999999999999"),
        (3, "10", 1_000, "0.03"),
    ],
)
def test_a_cost_is_exact(quantity: int, unit_price: str, unit_quantity: int, expected: str) -> None:
    found = cost(quantity, Decimal(unit_price), unit_quantity)
    assert found == Fraction(unit_price) * quantity / unit_quantity
    assert to_text(found).startswith(expected)


@pytest.mark.parametrize("quantity", [-1, 1.0, True, "1", Decimal(1)])
def test_a_quantity_is_a_non_negative_int(quantity: Any) -> None:
    with pytest.raises(ValueError, match="non-negative int"):
        cost(quantity, Decimal(1), 1)


@pytest.mark.parametrize(
    ("quantity", "unit_price", "unit_quantity", "expected"),
    [
        (HOUR_MS, "4.8", HOUR_MS, "4.8"),
        (3_700, "0.36", HOUR_MS, "0.00037"),
        (1, "4.8", HOUR_MS, "0.000001333333333333"),
        (2, "1", HOUR_MS, "0.000000555555555556"),
        (90_000, "0.006", MINUTE_MS, "0.009"),
    ],
)
def test_what_is_sold_by_time_is_rounded_to_18_decimals(
    quantity: int, unit_price: str, unit_quantity: int, expected: str
) -> None:
    assert to_text(cost(quantity, Decimal(unit_price), unit_quantity)) == expected


def test_what_would_need_rounding_is_refused() -> None:
    with pytest.raises(Inexact):
        cost(1, Decimal(1), 3)


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        ("0.005", "USD", "0.01"),
        ("-0.005", "USD", "-0.01"),
        ("0.0049999", "USD", "0.00"),
        ("2.675", "EUR", "2.68"),
        ("1234.5", "JPY", "1235"),
        ("0.0005", "KWD", "0.001"),
        ("0.00005", "CLF", "0.0001"),
    ],
)
def test_a_line_is_rounded_to_the_smallest_coin(amount: str, currency: str, expected: str) -> None:
    assert str(round_total(Decimal(amount), currency)) == expected
    assert minor_digits("CHF") == 2


def test_a_sum_keeps_every_digit() -> None:
    large, small = Decimal(99999999999999999999), Decimal("0.000000000000000001")
    assert add([large, small, -large]) == small
    assert add([]) == 0


def test_shares_are_for_showing() -> None:
    assert str(round_share(1, 3)) == "0.3333"
    assert round_share(1, 0) is None


def test_amounts_are_written_plainly() -> None:
    assert [to_text(Decimal(text)) for text in ("1E+3", "0.50", "1E-12", "0E-18", "-2.0")] == [
        "1000",
        "0.5",
        "0.000000000001",
        "0",
        "-2",
    ]
    assert str(plain(Decimal("1.500"))) == "1.5"
    assert round_price(Decimal("0.18000000000000002")) == Decimal("0.18")


@pytest.mark.parametrize(
    ("total", "weights", "scale", "expected"),
    [
        ("0.01", {"a": 1, "b": 1}, 2, {"a": "0.01", "b": "0.00"}),
        ("100", {"a": 1, "b": 1, "c": 1}, 2, {"a": "33.34", "b": "33.33", "c": "33.33"}),
        ("10", {"a": 0, "b": 0}, 0, {"a": "5", "b": "5"}),
        ("10", {"a": 0, "b": Fraction(1, 3)}, 0, {"a": "0", "b": "10"}),
        ("-0.05", {"a": 3, "b": 1}, 2, {"a": "-0.04", "b": "-0.01"}),
        ("0", {"a": Decimal("1.5")}, 2, {"a": "0.00"}),
    ],
)
def test_parts_add_up(total: str, weights: dict[str, Any], scale: int, expected: dict[str, str]) -> None:
    parts = apportion(Decimal(total), weights, scale)
    assert parts == {key: Decimal(part) for key, part in expected.items()}
    assert sum(parts.values()) == Decimal(total)


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one weight"):
        apportion(Decimal(1), {}, 2)
    with pytest.raises(ValueError, match="no negative"):
        apportion(Decimal(1), {"a": -1}, 2)
    with pytest.raises(ValueError, match="finer than 2"):
        apportion(Decimal("0.001"), {"a": 1}, 2)
