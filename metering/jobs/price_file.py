"""Read the operator's own prices: a TOML file of `[[price]]` tables or a CSV with the same columns: docs/prices.md."""

import csv
import hashlib
import io
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from metering.core.event import CONTEXT_LADDER_TOKENS
from metering.core.model_match import Match, compile_match, to_words
from metering.core.money import HOUR_MS, MINUTE_MS
from metering.core.prices import off_ladder
from metering.core.sku_price import Layer, PriceKind, SkuPrice, parse_amount
from metering.core.units import DURATIONS, default_unit_quantity
from metering.core.usage import Meter
from metering.errors import InputError
from metering.jobs.published_prices import SOURCE_NAME, PriceList

UNIT_QUANTITIES = {"1": 1, "1K": 1_000, "1M": 1_000_000}
LENGTHS_MS = {"second": 1_000, "minute": MINUTE_MS, "hour": HOUR_MS}
PATTERNS = ("starts_with", "ends_with", "contains", "regex")
MODEL_COLUMNS = ("model", *(f"model_{pattern}" for pattern in PATTERNS), "model_match")
COLUMNS = frozenset(
    {
        *MODEL_COLUMNS,
        *(
            "provider",
            "meter",
            "per",
            "price",
            "currency",
            "kind",
            "service_tier",
            "region",
            "variant",
            "context_over_tokens",
        ),
        *("daily_from", "daily_to", "effective_from", "effective_to", "source"),
    }
)
HEAD = frozenset({"name", "zone", "price"})


