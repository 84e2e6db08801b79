"""The algebra of money, for any amounts."""

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from metering.core.money import add, apportion, cost, minor_digits, round_lines, round_total, to_text

AMOUNTS = st.decimals(-(10**12), 10**12, places=6)
WEIGHTS = st.dictionaries(
    st.text(min_size=1, max_size=3), st.integers(0, 10**9) | st.fractions(0, 100), min_size=1, max_size=8
)
PRICES = st.decimals(0, 10**6, places=12)
UNITS = st.sampled_from([1, 1_000, 1_000_000])


@given(AMOUNTS, WEIGHTS)
def test_parts_add_up_to_the_whole(total: Decimal, weights: dict[str, int | Fraction]) -> None:
    parts = apportion(total, weights, 6)
    assert add(parts.values()) == total
    assert parts.keys() == weights.keys()


@given(AMOUNTS, WEIGHTS, st.randoms(use_true_random=False))
def test_the_order_of_weights_does_not_matter(
    total: Decimal, weights: dict[str, int | Fraction], random: object
) -> None:
    keys = list(weights)
    random.shuffle(keys)  # type: ignore[attr-defined]
    assert apportion(total, {key: weights[key] for key in keys}, 6) == apportion(total, weights, 6)


@given(AMOUNTS, WEIGHTS)
def test_each_part_is_within_one_unit_of_its_exact_share(total: Decimal, weights: dict[str, int | Fraction]) -> None:
    whole = sum(map(Fraction, weights.values()))
    for key, part in apportion(total, weights, 6).items():
        share = Fraction(weights[key]) / whole if whole else Fraction(1, len(weights))
        assert abs(Fraction(part) - Fraction(total) * share) < Fraction(1, 10**6)


@given(AMOUNTS, WEIGHTS)
def test_a_larger_weight_never_gets_less(total: Decimal, weights: dict[str, int | Fraction]) -> None:
    parts = apportion(abs(total), weights, 6)
    ordered = sorted(weights, key=lambda key: (Fraction(weights[key]), parts[key]))
    assert all(parts[one] <= parts[next_] for one, next_ in pairwise(ordered))


@given(AMOUNTS, WEIGHTS)
def test_a_credit_is_split_like_the_charge_it_undoes(total: Decimal, weights: dict[str, int | Fraction]) -> None:
    charge, credit = apportion(total, weights, 6), apportion(-total, weights, 6)
    assert {key: -part for key, part in credit.items()} == charge


@given(st.integers(0, 10**18), PRICES, UNITS)
def test_a_cost_is_the_exact_fraction(quantity: int, price: Decimal, unit: int) -> None:
    assert Fraction(cost(quantity, price, unit)) == Fraction(price) * quantity / unit


@given(st.lists(st.integers(0, 10**15), max_size=6), PRICES, UNITS)
def test_costs_of_parts_add_up_to_the_cost_of_the_whole(quantities: list[int], price: Decimal, unit: int) -> None:
    assert add(cost(quantity, price, unit) for quantity in quantities) == cost(sum(quantities), price, unit)


@given(AMOUNTS, st.sampled_from(["USD", "JPY", "KWD"]))
def test_rounding_moves_by_half_a_coin_at_most_and_only_once(amount: Decimal, currency: str) -> None:
    rounded = round_total(amount, currency)
    coin = Decimal(1).scaleb(rounded.as_tuple().exponent)  # type: ignore[arg-type]
    assert abs(rounded - amount) <= coin / 2
    assert round_total(rounded, currency) == rounded
    assert round_total(-amount, currency) == -rounded


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12))
def test_written_amounts_read_back(amount: Decimal) -> None:
    text = to_text(amount)
    assert Decimal(text) == amount
    assert "E" not in text


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=4), AMOUNTS, max_size=12),
    st.sampled_from(["USD", "JPY", "KWD"]),
)
def test_rounded_lines_add_up_to_the_rounded_total(amounts: dict[str, Decimal], currency: str) -> None:
    lines = round_lines(amounts, currency)
    unit = Decimal(1).scaleb(-minor_digits(currency))
    assert add(lines.values()) == round_total(add(amounts.values()), currency)
    assert lines.keys() == amounts.keys()
    assert all(abs(lines[key] - amounts[key]) < unit for key in amounts)
    assert all(lines[key] == lines[key].quantize(unit) for key in lines)
    assert round_lines(dict(reversed(amounts.items())), currency) == lines
