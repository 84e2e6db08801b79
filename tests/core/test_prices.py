"""The price book: what is refused, and which of several prices is the one."""

from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from metering.core.model_match import Match, dashed_date, to_words
from metering.core.prices import PriceBook, PriceKey, ProviderRule, boundaries, off_ladder
from metering.core.sku_price import Layer, PriceKind, SkuPrice, overlap, parse_amount
from metering.core.usage import Meter
from metering.errors import InputError
from tests.worlds import OCTOBER, october, price

KEY = PriceKey("acme", "m")
CONTRACTED, PUBLISHED = PriceKind.CONTRACTED, Layer.PUBLISHED


def found(
    book: PriceBook, key: PriceKey = KEY, meter: Meter = Meter.INPUT, at: datetime = OCTOBER.start_at
) -> str | None:
    resolved = book.resolve(key, meter, at).price
    return str(resolved.unit_price) if resolved else None


@pytest.mark.parametrize(
    ("facts", "refused"),
    [
        ({"unit_quantity": 3}, "not a power of ten"),
        ({"unit_quantity": 0}, "not a power of ten"),
        ({"unit_quantity": 3_600_000}, "not a power of ten"),
        ({"meter": Meter.AUDIO_INPUT_MS, "unit_quantity": 7_200_000}, "not a power of ten"),
        ({"meter": Meter.UNBILLED_INPUT}, "does not bill"),
        ({"currency": "usd"}, "ISO 4217"),
        ({"context_over_tokens": 0}, "at least 1"),
        ({"effective_from": datetime(2026, 10, 1, 0, 1, tzinfo=UTC)}, "quarter-hour"),
        ({"effective_to": datetime(2026, 10, 1)}, "time zone"),  # noqa: DTZ001 - that is the mistake
        ({"effective_from": october(2), "effective_to": october(1)}, "before it begins"),
        ({"daily_from": time(1)}, "start and another end"),
        ({"daily_from": time(1), "daily_to": time(1)}, "start and another end"),
        ({"daily_from": time(1), "daily_to": time(2, 1)}, "quarter-hour"),
        ({"provider_name": ""}, "provider and a model"),
        ({"unit_price": Decimal("0.0000000000001")}, "at most 12 decimals"),
        ({"unit_price": Decimal(-1)}, "not a price"),
        ({"unit_price": 0.5}, "not a price"),
    ],
)
def test_an_unusable_row_is_refused_by_name(facts: dict[str, Any], refused: str) -> None:
    with pytest.raises(InputError, match=refused) as error:
        price("1", source="file row 3", **facts)
    assert "file row 3" in str(error.value)


@pytest.mark.parametrize(("written", "amount"), [("2.50", "2.5"), (3, "3"), ("0", "0"), ("0.000000000001", "1E-12")])
def test_amounts_are_read_exactly(written: object, amount: str) -> None:
    assert parse_amount(written) == Decimal(amount)


@pytest.mark.parametrize("written", [0.1, "1e3", "-1", "NaN", "", " 1", "1.0000000000001", True, None, "١"])
def test_what_is_not_an_amount_is_refused(written: object) -> None:
    with pytest.raises(InputError, match="price"):
        parse_amount(written)


def test_an_id_names_the_price_not_its_place() -> None:
    one = price("2.5", effective_from=october(1))
    assert one.price_id == price("2.50", effective_from=october(1), match_order=9, source="elsewhere").price_id
    assert one.price_id != price("2.51", effective_from=october(1)).price_id
    assert one.sku_id == "acme/m/input"
    full = price(
        "1", service_tier="batch", region="eu", context_over_tokens=200_000, daily_from=time(1), daily_to=time(2)
    )
    assert full.sku_id == "acme/m/input@batch@eu>200000@01:00-02:00Z"
    assert one.pricing_unit == "1000000 Tokens"
    assert price("1", region="eu", variant="1024x1024 hd").sku_id == "acme/m/input@eu@1024x1024 hd"


def test_a_price_keeps_the_id_it_had_before_there_were_variants() -> None:
    assert price("2.5").price_id == "4bc7f22167d85585a6d2"
    assert price("2.5", variant="hd").price_id != price("2.5").price_id


