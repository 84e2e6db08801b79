"""Exact money: `Decimal` in, `Decimal` out, one rounding, and one way to split.

No float ever touches money. Prices carry 12 decimals, costs 18; a statement is rounded once by `round_lines`,
and everything that is divided is divided by `apportion`. A result that would need more
digits than we keep raises `decimal.Inexact` instead of being rounded on the quiet.
"""

from collections.abc import Iterable, Mapping
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from fractions import Fraction
from typing import Any, Protocol, TypeVar

PRICE_SCALE = 12
COST_SCALE = 18
_COST_UNIT = Decimal(1).scaleb(-COST_SCALE)
MINUTE_MS, HOUR_MS = 60_000, 3_600_000  # what is sold by time is metered in milliseconds
# 38 digits is what NUMERIC(38, 18) and Polars' Decimal hold; the product of a 20-digit quantity and a
# 12-decimal price is exact inside 60, so nothing is lost before the one rounding.
EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
ROUNDING = Context(prec=60, rounding=ROUND_HALF_UP, traps=[InvalidOperation, DivisionByZero, Overflow])

# ISO 4217 currencies whose minor unit is not two digits.
MINOR_DIGITS = dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX"), 0)
MINOR_DIGITS |= dict.fromkeys(("UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0)
MINOR_DIGITS |= dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3)
MINOR_DIGITS |= dict.fromkeys(("CLF", "UYW"), 4)


class Ordered(Protocol):
    """A key whose order breaks ties."""

    def __lt__(self, other: Any, /) -> bool:
        """Whether it comes first."""


Key = TypeVar("Key", bound=Ordered)


def minor_digits(currency: str) -> int:
    """Decimals of the currency's smallest unit (ISO 4217)."""
    return MINOR_DIGITS.get(currency, 2)


def round_total(amount: Decimal, currency: str) -> Decimal:
    """Round a total to the currency's smallest unit, halves away from zero."""
    return amount.quantize(_minor_unit(currency), context=ROUNDING)


def round_lines(amounts: Mapping[Key, Decimal], currency: str, total: Decimal | None = None) -> dict[Key, Decimal]:
    """Round the lines of one statement so that they add up to its rounded total, or to a `total` near it.

    The total does not depend on how the statement is cut into lines: by team or by model, it is `round_total`
    of the exact sum. Each line is within one smallest unit of its exact amount: all are rounded down, and the
    units missing from the total go to those that lost most; ties go to the smaller key. A `total` less than one unit
    from the exact sum keeps that promise, and an amount that needs no rounding is never changed.
    """
    unit = _minor_unit(currency)
    lines = {key: amount.quantize(unit, ROUND_FLOOR, ROUNDING) for key, amount in amounts.items()}
    whole = round_total(add(amounts.values()), currency) if total is None else total
    missing = EXACT.subtract(whole, add(lines.values()))
    by_loss = sorted(lines, key=lambda key: (EXACT.subtract(lines[key], amounts[key]), key))
    for key in by_loss[: int(EXACT.divide(missing, unit))]:
        lines[key] = EXACT.add(lines[key], unit)
    return lines


def _minor_unit(currency: str) -> Decimal:
    return Decimal(1).scaleb(-minor_digits(currency))


def round_price(amount: Decimal) -> Decimal:
    """A published price to the 12 decimals we keep. Some lists passed through a float: 0.18000000000000002."""
    return amount.quantize(Decimal(1).scaleb(-PRICE_SCALE), context=ROUNDING)


def round_share(part: int, whole: int) -> Decimal | None:
    """`part / whole` to four decimals, for showing only; `None` if there is no whole."""
    if not whole:
        return None
    return ROUNDING.divide(Decimal(part), Decimal(whole)).quantize(Decimal("0.0001"), context=ROUNDING)


def cost(quantity: int, unit_price: Decimal, unit_quantity: int) -> Decimal:
    """What `quantity` costs at `unit_price` per `unit_quantity`, exact to 18 decimals.

    Unit quantities are powers of ten, so the division only moves the point; or an hour or a minute in milliseconds,
    where a third of a cent may come out: that is rounded to 18 decimals.
    """
    if type(quantity) is not int or quantity < 0:
        raise ValueError(f"a quantity is a non-negative int, not {quantity!r}")
    whole = EXACT.multiply(Decimal(quantity), unit_price)
    if unit_quantity in (HOUR_MS, MINUTE_MS):
        return plain(ROUNDING.divide(whole, Decimal(unit_quantity)).quantize(_COST_UNIT, context=ROUNDING))
    return EXACT.divide(whole, Decimal(unit_quantity))


def add(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum. Python's own `sum` would round at 28 digits, which a large ledger reaches."""
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def to_text(amount: Decimal) -> str:
    """`amount` for JSON, CSV and digests: plain digits, never an exponent, no trailing zeros past the point.

    >>> to_text(Decimal("2.500000")), to_text(Decimal("1E+3"))
    ('2.5', '1000')
    """
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def plain(amount: Decimal) -> Decimal:
    """The same amount without trailing zeros, so that equal amounts are written, and digested, alike."""
    return Decimal(to_text(amount))


def apportion(total: Decimal, weights: Mapping[Key, int | Decimal | Fraction], scale: int) -> dict[Key, Decimal]:
    """Split `total` by `weights` into parts of `scale` decimals that add up to it exactly.

    Largest remainder; ties go to the smaller key, so the result does not depend on order. All-zero weights
    split evenly. `ValueError` for no weights, a negative weight, or a total finer than `scale`.
    """
    if not weights or any(weight < 0 for weight in weights.values()):
        raise ValueError("apportion needs at least one weight and no negative one")
    units = Fraction(total) * 10**scale
    if units.denominator != 1:
        raise ValueError(f"{total} is finer than {scale} decimals")
    keys = sorted(weights)
    shares = [Fraction(weights[key]) for key in keys]
    if not sum(shares):
        shares = [Fraction(1)] * len(keys)
    sign, whole, weight_sum = (-1 if units < 0 else 1), abs(int(units)), sum(shares)
    exact = [whole * share / weight_sum for share in shares]
    parts = [int(part) for part in exact]
    by_remainder = sorted(range(len(keys)), key=lambda i: (parts[i] - exact[i], keys[i]))
    for i in by_remainder[: whole - sum(parts)]:
        parts[i] += 1
    return {key: Decimal(sign * part).scaleb(-scale, EXACT) for key, part in zip(keys, parts, strict=True)}
