"""Price versions in the ledger: written once, read back as a `PriceBook`, never changed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, RowMapping, func, insert, select

from metering.core.model_match import Match
from metering.core.money import plain
from metering.core.prices import PriceBook, ProviderRule
from metering.core.sku_price import Layer, PriceKind, SkuPrice
from metering.core.usage import Meter
from metering.ledger.engine import Connection
from metering.ledger.schema.prices import price_book_version, sku_price

# One import at a time: two would each check for overlaps without seeing the other. ASCII "prices".
IMPORT_LOCK = 0x707269636573
_ROW_COLUMNS = tuple(column.name for column in sku_price.c if column.name not in ("version_id", "match"))


class PriceVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One import of one source. `digest`: SHA-256 (hex) of its rows and rules."""

    version_id: int
    source_name: str
    source_version: str
    layer: Layer
    digest: str
    row_count: int
    imported_at: datetime

    @property
    def label(self) -> str:
        """For provenance and people: `genai-prices 0.2.3 #4`."""
        return f"{self.source_name} {self.source_version} #{self.version_id}"


def lock_imports(connection: Connection) -> None:
    """Wait for any other import to end; held until the transaction ends."""
    connection.execute(select(func.pg_advisory_xact_lock(IMPORT_LOCK)))


def current_versions(connection: Connection) -> list[PriceVersion]:
    """The newest version of each source, by name: together they are the book in force."""
    newest = select(func.max(price_book_version.c.version_id)).group_by(price_book_version.c.source_name)
    rows = connection.execute(
        select(price_book_version)
        .where(price_book_version.c.version_id.in_(newest))
        .order_by(price_book_version.c.source_name)
    ).mappings()
    return [_version(row) for row in rows]


def load_book(connection: Connection, version_ids: Sequence[int] | None = None) -> PriceBook:
    """The book of these versions; without any named, the book in force."""
    if version_ids is None:
        version_ids = [version.version_id for version in current_versions(connection)]
    return PriceBook(load_prices(connection, version_ids), load_rules(connection, version_ids))


def load_prices(connection: Connection, version_ids: Sequence[int]) -> list[SkuPrice]:
    """All rows of these versions."""
    layers = {Layer.OWN.value: Layer.OWN, Layer.PUBLISHED.value: Layer.PUBLISHED}
    rows = connection.execute(
        select(sku_price, price_book_version.c.layer)
        .join(price_book_version, price_book_version.c.version_id == sku_price.c.version_id)
        .where(_among(version_ids))
    ).mappings()
    matches: dict[str, Match] = {}
    return [_price(row, layers[row["layer"]], matches) for row in rows]


def load_rules(connection: Connection, version_ids: Sequence[int]) -> list[ProviderRule]:
    """The provider names and resellers that these versions bring."""
    found = connection.execute(
        select(price_book_version.c.provider_rules).where(_among(version_ids)).order_by(price_book_version.c.version_id)
    ).scalars()
    return [rule for rules in found for rule in msgspec.convert(rules, list[ProviderRule])]


def insert_version(
    connection: Connection,
    *,
    source_name: str,
    source_version: str,
    layer: Layer,
    book: PriceBook,
    imported_at: datetime,
) -> PriceVersion:
    """Write `book` (this source's rows alone) as a new version of its source."""
    rules = [book.rules[name] for name in sorted(book.rules)]
    row = connection.execute(
        insert(price_book_version)
        .values(
            source_name=source_name,
            source_version=source_version,
            layer=layer.value,
            digest=book.digest,
            row_count=len(book.prices),
            provider_rules=msgspec.to_builtins(rules),
            imported_at=imported_at,
        )
        .returning(price_book_version)
    ).mappings()
    version = _version(row.one())
    if book.prices:
        connection.execute(insert(sku_price), [_row(price, version.version_id) for price in book.prices])
    return version


def version_of(connection: Connection, price_id: str, version_ids: Sequence[int]) -> PriceVersion | None:
    """Which of these versions brought `price_id`; `None` if none did."""
    row = connection.execute(
        select(price_book_version)
        .join(sku_price, sku_price.c.version_id == price_book_version.c.version_id)
        .where(_among(version_ids), sku_price.c.price_id == price_id)
        .order_by(price_book_version.c.version_id)
    ).mappings()
    found = row.first()
    return _version(found) if found else None


def _among(version_ids: Sequence[int]) -> ColumnElement[bool]:
    return price_book_version.c.version_id.in_(list(version_ids))


def _version(row: RowMapping) -> PriceVersion:
    return PriceVersion(
        **{name: row[name] for name in PriceVersion.__struct_fields__ if name != "layer"}, layer=Layer(row["layer"])
    )


def _row(price: SkuPrice, version_id: int) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(price, name) for name in _ROW_COLUMNS}
    row["kind"], row["meter"] = price.kind.value, price.meter.value
    return row | {"version_id": version_id, "match": msgspec.to_builtins(price.match)}


def _price(row: RowMapping, layer: Layer, matches: dict[str, Match]) -> SkuPrice:
    fields = {name: row[name] for name in _ROW_COLUMNS}
    fields["kind"], fields["meter"] = PriceKind(row["kind"]), Meter(row["meter"])
    # Postgres pads to 12 decimals; a price is shown as it was written.
    fields["unit_price"] = plain(row["unit_price"])
    # One object a model: rows that share it are then compared by identity, and a book of 15,000 rows stays small.
    key = str(row["match"])
    if key not in matches:
        matches[key] = msgspec.convert(row["match"], Match)
    return SkuPrice(**fields, layer=layer, match=matches[key])