def read_price_file(path: Path) -> PriceList:
    """All rows of `path` (.toml or .csv). `InputError` naming file, row and what to do if any can't be used."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"price file {path} can't be read: {error.strerror}") from None
    head, rows = _read_csv(path, content) if path.suffix.lower() == ".csv" else _read_toml(path, content)
    zone = _zone(path, head.get("zone", "UTC"))
    clauses: dict[Match, int] = {}
    prices = [_price(row, where, zone, clauses) for where, row in rows]
    if not prices:
        raise InputError(f"price file {path} holds no price: write at least one [[price]]")
    source_name = str(head.get("name") or path.name)
    if source_name == SOURCE_NAME:
        raise InputError(
            f"price file {path} is called {SOURCE_NAME!r} like the list prices it would replace: rename it"
        )
    return PriceList(
        source_name=source_name,
        source_version=hashlib.sha256(content).hexdigest()[:12],
        layer=Layer.OWN,
        prices=prices,
    )


def _read_toml(path: Path, content: bytes) -> tuple[dict[str, Any], Iterator[tuple[str, dict[str, Any]]]]:
    try:
        document = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"price file {path} is not TOML: {error}") from None
    if unknown := sorted(document.keys() - HEAD):
        raise InputError(f"price file {path}: unknown key {unknown[0]!r}; known are name, zone and [[price]]")
    rows = document.get("price", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"price file {path}: write each price as a table of its own, [[price]]")
    return document, ((f"{path.name} [[price]] {number}", row) for number, row in enumerate(rows, 1))


def _read_csv(path: Path, content: bytes) -> tuple[dict[str, Any], Iterator[tuple[str, dict[str, Any]]]]:
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"price file {path} is not a UTF-8 CSV: {error}") from None
    if any(None in row or None in row.values() for row in rows):
        raise InputError(f"price file {path}: every row needs as many cells as the header")
    filled = ({name: cell.strip() for name, cell in row.items() if cell.strip()} for row in rows)
    return {}, ((f"{path.name} row {number}", row) for number, row in enumerate(filled, 2))


def _zone(path: Path, name: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, ValueError):
        raise InputError(f"price file {path}: zone {name!r} is not an IANA time zone such as Europe/Zurich") from None


def _price(row: Mapping[str, Any], where: str, zone: ZoneInfo, clauses: dict[Match, int]) -> SkuPrice:
    """One row; `clauses` numbers the model patterns in the order of the file (exact names come before them)."""
    if unknown := sorted(row.keys() - COLUMNS):
        raise InputError(f"{where}: unknown column {unknown[0]!r}; known are {', '.join(sorted(COLUMNS))}")
    if missing := [name for name in ("provider", "meter", "price") if name not in row]:
        raise InputError(f"{where}: {missing[0]} is missing")
    try:
        match = _match(row)
        compile_match(match)
        price = SkuPrice(
            provider_name=_text(row, "provider"),
            model=to_words(match),
            match=match,
            match_order=0 if match.equals else clauses.setdefault(match, len(clauses) + 1),
            meter=(meter := _meter(_text(row, "meter"))),
            unit_price=parse_amount(row["price"]),
            unit_quantity=_unit_quantity(meter, row.get("per")),
            currency=_text(row, "currency", "USD"),
            service_tier=_text(row, "service_tier", "").lower() or None,
            region=_text(row, "region", "") or None,
            variant=_text(row, "variant", "") or None,
            context_over_tokens=_tokens(row.get("context_over_tokens")),
            daily_from=_hour(row.get("daily_from")),
            daily_to=_hour(row.get("daily_to")),
            effective_from=_instant(row.get("effective_from"), zone),
            effective_to=_instant(row.get("effective_to"), zone),
            kind=_kind(_text(row, "kind", "contracted")),
            source=f"{where}, {row['source']}" if row.get("source") else where,
        )
    except InputError as error:
        raise error if str(error).startswith(where) else InputError(f"{where}: {error}") from None
    if off_ladder(price):
        rungs = ", ".join(str(rung) for rung in CONTEXT_LADDER_TOKENS)
        raise InputError(
            f"{where}: context_over_tokens {price.context_over_tokens} is not one of {rungs}, the only sizes that are "
            "kept apart when calls are counted: use one of them"
        )
    return price


def _text(row: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = row.get(name, default)
    if not isinstance(value, str):
        raise InputError(f"{name} must be a text, not {value!r}")
    return value


def _match(row: Mapping[str, Any]) -> Match:
    named = [name for name in MODEL_COLUMNS if name in row]
    if len(named) != 1:
        raise InputError(f"name the model once, as one of {', '.join(MODEL_COLUMNS)}")
    name, value = named[0], row[named[0]]
    if name == "model_match":
        try:
            return msgspec.json.decode(value, type=Match) if isinstance(value, str) else msgspec.convert(value, Match)
        except msgspec.DecodeError as error:
            like = '{"or": [{"equals": "a"}]}'
            raise InputError(f"model_match can't be read ({error}): write it like {like}") from None
    clause = {"equals" if name == "model" else name.removeprefix("model_"): _text(row, name)}
    return msgspec.convert(clause, Match)


def _meter(name: str) -> Meter:
    try:
        return Meter(name)
    except ValueError:
        raise InputError(f"unknown meter {name!r}: known are {', '.join(meter.value for meter in Meter)}") from None


def _kind(name: str) -> PriceKind:
    try:
        return PriceKind(name)
    except ValueError:
        raise InputError(f"kind {name!r} must be list or contracted") from None


def _unit_quantity(meter: Meter, value: object) -> int:
    """What the price is for. What is metered in milliseconds is sold by the second, minute or hour."""
    known = LENGTHS_MS if meter in DURATIONS else UNIT_QUANTITIES
    default = default_unit_quantity(meter)
    if value is None and default:
        return default
    named = {name.lower(): quantity for name, quantity in known.items()}
    if str(value).lower() not in named:
        said = "per is missing: it" if value is None else f"per {value!r}"
        raise InputError(f"{said} must be one of {', '.join(known)} for {meter}")
    return named[str(value).lower()]


def _tokens(value: object) -> int | None:
    if value is None:
        return None
    text = str(value).replace("_", "")
    if isinstance(value, bool) or not text.isascii() or not text.isdigit():
        raise InputError(f"context_over_tokens {value!r} must be a number of tokens")
    return int(text)


def _hour(value: object) -> time | None:
    if value is None or type(value) is time:
        return value
    try:
        return time.fromisoformat(str(value))
    except ValueError:
        raise InputError(f"{value!r} is not a time of day such as 16:30 (UTC)") from None


def _instant(value: object, zone: ZoneInfo) -> datetime | None:
    """A date is its midnight in `zone`; a time without an offset is in `zone`, too."""
    if value is None:
        return None
    try:
        at = value if isinstance(value, date) else datetime.fromisoformat(str(value))
    except ValueError:
        raise InputError(f"{value!r} is not a date such as 2026-10-01 or a time such as 2026-10-01T00:00:00Z") from None
    if not isinstance(at, datetime):
        at = datetime(at.year, at.month, at.day, tzinfo=zone)
    try:
        return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError:
        raise InputError(f"{value} is too far away for a date") from None