def test_a_price_that_names_the_variant_comes_first() -> None:
    of_images: dict[str, Any] = {"meter": Meter.IMAGE, "unit_quantity": 1}
    book = PriceBook(
        [
            price("0.04", **of_images),
            price("0.02", service_tier="batch", region="eu", **of_images),
            price("0.08", variant="1024x1024 HD", **of_images),
            price("0.06", variant="1024x1024 hd", service_tier="batch", **of_images),
        ]
    )
    variants = (None, "1024x1024 hd", "512x512", "")
    assert [found(book, KEY._replace(variant=each), Meter.IMAGE) for each in variants] == [
        "0.04",
        "0.08",
        "0.04",
        "0.04",
    ]
    in_batch = KEY._replace(service_tier="batch", region="eu")
    assert [found(book, in_batch._replace(variant=each), Meter.IMAGE) for each in variants[:2]] == ["0.02", "0.06"]
    # Nothing stands in for what is not a token.
    assert found(PriceBook([price("1"), price("1", Meter.OUTPUT)]), KEY, Meter.IMAGE) is None
    with pytest.raises(InputError, match="overlap"):
        PriceBook([price("1", variant="HD"), price("2", variant="hd")])


def test_overlapping_dates_are_refused_naming_both_rows() -> None:
    rows = [
        price("1", source="a.toml 1", effective_to=october(20)),
        price("2", source="b.toml 7", effective_from=october(19)),
    ]
    with pytest.raises(InputError, match=r"a.toml 1 .*b.toml 7 .*end one before the other begins"):
        PriceBook(rows)
    with pytest.raises(InputError, match="overlap"):
        PriceBook([price("1"), price("1", currency="EUR")])


def test_overlapping_hours_are_refused_and_touching_ones_are_not() -> None:
    night = price("1", daily_from=time(22), daily_to=time(2))
    with pytest.raises(InputError, match="overlap"):
        PriceBook([night, price("2", daily_from=time(1), daily_to=time(3))])
    assert PriceBook([night, price("2", daily_from=time(2), daily_to=time(22))]).digest


def test_a_later_price_supersedes_at_the_instant() -> None:
    early, late = price("2", effective_to=october(10)), price("3", effective_from=october(10))
    assert not overlap(early, late)
    assert not overlap(late, early)
    book = PriceBook([early, late])
    assert found(book, at=october(9, 23, 45)) == "2"
    assert found(book, at=october(10)) == "3"


def test_no_price_is_none_and_a_free_one_is_zero() -> None:
    book = PriceBook([price("0"), price("1", model="n", effective_from=october(5))])
    assert found(book) == "0"
    assert found(book, PriceKey("acme", "n")) is None
    assert found(book, PriceKey("acme", None)) is None
    assert found(book, PriceKey("other", "m")) is None


def test_contracted_beats_list_and_list_stays_beside() -> None:
    contract = price("2", kind=CONTRACTED, effective_from=october(5))
    book = PriceBook([price("2.5", layer=PUBLISHED), contract])
    assert found(book, at=october(4)) == "2.5"
    resolved = book.resolve(KEY, Meter.INPUT, october(5))
    assert (resolved.price, resolved.list_price and str(resolved.list_price.unit_price)) == (contract, "2.5")
    assert PriceBook([contract]).resolve(KEY, Meter.INPUT, october(6)).list_price is None


def test_the_operators_list_price_beats_the_published_one() -> None:
    assert found(PriceBook([price("1", layer=PUBLISHED), price("2")])) == "2"


def test_a_tier_named_beats_one_unnamed_even_under_contract() -> None:
    book = PriceBook(
        [
            price("2", kind=CONTRACTED),
            price("2.5", layer=PUBLISHED),
            price("1.25", service_tier="flex", layer=PUBLISHED),
        ]
    )
    assert found(book, KEY._replace(service_tier="flex")) == "1.25"
    assert found(book, KEY._replace(service_tier="default")) == "2"
    assert found(book, KEY._replace(service_tier="scale")) == "2"
    assert found(PriceBook([price("1", service_tier="flex")])) is None


def test_a_region_named_beats_one_unnamed() -> None:
    book = PriceBook([price("1"), price("2", region="eu-west-1")])
    assert found(book, KEY._replace(region="EU-West-1")) == "2"
    assert found(book, KEY._replace(region="us")) == "1"
    book = PriceBook([price("1", kind=CONTRACTED), price("2", region="eu")])
    assert found(book, KEY._replace(region="eu")) == "2"


