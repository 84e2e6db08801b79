"""The published list, read into our rows, says what the list itself says."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from genai_prices import types
from genai_prices.data import providers

from metering.core.event import CONTEXT_LADDER_TOKENS
from metering.core.prices import PriceBook, PriceKey
from metering.core.usage import Meter
from metering.jobs.published_prices import UNITS, PriceList, read_published

CONTEXTS: tuple[tuple[str | None, dict[str, str]], ...] = (
    (None, {}),
    ("default", {"service_tier": "default"}),
    ("batch", {"processing": "batch"}),
    ("priority", {"service_tier": "priority"}),
    ("flex", {"service_tier": "flex"}),
)
INSTANTS = tuple(
    datetime(2026, month, day, hour, minute, tzinfo=UTC)
    for month, day, hour, minute in ((1, 1, 0, 0), (8, 17, 1, 0), (10, 13, 16, 15), (10, 14, 16, 30), (11, 22, 5, 45))
)


@pytest.fixture(scope="module")
def published() -> PriceList:
    return read_published()


@pytest.fixture(scope="module")
def book(published: PriceList) -> PriceBook:
    return PriceBook(published.prices, published.rules)


def listed(value: object, band: int) -> Decimal | None:
    """What the list's own value is for a call that is just over `band`."""
    if isinstance(value, types.TieredPrices):
        over = [tier.price for tier in value.tiers if band + 1 > tier.start]
        return over[-1] if over else value.base
    return value if isinstance(value, Decimal) else None


def names_of(clause: types.MatchLogic) -> str | None:
    """A name that the clause matches, if it tells one."""
    if isinstance(clause, types.ClauseEquals):
        return clause.equals
    if isinstance(clause, types.ClauseOr):
        return next((name for part in clause.or_ if (name := names_of(part))), None)
    return None


def test_every_price_of_the_list_is_found_again(book: PriceBook) -> None:
    """For every model that can be named exactly, each unit at many instants, tiers and sizes: the list's own price."""
    compared = 0
    for provider in providers:
        for model in provider.models:
            name = names_of(model.match)
            if name is None or provider.find_model(name) is not model:
                continue
            for number, at in enumerate(INSTANTS):
                tier, context = CONTEXTS[number]
                band = (0, *CONTEXT_LADDER_TOKENS)[compared % 8]
                prices = model.get_prices(at, context)
                key = PriceKey(provider.id, name, None, tier, band)
                for unit, (meter, unit_quantity) in UNITS.items():
                    expected = listed(getattr(prices, unit), band)
                    found = book.resolve(key, meter, at)
                    if expected is None or found.approximate:
                        continue
                    assert found.price is not None, (key, meter, at)
                    assert found.price.meter is meter
                    assert found.price.unit_quantity == unit_quantity
                    assert abs(found.price.unit_price - expected) < Decimal("1e-12"), (key, meter, at)
                    compared += 1
    assert compared > 5_000


def test_hours_of_the_day_are_the_lists(book: PriceBook) -> None:
    model = next(m for p in providers if p.id == "deepseek" for m in p.models if m.id == "deepseek-v4-flash")
    midnight = datetime(2026, 10, 20, tzinfo=UTC)
    for quarter in range(96):
        at = midnight + timedelta(minutes=15 * quarter)
        price = book.resolve(PriceKey("deepseek", "deepseek-v4-flash"), Meter.OUTPUT, at).price
        assert price is not None
        assert price.unit_price == getattr(model.get_prices(at), "output_mtok")  # noqa: B009 - names are made at run time


def test_the_list_is_one_book_that_says_what_it_leaves_out(published: PriceList, book: PriceBook) -> None:
    assert len(book.prices) == len({price.price_id for price in published.prices}) > 5_000
    assert {rule.provider_name for rule in published.rules} >= {"openai", "anthropic", "google", "aws", "azure"}
    assert published.left_out["cache_image_read_mtok"] > 0
    assert set(UNITS) & set(published.left_out) == set()
    assert read_published() == published


@pytest.mark.parametrize(
    ("key", "meter", "expected"),
    [
        (PriceKey("openai", "whisper-1"), Meter.AUDIO_INPUT_MS, "0.36 USD per 1 Hour"),
        (PriceKey("x-ai", "grok-voice-latest"), Meter.AUDIO_OUTPUT_MS, "4.8 USD per 1 Hour"),  # either way
        (PriceKey("openai", "tts-1-hd"), Meter.CHARACTER, "30 USD per 1000000 Characters"),
        (PriceKey("openai", "gpt-5"), Meter.FILE_SEARCH, "2.5 USD per 1000 File Searches"),
        (PriceKey("mistral", "mistral-ocr-2505"), Meter.PAGE, "1 USD per 1000 Pages"),
        (PriceKey("mistral", "mistral-ocr-2505", variant="annotated"), Meter.PAGE, "3 USD per 1000 Pages"),
    ],
)
def test_what_is_not_a_token_has_the_lists_price(book: PriceBook, key: PriceKey, meter: Meter, expected: str) -> None:
    price = book.resolve(key, meter, INSTANTS[-1]).price
    assert price is not None
    assert f"{price.unit_price:f} {price.currency} per {price.pricing_unit}" == expected


def test_azure_sells_the_makers_models_at_the_makers_price(book: PriceBook) -> None:
    at = INSTANTS[-1]
    price = book.resolve(PriceKey("azure", "gpt-4o-2024-08-06", service_tier="batch"), Meter.INPUT, at).price
    assert price is not None
    assert (price.provider_name, price.service_tier) == ("openai", None)
    assert book.resolve(PriceKey("ollama", "llama3"), Meter.INPUT, at).price is None


def test_other_names_of_a_provider_are_known(book: PriceBook) -> None:
    assert [book.provider(name) for name in ("vertex-ai", "AWS-Bedrock", "xai", "nobody")] == [
        "google",
        "aws",
        "x-ai",
        "nobody",
    ]
