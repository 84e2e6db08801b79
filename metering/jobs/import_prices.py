"""Put a source's prices into the ledger as a new version, or see that it is there already."""

from datetime import datetime

import msgspec

from metering.core.prices import PriceBook, refuse_overlaps
from metering.core.sku_price import SkuPrice
from metering.jobs.published_prices import PriceList
from metering.ledger.engine import Connection, Engine, transaction
from metering.ledger.prices import PriceVersion, current_versions, insert_version, load_prices, lock_imports


class ImportResult(msgspec.Struct, frozen=True, kw_only=True):
    """`changed` is false if the version in force says exactly the same. `added` and `dropped` count rows against it."""

    version: PriceVersion
    changed: bool
    added: int
    dropped: int


def import_prices(engine: Engine, price_list: PriceList, now: datetime) -> ImportResult:
    """Make `price_list` the version in force of its source.

    `InputError` naming both rows if two of its rows overlap, or one with a row that another source has in force;
    nothing is written then.
    """
    book = PriceBook(price_list.prices, price_list.rules)
    with transaction(engine) as connection:
        lock_imports(connection)
        before = next((v for v in current_versions(connection) if v.source_name == price_list.source_name), None)
        if before and before.digest == book.digest:
            return ImportResult(version=before, changed=False, added=0, dropped=0)
        refuse_overlaps([*book.prices, *_other_prices(connection, price_list.source_name)])
        old_ids = {price.price_id for price in load_prices(connection, [before.version_id])} if before else set()
        new_ids = {price.price_id for price in book.prices}
        version = insert_version(
            connection,
            source_name=price_list.source_name,
            source_version=price_list.source_version,
            layer=price_list.layer,
            book=book,
            imported_at=now,
        )
    return ImportResult(version=version, changed=True, added=len(new_ids - old_ids), dropped=len(old_ids - new_ids))


def _other_prices(connection: Connection, source_name: str) -> list[SkuPrice]:
    others = [v.version_id for v in current_versions(connection) if v.source_name != source_name]
    return load_prices(connection, others)