@pytest.mark.parametrize(
    ("meter", "priced", "expected"),
    [
        (Meter.REASONING_OUTPUT, Meter.OUTPUT, "1"),
        (Meter.CACHE_WRITE_1H_INPUT, Meter.CACHE_WRITE_INPUT, "1"),
        (Meter.CACHE_WRITE_1H_INPUT, Meter.INPUT, "1"),
        (Meter.CACHE_READ_AUDIO_INPUT, Meter.AUDIO_INPUT, "1"),
        (Meter.IMAGE_INPUT, Meter.INPUT, "1"),
        (Meter.IMAGE_INPUT, Meter.OUTPUT, None),
        (Meter.WEB_SEARCH, Meter.INPUT, None),
        (Meter.INPUT, Meter.CACHE_READ_INPUT, None),
    ],
)
def test_meters_fall_back(meter: Meter, priced: Meter, expected: str | None) -> None:
    assert found(PriceBook([price("1", priced)]), meter=meter) == expected


def test_a_meters_own_list_price_beats_the_contract_of_what_it_falls_back_on() -> None:
    book = PriceBook([price("2", kind=CONTRACTED), price("0.25", Meter.CACHE_READ_INPUT, layer=PUBLISHED)])
    assert found(book, meter=Meter.CACHE_READ_INPUT) == "0.25"


def test_a_threshold_is_a_cliff_over_the_rung() -> None:
    book = PriceBook([price("1"), price("2", context_over_tokens=200_000), price("3", context_over_tokens=1_000_000)])
    assert [found(book, KEY._replace(context_band=band)) for band in (0, 128_000, 200_000, 512_000, 1_000_000)] == [
        *("1", "1", "2", "2", "3")
    ]
    assert not book.resolve(KEY, Meter.INPUT, october(1)).approximate


def test_a_threshold_off_the_ladder_is_marked_where_it_cannot_be_decided() -> None:
    row = price("2", context_over_tokens=100_000)
    book = PriceBook([price("1"), row])
    seen = {
        band: book.resolve(KEY._replace(context_band=band), Meter.INPUT, october(1)) for band in (0, 32_000, 128_000)
    }
    assert off_ladder(row)
    assert [(str(one.price and one.price.unit_price), one.approximate) for one in seen.values()] == [
        ("1", False),
        ("1", True),
        ("2", False),
    ]


def test_hours_of_the_day_stand_above_the_day() -> None:
    book = PriceBook([price("2"), price("1", daily_from=time(22, 30), daily_to=time(0, 15))])
    assert [found(book, at=october(3, *at)) for at in ((22, 15), (22, 30), (0, 0), (0, 15))] == ["2", "1", "1", "2"]


def test_models_match_as_the_list_says() -> None:
    rows = [
        price("1", match=Match(equals="GPT-4o"), match_order=0, layer=PUBLISHED),
        price(
            "2",
            match=Match(any_of=(Match(starts_with="gpt-4o"), Match(contains="four"))),
            match_order=1,
            layer=PUBLISHED,
        ),
        price(
            "3", match=Match(all_of=(Match(ends_with="-mini"), Match(regex="^o[0-9]"))), match_order=2, layer=PUBLISHED
        ),
        price("9", Meter.OUTPUT, match=Match(contains="o"), match_order=3, layer=PUBLISHED),
    ]
    book = PriceBook(rows)
    names = ("gpt-4o", "Gpt-4o-2024", "x-four", "o3-mini", "o3-mini-x")
    assert [found(book, PriceKey("acme", name)) for name in names] == ["1", "2", "2", "3", None]
    # Of the published ones only the first model that matches counts: the last one's output is not mixed in.
    assert found(book, PriceKey("acme", "gpt-4o"), Meter.OUTPUT) is None
    assert to_words(rows[1].match) == "gpt-4o… | …four…"
    assert to_words(rows[2].match) == "…-mini & /^o[0-9]/"


def test_own_rows_of_several_patterns_complete_each_other() -> None:
    book = PriceBook(
        [
            price("1"),
            price("2", match=Match(starts_with="m"), match_order=1),
            price("3", Meter.OUTPUT, match=Match(contains="m"), match_order=2),
        ]
    )
    assert (found(book), found(book, meter=Meter.OUTPUT)) == ("1", "3")


def test_a_compact_date_is_read_as_the_dashed_one() -> None:
    book = PriceBook([price("1", model="m-2025-12-11")])
    assert found(book, PriceKey("acme", "m-20251211")) == "1"
    assert dashed_date("m-20259911") == "m-20259911"


def test_other_names_and_resellers() -> None:
    rules = [
        ProviderRule(provider_name="acme", match=Match(contains="roadrunner")),
        ProviderRule(provider_name="shop", serves=("maker", "acme")),
    ]
    book = PriceBook([price("1", layer=PUBLISHED), price("0.5", service_tier="batch", layer=PUBLISHED)], rules)
    assert found(book, PriceKey("Roadrunner-Cloud", "m")) == "1"
    # The maker's special tiers are not the reseller's.
    assert found(book, PriceKey("shop", "m", service_tier="batch")) == "1"
    assert found(book, PriceKey("acme", "m", service_tier="batch")) == "0.5"


