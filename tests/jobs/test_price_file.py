"""The operator's file: what it may say, and one sentence for everything else."""

from datetime import UTC, datetime, time
from decimal import Decimal
from pathlib import Path

import pytest

from metering.core.model_match import Match
from metering.core.prices import PriceBook, PriceKey
from metering.core.sku_price import Layer, PriceKind
from metering.core.usage import Meter
from metering.errors import InputError
from metering.jobs.price_file import read_price_file

ROW = '[[price]]\nprovider = "openai"\nmodel = "gpt-4o"\nmeter = "input"\nprice = "2.50"\n'


def write(tmp_path: Path, text: str, name: str = "own.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_toml_file_is_read_exactly(tmp_path: Path) -> None:
    text = f"""
name = "acme contract"
zone = "Europe/Zurich"
{ROW}
effective_from = 2026-10-01
effective_to = 2026-12-31T12:15:00
[[price]]
provider = "ollama"
model_starts_with = "smollm2"
meter = "request"
per = "1K"
price = 3
currency = "CHF"
kind = "list"
service_tier = "Batch"
region = "eu"
context_over_tokens = 200_000
daily_from = 22:30:00
daily_to = "06:00"
source = "rack 7"
"""
    read = read_price_file(write(tmp_path, text))
    assert (read.source_name, read.layer, len(read.source_version)) == ("acme contract", Layer.OWN, 12)
    first, second = read.prices
    assert (first.unit_price, first.unit_quantity, first.kind, first.currency) == (
        Decimal("2.50"),
        1_000_000,
        PriceKind.CONTRACTED,
        "USD",
    )
    assert first.effective_from == datetime(2026, 9, 30, 22, tzinfo=UTC)
    assert first.effective_to == datetime(2026, 12, 31, 11, 15, tzinfo=UTC)
    assert (second.match, second.meter, second.unit_quantity) == (Match(starts_with="smollm2"), Meter.REQUEST, 1_000)
    assert (second.service_tier, second.region, second.context_over_tokens) == ("batch", "eu", 200_000)
    assert (second.daily_from, second.daily_to) == (time(22, 30), time(6))
    assert second.source == "own.toml [[price]] 2, rack 7"


def test_a_csv_says_the_same(tmp_path: Path) -> None:
    text = (
        "provider,model,meter,per,price,effective_from,daily_from,daily_to,model_match\n"
        "openai,gpt-4o,input,1M,2.50,2026-10-01,,,\n"
        'openai,,output,,10,2026-10-01T00:00:00Z,01:00,02:00,"{""or"": [{""equals"": ""a""}, {""contains"": ""b""}]}"\n'
    )
    read = read_price_file(write(tmp_path, "\ufeff" + text, "own.csv"))
    toml = read_price_file(write(tmp_path, ROW + "effective_from = 2026-10-01\n"))
    assert read.prices[0].price_id == toml.prices[0].price_id
    assert read.prices[1].match == Match(any_of=(Match(equals="a"), Match(contains="b")))
    assert read.prices[1].source == "own.csv row 3"


@pytest.mark.parametrize(
    ("meter", "per", "unit_quantity", "pricing_unit"),
    [
        ("audio_input_ms", 'per = "hour"', 3_600_000, "1 Hour"),
        ("audio_output_ms", 'per = "Minute"', 60_000, "1 Minute"),
        ("compute_ms", 'per = "second"', 1_000, "1 Second"),
        ("character", "", 1_000_000, "1000000 Characters"),
        ("cache_read_input", "", 1_000_000, "1000000 Tokens"),
        ("image", "per = 1", 1, "1 Image"),
        ("page", 'per = "1k"', 1_000, "1000 Pages"),
        ("web_search", 'per = "1K"', 1_000, "1000 Web Searches"),
    ],
)
def test_what_is_not_a_token_is_sold_in_units_of_its_own(
    tmp_path: Path, meter: str, per: str, unit_quantity: int, pricing_unit: str
) -> None:
    text = ROW.replace('"input"', f'"{meter}"') + f'{per}\nvariant = "1024x1024 hd"'
    (price,) = read_price_file(write(tmp_path, text)).prices
    assert (price.unit_quantity, price.pricing_unit, price.variant) == (unit_quantity, pricing_unit, "1024x1024 hd")


def test_exact_names_come_before_patterns_and_patterns_in_file_order(tmp_path: Path) -> None:
    rows = [("model_contains", "4o", "1"), ("model_starts_with", "gpt", "2"), ("model", "gpt-4o", "3")]
    text = "".join(f'[[price]]\nprovider="p"\n{k}="{v}"\nmeter="input"\nprice="{amount}"\n' for k, v, amount in rows)
    book = PriceBook(read_price_file(write(tmp_path, text)).prices)
    names, now = ("gpt-4o", "gpt-4o-x", "gpt-5"), datetime.now(UTC)
    resolved = [book.resolve(PriceKey("p", name), Meter.INPUT, now).price for name in names]
    assert [str(price and price.unit_price) for price in resolved] == ["3", "1", "2"]


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("", "holds no price"),
        ("price = 1", "table of its own"),
        ("prices = []", "unknown key 'prices'"),
        ("zone = 'Mars'\n" + ROW, "IANA time zone"),
        ("name = 'genai-prices'\n" + ROW, "like the list prices it would replace"),
        ("[[price]\n", "is not TOML"),
        (ROW + 'colour = "red"', "unknown column 'colour'"),
        (ROW.replace('"2.50"', "2.5"), 'write it in quotes, price = "2.5"'),
        (ROW.replace('"2.50"', '"2,50"'), "is not a price"),
        (ROW.replace('"2.50"', '"1e-3"'), "is not a price"),
        (ROW.replace('"2.50"', "true"), "is not a price"),
        (ROW.replace('"2.50"', "nan"), "in quotes"),
        (ROW.replace("input", "inputs"), r"unknown meter 'inputs': known are input, cache_read_input"),
        (ROW.replace('meter = "input"\n', ""), "meter is missing"),
        (ROW.replace('model = "gpt-4o"\n', ""), "name the model once"),
        (ROW + 'model_contains = "x"', "name the model once"),
        (ROW.replace('model = "gpt-4o"', 'model_regex = "("'), "not a regular expression"),
        (ROW.replace('model = "gpt-4o"', 'model_match = { is = "x" }'), "model_match can't be read"),
        (ROW.replace('model = "gpt-4o"', "model = 4"), "must be a text"),
        (ROW + 'per = "million"', "per 'million' must be one of"),
        (ROW + 'per = "hour"', "per 'hour' must be one of 1, 1K, 1M for input"),
        (ROW.replace('"input"', '"image"'), "per is missing: it must be one of 1, 1K, 1M for image"),
        (ROW.replace('"input"', '"audio_input_ms"') + 'per = "1M"', "one of second, minute, hour for audio_input_ms"),
        (ROW.replace('"input"', '"unbilled_input"'), "does not bill"),
        (ROW + 'kind = "secret"', "must be list or contracted"),
        (ROW + 'currency = "$"', "ISO 4217"),
        (ROW + 'effective_from = "soon"', "is not a date"),
        (ROW + "effective_from = 2026-10-01T00:07:00Z", "quarter-hour"),
        ('zone = "Asia/Tokyo"\n' + ROW + "effective_from = 0001-01-01", "too far away"),
        (ROW + "effective_from = 2026-10-02\neffective_to = 2026-10-01", "before it begins"),
        (ROW + 'daily_from = "25:00"\ndaily_to = "01:00"', "not a time of day"),
        (ROW + "context_over_tokens = 100_000", "not one of 32000, 128000"),
        (ROW + 'context_over_tokens = "many"', "number of tokens"),
    ],
)
def test_an_unusable_file_is_refused_in_a_sentence(tmp_path: Path, text: str, refused: str) -> None:
    with pytest.raises(InputError, match=refused) as error:
        read_price_file(write(tmp_path, text))
    assert "own.toml" in str(error.value)
    assert "\n" not in str(error.value).split("TOML")[0]


@pytest.mark.parametrize(
    ("text", "refused"),
    [("provider,model\na\n", "as many cells"), ('a,b\n"x', "not a UTF-8 CSV"), ("provider\n", "holds no price")],
)
def test_a_broken_csv_is_refused_in_a_sentence(tmp_path: Path, text: str, refused: str) -> None:
    with pytest.raises(InputError, match=refused):
        read_price_file(write(tmp_path, text, "own.csv"))


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read: No such file"):
        read_price_file(tmp_path / "none.toml")