def test_an_own_row_under_a_providers_other_name_does_not_hide_the_list() -> None:
    rules = [ProviderRule(provider_name="acme", match=Match(contains="roadrunner"))]
    listed = [price("1", layer=PUBLISHED), price("2", Meter.OUTPUT, layer=PUBLISHED)]
    own = [price("0.9", provider_name="roadrunner"), price("0.8", kind=CONTRACTED)]
    key = PriceKey("roadrunner", "m")
    book = PriceBook([*listed, own[0]], rules)
    assert (found(book, key), found(book, key, Meter.OUTPUT)) == ("0.9", "2")
    # The row that names the provider as the call does comes first, whatever the rows' ids are.
    for amount in ("0.7", "0.6", "0.5", "0.4"):
        assert found(PriceBook([price("3"), price(amount, provider_name="roadrunner")], rules), key) == amount
    assert found(PriceBook([*listed, *own], rules), key) == "0.8"


def test_an_own_row_for_the_compact_date_does_not_hide_the_lists_dashed_one() -> None:
    meters = {"1": Meter.INPUT, "2": Meter.OUTPUT}
    listed = [price(amount, meter, model="m-2025-12-11", layer=PUBLISHED) for amount, meter in meters.items()]
    book = PriceBook([*listed, price("0.9", match=Match(starts_with="m-"))])
    key = PriceKey("acme", "m-20251211")
    assert (found(book, key), found(book, key, Meter.OUTPUT)) == ("0.9", "2")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"match": Match(equals="GPT")}, {"match": Match(equals="gpt")}),
        (
            {"match": Match(any_of=(Match(contains="A"), Match(ends_with="b")))},
            {"match": Match(any_of=(Match(contains="a"), Match(ends_with="B")))},
        ),
        ({"service_tier": "default"}, {}),
        ({"service_tier": "Flex"}, {"service_tier": "flex"}),
        ({"region": "EU"}, {"region": "eu"}),
    ],
)
def test_rows_that_differ_only_in_spelling_overlap(one: dict[str, Any], other: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="overlap"):
        PriceBook([price("1", **one), price("2", **other)])


def test_a_pattern_in_capitals_matches() -> None:
    assert found(PriceBook([price("1", match=Match(regex="^GPT-[0-9]"))]), PriceKey("acme", "gpt-5")) == "1"


@pytest.mark.parametrize("clause", [{}, {"equals": "a", "contains": "b"}, {"equals": ""}])
def test_a_match_is_one_clause(clause: dict[str, str]) -> None:
    with pytest.raises(InputError, match="exactly one"):
        Match(**clause)  # type: ignore[arg-type]


def test_a_broken_pattern_is_refused() -> None:
    with pytest.raises(InputError, match="not a regular expression"):
        PriceBook([price("1", match=Match(regex="("))])


def test_a_digest_names_the_content_whatever_its_order() -> None:
    rows = [price("1"), price("2", Meter.OUTPUT), price("3", model="n")]
    assert PriceBook(rows).digest == PriceBook(rows[::-1]).digest
    assert PriceBook(rows).digest != PriceBook(rows[:2]).digest
    assert PriceBook([]).digest != PriceBook([], [ProviderRule(provider_name="a", serves=("b",))]).digest


def test_boundaries_are_where_a_price_in_use_changes() -> None:
    rows: list[SkuPrice] = [
        price("1", effective_to=october(10)),
        price("2", effective_from=october(10)),
        price("9", model="unused", effective_to=october(12)),
        price(
            "5", Meter.OUTPUT, daily_from=time(23), daily_to=time(1), effective_from=datetime(2026, 9, 1, tzinfo=UTC)
        ),
    ]
    book = PriceBook(rows)
    assert boundaries(book, [KEY._replace(model="unused")], OCTOBER) == [october(12)]
    begins = PriceBook([price("1", effective_from=october(7)), price("9", effective_from=OCTOBER.end_at, model="m2")])
    assert boundaries(begins, [KEY, KEY._replace(model="m2")], OCTOBER) == [october(7)]
    cuts = boundaries(book, [KEY, KEY], OCTOBER)
    assert cuts[:3] == [october(1, 1), october(1, 23), october(2, 1)]
    assert october(10) in cuts
    assert len(cuts) == 2 * 31 + 1
